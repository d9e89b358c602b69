//! The protocol of NATS, as far as publishing and subscribing take it, with an answer to each command (`verbose`).

use std::io::{self, BufRead};

use maniple_parts::engine::Login;
use serde::{Deserialize, Serialize};

use crate::wire::{Said, bytes, line, wrong};

/// What a server says of itself, as far as it matters.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    #[serde(default)]
    pub(crate) max_payload: Option<u64>,
    #[serde(default)]
    pub(crate) tls_required: bool,
    #[serde(default)]
    pub(crate) tls_available: bool,
}

#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    echo: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
}

/// The first thing that a server says.
pub(crate) fn info(input: &mut impl BufRead) -> io::Result<Info> {
    let line = line(input)?;
    let Some(json) = line.strip_prefix("INFO ") else {
        return Err(wrong("it is no server of NATS"));
    };
    Ok(serde_json::from_str(json)?)
}

pub(crate) fn connect(
    out: &mut Vec<u8>,
    is_secured: bool,
    login: Option<&Login>,
) -> io::Result<()> {
    let (user, pass, auth_token) = match login {
        Some(Login::User(name, password)) => (Some(&**name), Some(password.reveal()), None),
        Some(Login::Token(token)) => (None, None, Some(token.reveal())),
        _ => (None, None, None),
    };
    let connect = Connect {
        verbose: true,
        pedantic: false,
        tls_required: is_secured,
        lang: "rust-maniple",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        user,
        pass,
        auth_token,
    };
    out.extend_from_slice(b"CONNECT ");
    serde_json::to_writer(&mut *out, &connect)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

pub(crate) fn publish(out: &mut Vec<u8>, subject: &str, message: &[u8]) {
    out.extend_from_slice(format!("PUB {subject} {}\r\n", message.len()).as_bytes());
    out.extend_from_slice(message);
    out.extend_from_slice(b"\r\n");
}

/// Why a name cannot be a subject's.
pub(crate) fn fault(name: &str) -> Option<&'static str> {
    let is_plain = |part: &str| !part.is_empty() && part != "*" && part != ">";
    if !name.split('.').all(is_plain) {
        return Some("a name for NATS has parts between points, none of them empty, `*` or `>`");
    }
    let is_wrong = |c: char| c.is_whitespace() || c.is_control();
    name.contains(is_wrong)
        .then_some("a name for NATS has no spaces")
}

/// Reads the next thing that NATS says; a message may have so many bytes.
pub(crate) fn read(input: &mut impl BufRead, most: usize) -> io::Result<Said> {
    let line = line(input)?;
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((&line, ""));
    Ok(match word.to_ascii_uppercase().as_str() {
        "+OK" | "PONG" => Said::Done,
        "PING" => Said::Ping,
        "INFO" => Said::Nothing,
        "MSG" => {
            // The topic, the subscription, maybe whom to answer, and the length.
            let parts: Vec<&str> = rest.split_whitespace().collect();
            let (Some(subject), 3..=4) = (parts.first(), parts.len()) else {
                return Err(wrong(format!("\"{line}\" is no message")));
            };
            let count = parts.last().and_then(|count| count.parse().ok());
            let Some(count) = count else {
                return Err(wrong(format!("\"{line}\" has no length")));
            };
            let subject = (*subject).to_owned();
            match bytes(input, count, most)? {
                Some(payload) => Said::Message(subject, payload.into()),
                None => Said::TooLong(subject),
            }
        }
        "-ERR" => {
            let text = rest.trim_matches('\'');
            // These keep the connection, and stand in place of an answer; all others end it. One of a wrong subject to publish to
            // keeps it too, but stands beside an answer: ours are looked at before.
            let is_kept = ["permissions violation", "invalid subject"];
            let lower = text.to_ascii_lowercase();
            match is_kept.iter().any(|kept| lower.starts_with(kept)) {
                true => Said::Refused(text.to_owned()),
                false => return Err(io::Error::other(format!("it says: {text}"))),
            }
        }
        _ => return Err(wrong(format!("\"{line}\" is nothing of NATS"))),
    })
}

#[cfg(test)]
mod tests {
    use maniple_parts::engine::Secret;

    use super::*;

    #[test]
    fn what_a_server_says_is_read() {
        let mut text =
            b"+OK\r\nPING\r\nMSG a.b 1 2\r\nhi\r\nMSG a 2 _INBOX.x 0\r\n\r\nPONG\r\nINFO {}\r\n\
            -ERR 'Permissions Violation for Publish to \"x\"'\r\nmsg a 1 9\r\n123456789\r\n+OK\r\n"
                .as_slice();
        let message =
            |subject: &str, text: &str| Said::Message(subject.into(), text.as_bytes().into());
        let expected = [
            Said::Done,
            Said::Ping,
            message("a.b", "hi"),
            message("a", ""),
            Said::Done,
            Said::Nothing,
            Said::Refused("Permissions Violation for Publish to \"x\"".into()),
            Said::TooLong("a".into()),
            Said::Done,
        ];
        for said in expected {
            assert_eq!(read(&mut text, 8).unwrap(), said);
        }
        assert!(text.is_empty());
    }

    #[test]
    fn nonsense_is_an_error_and_so_is_what_ends_a_connection() {
        for mut text in [
            &b"-ERR 'Slow Consumer'\r\n"[..],
            b"MSG a 1\r\n",
            b"MSG a 1 x\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 2\r\nhixx",
            b"MSG a 1 18446744073709551615\r\nhi\r\n",
            b"HELLO\r\n",
            b"\r\n",
            b"PING",
        ] {
            assert!(read(&mut text, 8).is_err());
        }
    }

    #[test]
    fn names_that_are_patterns_or_break_a_line_are_refused() {
        for good in ["a", "a.b", "rooms.garden-1", "a*b", "\u{fc}"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "",
            "a b",
            "a..b",
            ".a",
            "a.",
            "*",
            "a.*",
            "a.>",
            "a\r\nPUB x 0",
            "a\t",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn what_a_server_is_like_is_read() {
        let mut text = b"INFO {\"max_payload\":10,\"tls_required\":true}\r\n".as_slice();
        assert!(info(&mut text).unwrap().tls_required);
        let mut text = b"INFO {\"max_payload\":10,\"new\":{\"x\":[1]}}\r\n".as_slice();
        let info = info(&mut text).unwrap();
        assert_eq!(info.max_payload, Some(10));
        assert!(!info.tls_required && !info.tls_available);
    }

    #[test]
    fn who_asks_is_told_by_name_and_password_or_by_a_token() {
        let said = |login: Option<&Login>| {
            let mut out = Vec::new();
            connect(&mut out, true, login).unwrap();
            String::from_utf8(out).unwrap()
        };
        let user = Login::User("u".into(), Secret::new("p\"\r\n"));
        let text = said(Some(&user));
        assert!(text.contains(r#""user":"u","pass":"p\"\r\n""#), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
        let text = said(Some(&Login::Token(Secret::new("t"))));
        assert!(text.contains(r#""auth_token":"t""#) && !text.contains("user"));
        assert!(!said(None).contains("auth_token"));
    }
}
