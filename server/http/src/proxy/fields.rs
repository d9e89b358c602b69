//! What of a message's header fields is passed on, and what a proxy adds: without I/O.

use std::{fmt::Write, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that are for the next recipient alone (RFC 9110, 7.6.1 and 11.7), or written anew with the framing.
fn is_of_one_hop(name: &HeaderName) -> bool {
    [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        TE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ]
    .contains(name)
        || [
            "keep-alive",
            "proxy-connection",
            "proxy-authentication-info",
            "http2-settings",
        ]
        .contains(&name.as_str())
}

/// The fields that go on: without those of one hop, and those that `Connection` names.
pub(super) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<&[u8]> = list(headers, &CONNECTION).collect();
    let is_named = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        named.iter().any(|option| option.eq_ignore_ascii_case(name))
    };
    let mut passed = HeaderMap::with_capacity(headers.len() + 5);
    for (name, value) in headers {
        if !is_of_one_hop(name) && !is_named(name) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// The elements of a field that is a list.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// For whom a request is passed on.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    /// From the client to who is connected, as far as they are known.
    pub(super) hops: Vec<IpAddr>,
    pub(super) scheme: &'static str,
    pub(super) host: Option<&'a str>,
}

/// In which fields the next server is told for whom it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    XForwarded,
    Forwarded,
}

impl Asker<'_> {
    /// Writes who asks, in place of whatever came.
    pub(super) fn tell(&self, headers: &mut HeaderMap, telling: Telling) {
        for name in [
            FORWARDED,
            X_FORWARDED_FOR,
            X_FORWARDED_PROTO,
            X_FORWARDED_HOST,
        ] {
            headers.remove(name);
        }
        let hops = self.hops.iter();
        match telling {
            Telling::XForwarded => {
                let hops: Vec<String> = hops.map(IpAddr::to_string).collect();
                if !hops.is_empty() {
                    set(headers, X_FORWARDED_FOR, &hops.join(", "));
                }
                set(headers, X_FORWARDED_PROTO, self.scheme);
                if let Some(host) = self.host {
                    set(headers, X_FORWARDED_HOST, host);
                }
            }
            Telling::Forwarded => {
                let mut elements: Vec<String> = hops.map(of_forwarded).collect();
                if elements.is_empty() {
                    elements.push("for=unknown".to_owned());
                }
                let mut text = elements.join(", ");
                let _ = write!(text, ";proto={}", self.scheme);
                if let Some(host) = self.host.filter(|host| !host.contains(['"', '\\'])) {
                    let _ = write!(text, ";host=\"{host}\"");
                }
                set(headers, FORWARDED, &text);
            }
        }
    }
}

/// An element of `Forwarded` (RFC 7239, 6).
fn of_forwarded(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether the message has gone through the proxy of that name before.
pub(super) fn has_passed(headers: &HeaderMap, name: &str) -> bool {
    list(headers, &VIA).any(|hop| {
        let mut parts = hop.split(u8::is_ascii_whitespace);
        parts.nth(1) == Some(name.as_bytes())
    })
}

/// Adds the proxy to those that the message went through (RFC 9110, 7.6.3).
pub(super) fn append_via(headers: &mut HeaderMap, version: &str, name: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("{version} {name}")) {
        headers.append(VIA, value);
    }
}

/// Counts down how often the request may still be passed on; false if it may not (RFC 9110, 7.6.2).
pub(super) fn may_go_on(method: &Method, headers: &mut HeaderMap) -> bool {
    if ![Method::OPTIONS, Method::TRACE].contains(method) {
        return true;
    }
    let said = headers
        .get(MAX_FORWARDS)
        .and_then(|value| value.to_str().ok());
    let Some(left) = said.and_then(|text| text.parse::<u64>().ok()) else {
        return true;
    };
    match left.checked_sub(1) {
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            true
        }
        None => false,
    }
}

/// The protocols that a request asks to switch to, if it does.
pub(super) fn asked_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    list(headers, &CONNECTION)
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        .then(|| headers.get(UPGRADE).cloned())
        .flatten()
}

/// Takes out what is written anew: the host, and what the next server is to expect.
pub(super) fn without_own(headers: &mut HeaderMap) {
    for name in [HOST, EXPECT, CONTENT_LENGTH] {
        headers.remove(name);
    }
}

/// Whether a path has `.` or `..` for a segment, which would lead out of where it is passed on to.
pub(super) fn has_dots(path: &str) -> bool {
    path.split('/').any(|segment| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_for_one_hop_goes_no_further() {
        let passed = end_to_end(&fields(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other ,"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("accept", "a"),
            ("accept", "b"),
            ("trailer", "x-sum"),
        ]));
        assert_eq!(
            passed,
            fields(&[("accept", "a"), ("accept", "b"), ("trailer", "x-sum")])
        );
    }

    #[test]
    fn who_asks_is_told_in_place_of_what_came() {
        let asker = Asker {
            hops: vec!["2001:db8::1".parse().unwrap(), "10.0.0.1".parse().unwrap()],
            scheme: "https",
            host: Some("example.com:8443"),
        };
        let came = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=2.2.2.2"),
        ];
        let mut headers = fields(&came);
        asker.tell(&mut headers, Telling::XForwarded);
        assert_eq!(
            headers,
            fields(&[
                ("x-forwarded-for", "2001:db8::1, 10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "example.com:8443"),
            ])
        );
        let mut headers = fields(&came);
        asker.tell(&mut headers, Telling::Forwarded);
        assert_eq!(
            headers,
            fields(&[(
                "forwarded",
                "for=\"[2001:db8::1]\", for=10.0.0.1;proto=https;host=\"example.com:8443\""
            )])
        );
    }

    #[test]
    fn max_forwards_is_counted_down_where_it_means_something() {
        let mut headers = fields(&[("max-forwards", "2")]);
        assert!(may_go_on(&Method::OPTIONS, &mut headers));
        assert_eq!(headers["max-forwards"], "1");
        assert!(may_go_on(&Method::GET, &mut headers));
        assert_eq!(headers["max-forwards"], "1");
        assert!(may_go_on(&Method::OPTIONS, &mut headers));
        assert!(!may_go_on(&Method::OPTIONS, &mut headers));
        for odd in ["-1", "x", ""] {
            assert!(may_go_on(
                &Method::OPTIONS,
                &mut fields(&[("max-forwards", odd)])
            ));
        }
    }

    #[test]
    fn a_loop_is_seen_by_the_name_in_via() {
        let headers = fields(&[
            ("via", "1.0 fred, 1.1 gate (maniple)"),
            ("via", "HTTP/2 last"),
        ]);
        assert!(has_passed(&headers, "gate") && has_passed(&headers, "last"));
        assert!(!has_passed(&headers, "gat") && !has_passed(&headers, "1.1"));
    }

    #[test]
    fn segments_of_dots_are_seen_in_any_writing() {
        for path in ["/..", "/a/../b", "/.", "/%2e%2E/x", "/.%2e", "/a/%2e"] {
            assert!(has_dots(path), "{path}");
        }
        for path in ["/", "/a..b", "/...", "/%2ea", "/a/.well-known"] {
            assert!(!has_dots(path), "{path}");
        }
    }
}
