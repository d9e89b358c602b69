//! Which heads are taken and what they mean, and how the others are refused.

use http::Method;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const LIMITS: Limits = Limits {
    head_bytes: 4096,
    line_bytes: 1024,
    fields: 100,
    values: 1_000,
};

fn parsed(text: &str) -> Result<Option<Head>, Reject> {
    parsed_with(text, &mut Vec::new())
}

fn parsed_with(text: &str, fields: &mut Vec<Field>) -> Result<Option<Head>, Reject> {
    let mut head = Head::default();
    let complete = parse(text.as_bytes(), &LIMITS, fields, &mut head)?;
    Ok(complete.then_some(head))
}

fn status(text: &str) -> u16 {
    parsed(text).expect_err(text).status.as_u16()
}

#[test]
fn finds_the_parts() {
    let text = "POST /a/b?x=1 HTTP/1.1\r\nHost: h:80\r\nContent-Length: 5\r\n\r\nhello";
    let mut fields = Vec::new();
    let head = parsed_with(text, &mut fields).unwrap().unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(&text[head.path.clone()], "/a/b");
    assert_eq!(&text[head.query.clone().unwrap()], "x=1");
    assert_eq!(head.framing, Framing::Length(5));
    assert!(head.keep_alive && head.http_11);
    assert_eq!(&text[head.length..], "hello");
    assert_eq!(&text[fields[0].name.clone()], "Host");
    assert_eq!(&text[fields[0].value.clone()], "h:80");
}

#[test]
fn empty_values_are_values() {
    for field in ["A:", "A: ", "A:\t \t"] {
        let text = format!("\r\nGET / HTTP/1.1\r\n{field}\r\nHost: h\r\n\r\n");
        let mut fields = Vec::new();
        assert!(
            parsed_with(&text, &mut fields).unwrap().is_some(),
            "{field:?}"
        );
        assert_eq!(&text[fields[0].value.clone()], "");
        assert_eq!(&text[fields[1].value.clone()], "h");
        let bare = text.replacen(&format!("{field}\r\n"), &format!("{field}\n"), 1);
        assert_eq!(status(&bare), 400, "{bare:?}");
    }
    assert_eq!(status("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\nHost: h\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\n\n"), 400);
}

#[test]
fn any_prefix_is_incomplete() {
    for text in [
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
        "\r\n\r\nPOST /%41?a%=b HTTP/1.2\r\nHost: h\r\nA:\r\nB: \t x y \t\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\nHost: h\r\n\r\n",
        "BREW http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        for end in 0..text.len() {
            assert!(
                parsed(&text[..end]).unwrap().is_none(),
                "{:?}",
                &text[..end]
            );
        }
        assert!(parsed(text).unwrap().is_some());
    }
}

#[test]
fn a_target_that_is_too_long_is_that_however_much_has_come() {
    for length in [2_000, 5_000] {
        let target = "a".repeat(length);
        let fields = "A: b\r\n".repeat(200);
        for text in [
            format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n"),
            format!("GET /{target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"),
            format!("GET /{target} HTTP/3.0\r\n"),
            format!("GET /{target}"),
        ] {
            assert_eq!(status(&text), 414, "{length}");
        }
    }
}

#[test]
fn ambiguous_framing_is_rejected() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: ",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        assert_eq!(status(&text), 400, "{fields}");
    }
    let gzip = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_eq!(status(gzip), 501);
    assert_eq!(
        status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400
    );
}

#[test]
fn malformed_lines_are_rejected() {
    for text in [
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n folded: first\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(status(text), 400, "{text:?}");
    }
}

#[test]
fn host_must_be_one_and_valid() {
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a, b\r\n",
        "Host: user@a\r\n",
        "Host: a/b\r\n",
        "Host: a:b\r\n",
        "Host: [::1\r\n",
    ] {
        assert_eq!(
            status(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")),
            400,
            "{hosts:?}"
        );
    }
    for host in ["a", "a:80", "127.0.0.1:8080", "[::1]:80", "xn--a.example"] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(parsed(&text).unwrap().is_some(), "{host}");
    }
}

#[test]
fn an_absolute_target_names_the_host_that_the_host_field_names() {
    let status = |target: &str, host: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        parsed(&text).map_or_else(|reject| reject.status.as_u16(), |_| 200)
    };
    for (target, host) in [
        ("http://a/", "a"),
        ("http://a/", "A"),
        ("HTTP://A?x", "a"),
        ("http://a:80/", "a"),
        ("http://a/", "a:80"),
        ("http://a:/", "a:0080"),
        ("https://a:443/", "a"),
        ("https://a/", "a:443"),
        ("http://a:81/", "a:81"),
        ("http://[::1]:80/", "[::1]"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://a/", ""),
        ("http://a:81/", ""),
    ] {
        assert_eq!(status(target, host), 200, "{target} {host}");
    }
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a/", "a:443"),
        ("https://a/", "a:80"),
        ("http://a:81/", "a"),
        ("http://a/", "a:81"),
        ("http://a:0/", "a"),
        ("http://[::1]/", "[::2]"),
        ("http:///x", ""),
        ("http://:80/", ""),
        ("http://%61/", "a"),
        ("http://u@a/", "a"),
        ("http://a:b/", "a"),
        ("http://[::1:2:3:4:5:6:7:8:9]/", ""),
        ("http://[1.2]/", ""),
        ("ftp://a/", "a"),
        ("a:80", "a"),
    ] {
        assert_eq!(status(target, host), 400, "{target} {host}");
    }
}

#[test]
fn what_is_no_uri_is_rejected_and_what_browsers_send_is_not() {
    let status = |target: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        parsed(&text).map_or_else(|reject| reject.status.as_u16(), |_| 200)
    };
    for byte in (b'!'..=b'~').map(char::from) {
        let refused = matches!(
            byte,
            '"' | '#' | '<' | '>' | '\\' | '^' | '`' | '{' | '}' | '%'
        );
        let expected = if refused { 400 } else { 200 };
        assert_eq!(status(&format!("/a{byte}")), expected, "{byte} in a path");
        let refused = matches!(byte, '"' | '#' | '<' | '>');
        let expected = if refused { 400 } else { 200 };
        assert_eq!(status(&format!("/?a{byte}")), expected, "{byte} in a query");
    }
    for escaped in ["/%41", "/%c3%a4x", "/a%2Fb", "/?100%", "/?%zz"] {
        assert_eq!(status(escaped), 200, "{escaped}");
    }
    for broken in ["/%", "/%4", "/%4?", "/%zz", "/%4%41", "http://h/%g0"] {
        assert_eq!(status(broken), 400, "{broken}");
    }
}

#[test]
fn connect_names_a_host_and_a_port() {
    for target in ["a:443", "[::1]:443"] {
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = parsed(&text).unwrap().unwrap();
        assert_eq!(head.path_in(text.as_bytes()), target.as_bytes());
    }
    for target in [
        "a",
        "a:",
        ":443",
        "/",
        "*",
        "http://a:443/",
        "u@a:443",
        "a:99999",
        "a:8x",
        "a:443/x",
        "a:443?x",
    ] {
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&text), 400, "{target}");
    }
}

/// What targets are made of, and what they are not.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let parts = select(vec![
        "/", "?", "#", "*", "%", "%41", "%4", "http://", "https://", "HTTP://", "h", "h:80", ":",
        "@", "[", "]", "[::1]", "//", "..", "<", ">", "\"", "{", "}", "\\", "^", "`", "|", "'",
        ";", "=", "&", "+", "\u{e4}",
    ]);
    let any_part = prop_oneof![
        parts.prop_map(|part| part.as_bytes().to_vec()),
        vec(any::<u8>(), 1..3),
        vec(b'!'..=b'~', 1..4),
    ];
    (
        select(vec!["", "/", "http://h", "http://h/"]),
        vec(any_part, 0..8),
    )
        .prop_map(|(start, parts)| [start.as_bytes(), &parts.concat()].concat())
}

/// A head of few kinds, so that two of them often say the same of the message; whole or not, right or not.
fn request() -> impl Strategy<Value = String> {
    let line = select(vec![
        "GET / HTTP/1.1",
        "GET /a/b?c=d HTTP/1.1",
        "POST / HTTP/1.1",
        "\r\nHEAD /a HTTP/1.1",
        "GET / HTTP/1.0",
        "GET http://h/ HTTP/1.1",
        "GET http://i/ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT h:1 HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
    ]);
    let fields = select(vec![
        "Host: h\r\n",
        "Host: h\r\nA: b\r\n",
        "Accept: c\r\nhost: h\r\n",
        "A: b\r\n",
        "",
        "Host: h\r\nContent-Length: 3\r\n",
        "Host: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n",
        "Host: h\r\nTransfer-Encoding: chunked\r\n",
        "Host: h\r\nConnection: close\r\n",
        "Host: h\r\nConnection: keep-alive\r\n",
        "Host: h\r\nHost: h\r\n",
    ]);
    let end = select(vec![
        "\r\n",
        "\r\nGET / HTTP/1.1\r\n",
        "\r\nabc",
        "\r",
        "\n",
        "",
    ]);
    (line, fields, end).prop_map(|(line, fields, end)| format!("{line}\r\n{fields}{end}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_usual_host_line_is_read_as_any_other(
        host in prop_oneof![
            "[a-z0-9.%_-]{0,12}(:[0-9]{0,7})?[ \t]{0,2}",
            "[ -~\t]{0,12}",
            vec(any::<u8>(), 0..12).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ],
        end in select(vec!["\r\n", "\n", "\r", "", "\r\nHost: a\r\n", "\r\nhost: b\r\n\r\n"]),
    ) {
        let read = |name: &str| {
            let mut fields = Vec::new();
            let text = format!("GET / HTTP/1.1\r\n{name}{host}{end}\r\n");
            let head = parsed_with(&text, &mut fields);
            let value = |field: &Field| text[field.value.clone()].to_owned();
            head.map(|head| head.map(|head| (head.framing, fields.iter().map(value).collect::<Vec<_>>())))
        };
        prop_assert_eq!(read("Host: "), read("hOst: "));
    }

    #[test]
    fn a_head_behind_another_is_read_as_if_it_were_alone(one in request(), other in request()) {
        let (mut head, mut fields) = (Head::default(), Vec::new());
        if parse(one.as_bytes(), &LIMITS, &mut fields, &mut head) == Ok(true) {
            let former = &one.as_bytes()[head.field_lines()];
            let other = other.as_bytes();
            let behind = parse_behind(Some(former), other, &LIMITS, &mut fields, &mut head);
            let (mut alone, mut its_fields) = (Head::default(), Vec::new());
            prop_assert_eq!(&behind, &parse(other, &LIMITS, &mut its_fields, &mut alone));
            prop_assert_eq!(&fields, &its_fields);
            if behind == Ok(true) {
                prop_assert_eq!(format!("{head:?}"), format!("{alone:?}"));
            }
        }
    }

    #[test]
    fn a_target_means_the_same_to_all_who_look_at_it(
        target in target(),
        method in select(vec!["GET", "OPTIONS", "CONNECT"]),
        host in select(vec!["h", "h:80", ""]),
    ) {
        let mut bytes = format!("{method} ").into_bytes();
        bytes.extend(&target);
        bytes.extend(format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").bytes());
        let mut head = Head::default();
        if parse(&bytes, &LIMITS, &mut Vec::new(), &mut head) == Ok(true) {
            prop_assert_eq!(&bytes[head.target.clone()], &target);
            let uri = head.uri_in(&bytes);
            if method == "CONNECT" {
                let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
                prop_assert_eq!(authority, Some(head.path_in(&bytes)));
                return Ok(());
            }
            prop_assert_eq!(uri.path().as_bytes(), head.path_in(&bytes));
            let query = head.query.as_ref().map(|query| ascii(&bytes[query.clone()]));
            prop_assert_eq!(uri.query(), query);
            if let Some(authority) = uri.authority().filter(|_| !host.is_empty()) {
                prop_assert_eq!(authority.host(), "h");
                prop_assert!(matches!(authority.port_u16(), None | Some(80)));
            }
        }
    }
}

#[test]
fn absolute_form_names_the_path() {
    let text = "GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = parsed(text).unwrap().unwrap();
    assert_eq!(&text[head.path], "/x");
    assert_eq!(&text[head.query.unwrap()], "y");
}

#[test]
fn versions_are_told_apart_from_garbage() {
    assert_eq!(status("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
    assert_eq!(status("GET / HTTP/0.9\r\nHost: h\r\n\r\n"), 505);
    for other in ["HTTP/5.6", "HTTP/0.", "HTTP/2"] {
        assert_eq!(
            status(&format!("GET / {other}")),
            505,
            "whatever follows {other}"
        );
    }
    assert_eq!(status("GET / HTTQ/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_eq!(status("GET /\r\n\r\n"), 400);
    for no_target in ["GET  ", "GET  HTTP/1.1", "PUT \r", "Hnec  "] {
        assert_eq!(status(no_target), 400, "whatever follows {no_target:?}");
    }
    for (version, is_11) in [("1.0", false), ("1.1", true), ("1.2", true), ("1.9", true)] {
        let text = format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n");
        let head = parsed(&text).unwrap().unwrap();
        assert_eq!((head.http_11, head.keep_alive), (is_11, is_11), "{version}");
        assert_eq!(head.length, text.len());
    }
    for line in [
        "HTTP/1.10",
        "HTTP/1.",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.2 ",
        "HTTP/1.2\n",
        "HTTP/x.1",
    ] {
        assert_eq!(
            status(&format!("GET / {line}\r\nHost: h\r\n\r\n")),
            400,
            "{line}"
        );
    }
}

#[test]
fn limits_have_their_own_statuses() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(1100));
    assert_eq!(status(&long_target), 414);
    assert_eq!(status(&format!("GET /{}", "a".repeat(1200))), 414);
    let large = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(4100));
    assert_eq!(status(&large), 431);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "A: b\r\n".repeat(100)
    );
    assert_eq!(status(&many), 431);
    let fits = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(99));
    assert!(parsed(&fits).unwrap().is_some());
}

#[test]
fn connection_options_decide_persistence() {
    for (version, option, keeps) in [
        ("1.1", "X: y", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: foo, Close", false),
        ("1.0", "X: y", false),
        ("1.0", "Connection: keep-alive", true),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{option}\r\n\r\n");
        let head = parsed(&text).unwrap().unwrap();
        assert_eq!(head.keep_alive, keeps, "{version} {option}");
    }
}
