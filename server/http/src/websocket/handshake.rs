//! The opening handshake (RFC 6455, 4), for both ends: what a request must have, and what an answer says.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use sha1_smol::Sha1;

/// What a request to open a WebSocket says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// What the answer proves that the request was understood by; `None` where there was no key.
    pub(super) accept: Option<String>,
    pub(super) protocol: Option<String>,
}

/// Why there is no WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

/// Which origins may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origins {
    /// The one that the request itself is to, by its `Host` field.
    Own,
    Any,
    /// These alone.
    These(Vec<String>),
}

impl Origins {
    /// Browsers send an origin; others, which send none, are not what it protects from.
    fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all("origin").iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        if origins.next().is_some() {
            return false;
        }
        match self {
            Origins::Any => true,
            Origins::These(allowed) => {
                let mut allowed = allowed.iter();
                allowed.any(|allowed| origin.eq_ignore_ascii_case(allowed))
            }
            Origins::Own => {
                let host = headers.get("host").and_then(|host| host.to_str().ok());
                let (scheme, authority) = origin.split_once("://").unwrap_or_default();
                host.is_some_and(|host| !host.is_empty() && same_host(scheme, authority, host))
            }
        }
    }
}

/// Whether both are the same place: the port that goes without saying may be said.
fn same_host(scheme: &str, authority: &str, host: &str) -> bool {
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |place: &str| {
        let place = place.to_ascii_lowercase();
        place
            .strip_suffix(port)
            .map_or(place.clone(), str::to_owned)
    };
    bare(authority) == bare(host)
}

/// What is asked of a request.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    pub(super) protocols: &'a [String],
    pub(super) origins: &'a Origins,
    pub(super) needs_key: bool,
}

/// Whether a GET with these header fields may open a WebSocket. That it asks to switch to the protocol is seen to
/// elsewhere, as with any.
pub(super) fn judge(headers: &HeaderMap, terms: &Terms<'_>) -> Result<Offer, Refusal> {
    let bad = |reason| Refusal::new(StatusCode::BAD_REQUEST, reason);
    match one(headers, "sec-websocket-version") {
        Some("13") => {}
        Some(_) => {
            let status = StatusCode::UPGRADE_REQUIRED;
            return Err(Refusal::new(status, "only version 13 is spoken\n"));
        }
        None => return Err(bad("no Sec-WebSocket-Version, or several\n")),
    }
    let accept = match headers.contains_key("sec-websocket-key") {
        false if !terms.needs_key => None,
        _ => {
            let key = one(headers, "sec-websocket-key").filter(|key| is_key(key));
            let key = key.ok_or_else(|| bad("no good Sec-WebSocket-Key\n"))?;
            Some(accept_for(key))
        }
    };
    if !terms.origins.allow(headers) {
        let status = StatusCode::FORBIDDEN;
        return Err(Refusal::new(status, "not from this origin\n"));
    }
    let offered: Vec<&str> = headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut ours = terms.protocols.iter();
    let protocol = ours.find(|ours| offered.contains(&ours.as_str()));
    Ok(Offer {
        accept,
        protocol: protocol.cloned(),
    })
}

/// The value of a field that there is once.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

/// 16 bytes in base64.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && BASE64_STANDARD
            .decode(key)
            .is_ok_and(|bytes| bytes.len() == 16)
}

pub(super) fn key_of(random: [u8; 16]) -> String {
    BASE64_STANDARD.encode(random)
}

pub(super) fn accept_for(key: &str) -> String {
    let mut sha1 = Sha1::from(key);
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(sha1.digest().bytes())
}

/// What the answer says that came to a request with that key, which offered these protocols: the one chosen.
pub(super) fn confirm(
    headers: &HeaderMap,
    key: &str,
    offered: &[String],
) -> Result<Option<String>, &'static str> {
    let lists = |name: &str, wanted: &str| {
        let values = headers.get_all(name).iter();
        let mut items = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        items.any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    if !lists("upgrade", "websocket") || !lists("connection", "upgrade") {
        return Err("the answer does not switch to WebSocket");
    }
    if one(headers, "sec-websocket-accept") != Some(accept_for(key).as_str()) {
        return Err("the answer is not to this request: Sec-WebSocket-Accept is wrong");
    }
    if headers.contains_key("sec-websocket-extensions") {
        return Err("the answer has extensions that were not offered");
    }
    match headers.contains_key("sec-websocket-protocol") {
        false => Ok(None),
        true => match one(headers, "sec-websocket-protocol") {
            Some(chosen) if offered.iter().any(|offered| offered == chosen) => {
                Ok(Some(chosen.to_owned()))
            }
            _ => Err("the answer has a subprotocol that was not offered"),
        },
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn status(more: &[(&'static str, &'static str)], origins: &Origins) -> u16 {
        let mut all = vec![
            ("host", "example.com"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        all.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
        all.extend(more.iter().filter(|(_, value)| *value != "none"));
        let terms = Terms {
            protocols: &[],
            origins,
            needs_key: true,
        };
        match judge(&fields(&all), &terms) {
            Ok(_) => 101,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn the_sample_of_the_rfc_is_accepted_with_its_value() {
        assert_eq!(accept_for(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_wrong_with_a_request_has_a_status() {
        for (field, expected) in [
            (("sec-websocket-version", "13"), 101),
            (("sec-websocket-version", "8"), 426),
            (("sec-websocket-version", "none"), 400),
            (("sec-websocket-key", "none"), 400),
            (("sec-websocket-key", ""), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ!="), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSEh"), 400),
        ] {
            assert_eq!(status(&[field], &Origins::Own), expected, "{field:?}");
        }
        let twice = [("sec-websocket-key", KEY), ("sec-websocket-key", KEY)];
        assert_eq!(status(&twice, &Origins::Own), 400);
    }

    #[test]
    fn another_origin_than_the_own_is_forbidden_unless_it_is_named() {
        let these = Origins::These(vec!["https://app.example.org".to_owned()]);
        for (host, origin, own, named) in [
            ("example.com", "none", 101, 101),
            ("example.com", "https://example.com", 101, 403),
            ("example.com", "https://EXAMPLE.com:443", 101, 403),
            ("example.com:80", "http://example.com", 101, 403),
            ("example.com:8080", "http://example.com:8080", 101, 403),
            ("example.com:8080", "http://example.com", 403, 403),
            ("example.com", "https://example.com.evil.org", 403, 403),
            ("example.com", "https://app.example.org", 403, 101),
            ("example.com", "null", 403, 403),
            ("example.com", "example.com", 403, 403),
            ("", "https://", 403, 403),
        ] {
            let fields = [("host", host), ("origin", origin)];
            assert_eq!(status(&fields, &Origins::Own), own, "{fields:?}");
            assert_eq!(status(&fields, &these), named, "{fields:?}");
            assert_eq!(status(&fields, &Origins::Any), 101, "{fields:?}");
        }
    }

    #[test]
    fn the_servers_first_protocol_that_the_client_offers_is_chosen() {
        let protocols = ["v2".to_owned(), "v1".to_owned()];
        for (offers, chosen) in [
            (&["v1, v2"][..], Some("v2")),
            (&["v1", "v3 ,v2"], Some("v2")),
            (&["v1"], Some("v1")),
            (&["V2"], None),
            (&[], None),
        ] {
            let mut headers =
                fields(&[("sec-websocket-version", "13"), ("sec-websocket-key", KEY)]);
            for offer in offers {
                headers.append("sec-websocket-protocol", HeaderValue::from_static(offer));
            }
            let terms = Terms {
                protocols: &protocols,
                origins: &Origins::Own,
                needs_key: true,
            };
            let offer = judge(&headers, &terms).unwrap();
            assert_eq!(offer.protocol.as_deref(), chosen, "{offers:?}");
        }
    }

    #[test]
    fn a_key_is_done_without_only_if_that_is_allowed() {
        let headers = fields(&[("sec-websocket-version", "13")]);
        let terms = Terms {
            protocols: &[],
            origins: &Origins::Own,
            needs_key: false,
        };
        assert_eq!(judge(&headers, &terms).unwrap().accept, None);
        let headers = fields(&[("sec-websocket-version", "13"), ("sec-websocket-key", "x")]);
        assert!(judge(&headers, &terms).is_err());
    }

    #[test]
    fn an_answer_that_does_not_fit_the_request_is_refused() {
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "b"),
        ];
        let offered = ["a".to_owned(), "b".to_owned()];
        let confirmed = confirm(&fields(&good), KEY, &offered);
        assert_eq!(confirmed, Ok(Some("b".to_owned())));
        for (at, value) in [(0, "h2c"), (1, "close"), (2, "x"), (3, "c")] {
            let mut bad = good;
            bad[at].1 = value;
            assert!(confirm(&fields(&bad), KEY, &offered).is_err(), "{bad:?}");
        }
        let mut extended = good.to_vec();
        extended.push(("sec-websocket-extensions", "permessage-deflate"));
        assert!(confirm(&fields(&extended), KEY, &offered).is_err());
    }
}
