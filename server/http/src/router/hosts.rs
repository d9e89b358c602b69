//! Hosts that have routes of their own, and which of them a request has.

use std::{cmp::Ordering, net::Ipv6Addr, panic::Location};

/// What is for whom, and in which order it is looked for.
pub(super) struct Hosts<R> {
    /// By their names, in order.
    named: Vec<Host<R>>,
    addresses: Vec<(Ipv6Addr, Host<R>)>,
    /// All that end with it; the longest first.
    endings: Vec<Host<R>>,
}

/// The routes of a host, or of all whose names end alike.
pub(super) struct Host<R> {
    /// In lower case; of an ending with its first point.
    name: String,
    /// As it was written.
    pub(super) written: String,
    /// By which the one part before an ending is known; any number of parts may stand there if it is none.
    pub(super) parameter: Option<String>,
    pub(super) added: &'static Location<'static>,
    pub(super) routes: R,
}

/// What a host is asked for by.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Address(Ipv6Addr),
    Ending(String),
    /// Name of the parameter, and what follows.
    Part(String, String),
}

impl<R> Hosts<R> {
    /// Adds a host, or says why not.
    pub(super) fn add(
        &mut self,
        written: &str,
        routes: R,
        added: &'static Location<'static>,
    ) -> Result<(), String> {
        let pattern = Pattern::read(written)?;
        let twice = |other: &Host<R>| {
            let Host { written, added, .. } = other;
            Err(format!("it has routes already, as {written}, of {added}"))
        };
        let mut host = Host {
            name: String::new(),
            written: written.to_owned(),
            parameter: None,
            added,
            routes,
        };
        match pattern {
            Pattern::Name(name) => match self.place_of(&name) {
                Ok(at) => return twice(&self.named[at]),
                Err(at) => {
                    host.name = name;
                    self.named.insert(at, host);
                }
            },
            Pattern::Address(address) => {
                if let Some((_, other)) = self.addresses.iter().find(|of| of.0 == address) {
                    return twice(other);
                }
                self.addresses.push((address, host));
            }
            Pattern::Ending(_) | Pattern::Part(..) => {
                let (parameter, ending) = match pattern {
                    Pattern::Part(parameter, ending) => (Some(parameter), ending),
                    Pattern::Ending(ending) | Pattern::Name(ending) => (None, ending),
                    Pattern::Address(_) => return Ok(()),
                };
                if let Some(other) = self.endings.iter().find(|of| of.name == ending) {
                    return twice(other);
                }
                (host.name, host.parameter) = (ending, parameter);
                self.endings.push(host);
                self.endings
                    .sort_by_key(|of| std::cmp::Reverse(of.name.len()));
            }
        }
        Ok(())
    }

    /// The routes for a host, which may have a port; and the name of its parameter with its value.
    pub(super) fn find(&self, host: &str) -> Option<(&R, Option<(&str, String)>)> {
        let name = without_port(host);
        if let Some(address) = name.strip_prefix('[').and_then(|of| of.strip_suffix(']')) {
            let address: Ipv6Addr = address.parse().ok()?;
            let mut addresses = self.addresses.iter();
            let found = addresses.find(|of| of.0 == address);
            return found.map(|of| (&of.1.routes, None));
        }
        // A name from the root is the same name.
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Ok(at) = self.place_of(name) {
            return Some((&self.named[at].routes, None));
        }
        self.endings.iter().find_map(|of| {
            let part = before(name, &of.name)?;
            match &of.parameter {
                None => Some((&of.routes, None)),
                Some(_) if part.contains('.') => None,
                Some(parameter) => {
                    Some((&of.routes, Some((&**parameter, part.to_ascii_lowercase()))))
                }
            }
        })
    }

    fn place_of(&self, name: &str) -> Result<usize, usize> {
        self.named
            .binary_search_by(|of| in_any_case(of.name.as_bytes(), name.as_bytes()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Host<R>> {
        let addresses = self.addresses.iter().map(|(_, host)| host);
        self.named.iter().chain(addresses).chain(&self.endings)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Host<R>> {
        let addresses = self.addresses.iter_mut().map(|(_, host)| host);
        let named = self.named.iter_mut().chain(addresses);
        named.chain(&mut self.endings)
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Host<R>> {
        let addresses = self.addresses.into_iter().map(|(_, host)| host);
        let named = self.named.into_iter().chain(addresses);
        named.chain(self.endings)
    }
}

impl<R> Default for Hosts<R> {
    fn default() -> Self {
        Self {
            named: Vec::new(),
            addresses: Vec::new(),
            endings: Vec::new(),
        }
    }
}

impl Pattern {
    fn read(written: &str) -> Result<Self, String> {
        if let Some(address) = written.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|of| of.parse().ok());
            return match address {
                Some(address) => Ok(Pattern::Address(address)),
                None => Err("in brackets stands an address of IPv6, and nothing behind".to_owned()),
            };
        }
        let (parameter, name) = match written.strip_prefix('{').map(|of| of.split_once("}.")) {
            None => (None, written),
            Some(Some((name, rest))) if is_parameter(name) => (Some(name), rest),
            Some(_) => {
                return Err("a parameter is all that is in front: {name}.example.com".to_owned());
            }
        };
        let (is_ending, name) = match name.strip_prefix("*.") {
            Some(rest) if parameter.is_none() => (true, rest),
            _ => (false, name),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let wrong = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
        match name.bytes().find(wrong) {
            Some(b':') => return Err("write it without a port: any port is taken".to_owned()),
            Some(b'*') => return Err("a * stands for what is in front: *.example.com".to_owned()),
            Some(b'/') => return Err("write the host alone, without a scheme or path".to_owned()),
            Some(128..) => return Err("write it as it is sent: xn--…".to_owned()),
            Some(other) => {
                let other = other.escape_ascii();
                return Err(format!("a host has no {other}"));
            }
            None => {}
        }
        if name.split('.').any(str::is_empty) {
            return Err("a part of it is empty".to_owned());
        }
        let name = name.to_ascii_lowercase();
        Ok(match (parameter, is_ending) {
            (Some(parameter), _) => Pattern::Part(parameter.to_owned(), format!(".{name}")),
            (None, true) => Pattern::Ending(format!(".{name}")),
            (None, false) => Pattern::Name(name),
        })
    }
}

fn without_port(host: &str) -> &str {
    // Of an address of IPv6 the colons are in brackets.
    match host.rfind(':') {
        Some(at) if host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => &host[..at],
        _ => host,
    }
}

/// The parameter of a pattern that begins with one.
pub(super) fn parameter(written: &str) -> Option<&str> {
    let (name, _) = written.strip_prefix('{')?.split_once("}.")?;
    is_parameter(name).then_some(name)
}

fn is_parameter(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_part)
}

/// What is before the ending, if something is.
fn before<'n>(name: &'n str, ending: &str) -> Option<&'n str> {
    let at = name.len().checked_sub(ending.len())?;
    let (part, rest) = name.split_at_checked(at)?;
    (at > 0 && rest.eq_ignore_ascii_case(ending)).then_some(part)
}

fn in_any_case(one: &[u8], other: &[u8]) -> Ordering {
    let (one, other) = (one.iter(), other.iter());
    let lower = u8::to_ascii_lowercase;
    one.map(lower).cmp(other.map(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_addresses_and_endings() {
        let read = Pattern::read;
        assert_eq!(
            read("Example.COM."),
            Ok(Pattern::Name("example.com".into()))
        );
        assert_eq!(read("127.0.0.1"), Ok(Pattern::Name("127.0.0.1".into())));
        assert_eq!(read("*.a-b.c"), Ok(Pattern::Ending(".a-b.c".into())));
        assert_eq!(read("[0:0::1]"), Ok(Pattern::Address(Ipv6Addr::LOCALHOST)));
        let part = Pattern::Part("user_1".into(), ".a.b".into());
        assert_eq!(read("{user_1}.A.b."), Ok(part));
        for wrong in [
            "{a}",
            "{a}.",
            "{}.a",
            "{a",
            "{*a}.b",
            "{a-b}.c",
            "x{a}.b",
            "{a}x.b",
            "a.{b}.c",
            "{a}.*.b",
            "{a}.{b}.c",
            "",
            ".",
            "*",
            "*.",
            "a.*",
            "*a.b",
            "a*.b",
            "a:80",
            "[::1]:80",
            "[::1",
            "::1",
            "a..b",
            "a b",
            "http://a",
            "a/b",
            "müller.de",
            "user@a",
            "[127.0.0.1]",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?} {:?}", read(wrong));
        }
    }

    #[test]
    fn the_exact_host_goes_first_then_the_longest_ending() {
        let mut hosts = Hosts::default();
        for host in [
            "example.com",
            "*.example.com",
            "*.eu.example.com",
            "www.eu.example.com",
            "[::1]",
            "a",
        ] {
            hosts.add(host, host, Location::caller()).unwrap();
        }
        let found = |host: &str| hosts.find(host).map(|(routes, _)| *routes);
        for (host, expected) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:", "example.com"),
            ("www.example.com", "*.example.com"),
            ("a.b.Example.Com:1", "*.example.com"),
            ("eu.example.com", "*.example.com"),
            ("x.eu.example.com", "*.eu.example.com"),
            ("www.eu.example.com.", "www.eu.example.com"),
            ("[::1]", "[::1]"),
            ("[0:0:0::1]:443", "[::1]"),
            ("A", "a"),
        ] {
            assert_eq!(found(host), Some(expected), "{host}");
        }
        for host in [
            "",
            ".",
            ":80",
            ".example.com",
            "badexample.com",
            "example.org",
            "[::2]",
            "[::1",
            "example.com.evil",
            "b",
            "aa",
        ] {
            assert_eq!(found(host), None, "{host}");
        }
    }

    #[test]
    fn a_parameter_stands_for_one_part() {
        let mut hosts = Hosts::default();
        for host in ["*.b", "{of}.a.b", "www.a.b"] {
            hosts.add(host, host, Location::caller()).unwrap();
        }
        for (host, routes, value) in [
            ("X-1.a.B:80", "{of}.a.b", Some("x-1")),
            ("x.a.b.", "{of}.a.b", Some("x")),
            ("y.x.a.b", "*.b", None),
            ("a.b", "*.b", None),
            ("www.a.b", "www.a.b", None),
        ] {
            let value = value.map(|value| ("of", value.to_owned()));
            assert_eq!(hosts.find(host), Some((&routes, value)), "{host}");
        }
        assert_eq!(hosts.find(".a.b").map(|of| *of.0), Some("*.b"));
        assert_eq!(hosts.find("\u{e4}"), None);
    }

    #[test]
    fn a_host_that_is_there_already_is_named_with_its_place() {
        let mut hosts = Hosts::default();
        for (first, second) in [
            ("a.b", "A.B."),
            ("*.a.b", "*.A.b"),
            ("[::1]", "[0::1]"),
            ("{one}.b", "{other}.b"),
            ("*.c", "{one}.c"),
        ] {
            hosts.add(first, (), Location::caller()).unwrap();
            let twice = hosts.add(second, (), Location::caller());
            let twice = twice.unwrap_err();
            let begins =
                format!("it has routes already, as {first}, of server/http/src/router/hosts.rs:");
            assert!(twice.starts_with(&begins), "{twice}");
        }
    }
}
