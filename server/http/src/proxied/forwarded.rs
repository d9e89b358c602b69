//! What header fields say of the client: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239).
//!
//! Each proxy appends whom it was asked by. So the list is read from its end, past those who are trusted; whatever stands
//! before the first who is not may be that one's invention.

use std::net::{IpAddr, SocketAddr};

/// Who asked, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Address(IpAddr),
    /// A proxy that is trusted does not say.
    Unknown,
}

/// The client behind the peer at `nearest`, by what proxies have said of theirs, the last of them first.
pub(crate) fn client<'a>(
    nearest: Client,
    said: impl Iterator<Item = &'a [u8]>,
    trusts: impl Fn(IpAddr) -> bool,
) -> Client {
    let mut client = nearest;
    for node in said {
        // The nearest one was found to be trusted by the caller.
        client = match address(node) {
            Some(address) if trusts(address) => Client::Address(address),
            Some(address) => return Client::Address(address),
            None => return Client::Unknown,
        };
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
pub(crate) fn address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok().map(IpAddr::V6)
}

/// The parts of fields that are lists, from the last to the first; the fields as they came.
pub(crate) fn list_from_end<'a>(
    fields: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    let parts = fields
        .rev()
        .flat_map(|field| field.rsplit(|byte| *byte == b','));
    parts
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.is_empty())
}

/// An element of `Forwarded`: what one proxy has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) client: Option<&'a [u8]>,
    pub(crate) scheme: Option<&'a [u8]>,
    pub(crate) host: Option<&'a [u8]>,
}

/// The elements of the fields, from the last to the first. What breaks the rules ends the list: nothing before it can be
/// told apart.
pub(crate) fn elements_from_end<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Vec<Element<'a>> {
    let mut elements = Vec::new();
    for field in fields {
        match elements_of(field) {
            Some(more) => elements.extend(more),
            // Those in front of it are not to be found behind it.
            None => elements.clear(),
        }
    }
    elements.reverse();
    elements
}

/// From the first to the last; `None` if it breaks the rules.
fn elements_of(field: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    let mut rest = field.trim_ascii();
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'=' | b',' | b';'));
        let end = end.unwrap_or(rest.len());
        if let Some(b'=') = rest.get(end) {
            let name = &rest[..end];
            let (value, behind) = value(&rest[end + 1..])?;
            match name {
                name if name.eq_ignore_ascii_case(b"for") => element.client = Some(value),
                name if name.eq_ignore_ascii_case(b"proto") => element.scheme = Some(value),
                name if name.eq_ignore_ascii_case(b"host") => element.host = Some(value),
                _ => {}
            }
            rest = behind;
        } else {
            // An empty pair may stand between signs.
            if !rest[..end].trim_ascii().is_empty() {
                return None;
            }
            rest = &rest[end..];
        }
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            None => break,
            Some((b';', behind)) => rest = behind.trim_ascii_start(),
            Some((b',', behind)) => {
                elements.push(std::mem::take(&mut element));
                rest = behind.trim_ascii_start();
            }
            Some(_) => return None,
        }
    }
    elements.push(element);
    elements.retain(|element| *element != Element::default());
    Some(elements)
}

/// A token, or what stands in quotes, and what is behind it. Within quotes nothing that is looked for needs a backslash.
fn value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = bytes.strip_prefix(b"\"") {
        let end = quoted
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\'))?;
        return (quoted[end] == b'"').then(|| (&quoted[..end], &quoted[end + 1..]));
    }
    let is_end = |byte: &u8| matches!(byte, b';' | b',' | b' ' | b'\t' | b'"');
    let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
    Some(bytes.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAREST: Client = Client::Address(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)));

    /// Those in 10.0.0.0/8 are trusted.
    fn trusts(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    fn by_list(fields: &[&str]) -> Client {
        let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
        client(NEAREST, list_from_end(fields.iter().copied()), trusts)
    }

    fn address(text: &str) -> Client {
        Client::Address(text.parse().unwrap())
    }

    #[test]
    fn the_last_who_is_not_trusted_is_the_client() {
        assert_eq!(by_list(&["1.1.1.1, 2.2.2.2, 10.0.0.1"]), address("2.2.2.2"));
        assert_eq!(
            by_list(&["6.6.6.6", "2.2.2.2,10.0.0.1"]),
            address("2.2.2.2")
        );
        assert_eq!(by_list(&["10.0.0.2, 10.0.0.1"]), address("10.0.0.2"));
        assert_eq!(by_list(&[]), NEAREST);
        assert_eq!(by_list(&[", ,"]), NEAREST);
    }

    #[test]
    fn what_a_proxy_does_not_know_is_unknown_and_what_a_client_says_is_not_read() {
        assert_eq!(by_list(&["1.1.1.1, unknown"]), Client::Unknown);
        assert_eq!(by_list(&["nonsense, 2.2.2.2"]), address("2.2.2.2"));
    }

    #[test]
    fn addresses_come_with_ports_and_brackets() {
        for (node, expected) in [
            ("2.2.2.2:80", "2.2.2.2"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
        ] {
            assert_eq!(by_list(&[node]), address(expected), "{node}");
        }
        for node in ["2.2.2.2.2", "[2.2.2.2]", "a", "[::1", "_hidden"] {
            assert_eq!(by_list(&[node]), Client::Unknown, "{node}");
        }
    }

    fn elements(fields: &[&'static str]) -> Vec<Element<'static>> {
        elements_from_end(fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn elements_of_forwarded_are_read_from_the_end() {
        let fields = [
            "for=1.1.1.1;proto=http , For=\"[2001:db8::1]:4711\"",
            "for=2.2.2.2; PROTO=https;host=\"a.example:8080\";by=_x",
        ];
        let [last, middle, first] = elements(&fields)[..] else {
            panic!("{:?}", elements(&fields));
        };
        assert_eq!(first.client, Some(&b"1.1.1.1"[..]));
        assert_eq!(middle.client, Some(&b"[2001:db8::1]:4711"[..]));
        assert_eq!(last.scheme, Some(&b"https"[..]));
        assert_eq!(last.host, Some(&b"a.example:8080"[..]));
    }

    #[test]
    fn what_breaks_the_rules_hides_what_stands_before_it() {
        assert_eq!(elements(&["for=1.1.1.1, for=\"2.2.2.2"]), []);
        assert_eq!(elements(&["for=1.1.1.1", "junk"]), []);
        assert_eq!(elements(&["junk", "for=1.1.1.1"]).len(), 1);
        assert_eq!(elements(&["for=\"a\\\"b\""]), []);
        assert_eq!(elements(&["for=\"1.1.1.1\"x"]), []);
        assert_eq!(elements(&[";;,,"]), []);
        // A comma in quotes begins no element.
        assert_eq!(elements(&["for=\"a,for=10.0.0.1\""]).len(), 1);
    }
}
