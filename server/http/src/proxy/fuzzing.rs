//! What must hold for any fields that a proxy is to pass on.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, MAX_FORWARDS},
};

use super::fields::{self, Asker, Telling};
use crate::proxied::forwarded::{address, elements_from_end, list_from_end};

/// Passes the fields on that `bytes` have, a line each, and tells who asks: the first line is the host, and a path.
///
/// # Panics
/// If a field of one hop goes on, another one does not or changes, or the next server reads anything else of the client than
/// was told.
pub fn passed_on(bytes: &[u8]) {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let host = lines
        .next()
        .and_then(|line| std::str::from_utf8(line).ok())
        .unwrap_or_default();
    let mut came = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let field = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = field {
            came.append(name, value);
        }
    }
    let mut passed = fields::end_to_end(&came);
    check(&came, &passed);
    assert_eq!(
        fields::end_to_end(&passed),
        passed,
        "nothing is left to take out"
    );
    let _ = fields::asked_upgrade(&came);
    let before = passed.get(MAX_FORWARDS).cloned();
    if fields::may_go_on(&http::Method::OPTIONS, &mut passed)
        && let Some(left) = passed.get(MAX_FORWARDS)
        && Some(left) != before.as_ref()
    {
        let number = |value: &HeaderValue| value.to_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(number(left) + 1, number(&before.unwrap()));
    }
    fields::append_via(&mut passed, "1.1", "gate");
    assert!(fields::has_passed(&passed, "gate"), "a loop is seen");
    tell(&came, host, passed);
    let is_of_dots = |segment: &str| {
        let plain: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
        plain == b"." || plain == b".."
    };
    assert_eq!(
        fields::has_dots(host),
        host.split('/').any(is_of_dots),
        "{host:?}"
    );
}

/// What goes on is what came, without what is for one hop.
fn check(came: &HeaderMap, passed: &HeaderMap) {
    let connection = came.get_all("connection").iter();
    let text =
        connection.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    let named: Vec<String> = text
        .flat_map(|value| {
            value
                .split(',')
                .map(|one| one.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    for name in came.keys() {
        let of_one_hop = [
            "connection",
            "keep-alive",
            "te",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
            "proxy-connection",
            "http2-settings",
        ];
        let is_of_one_hop =
            of_one_hop.contains(&name.as_str()) || named.iter().any(|one| one == name.as_str());
        let values =
            |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        match is_of_one_hop {
            true => assert!(!passed.contains_key(name), "{name} is for one hop"),
            false => assert_eq!(values(came), values(passed), "{name}"),
        }
    }
    assert!(passed.keys().all(|name| came.contains_key(name)));
}

/// The next server reads what it is told, whatever came.
fn tell(came: &HeaderMap, host: &str, mut passed: HeaderMap) {
    let hops: Vec<_> = came.get_all("x-forwarded-for").iter().collect();
    let hops = list_from_end(hops.iter().map(|value| value.as_bytes()));
    let mut hops: Vec<_> = hops.filter_map(address).collect();
    hops.reverse();
    let asker = Asker {
        hops: hops.clone(),
        scheme: "https",
        host: Some(host),
    };
    asker.tell(&mut passed, Telling::Forwarded);
    assert!(!passed.contains_key("x-forwarded-for"));
    let told: Vec<_> = passed.get_all(FORWARDED).iter().collect();
    assert!(told.len() <= 1);
    if let [told] = told[..] {
        let elements = elements_from_end([told.as_bytes()].into_iter());
        let read: Vec<_> = elements
            .iter()
            .filter_map(|element| element.client)
            .collect();
        let read: Vec<_> = read.into_iter().rev().filter_map(address).collect();
        assert_eq!(read, hops, "{told:?}");
    }
    asker.tell(&mut passed, Telling::XForwarded);
    assert!(!passed.contains_key(FORWARDED));
    let told = passed.get_all("x-forwarded-for").iter();
    let mut read: Vec<_> = list_from_end(told.map(HeaderValue::as_bytes))
        .filter_map(address)
        .collect();
    read.reverse();
    assert_eq!(read, hops);
}
