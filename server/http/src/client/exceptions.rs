//! Which hosts are asked without a proxy: the list that `NO_PROXY` has.

use std::net::IpAddr;

/// Hosts that no proxy is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    of: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// A name and all below it, in lower case and without dots at its ends.
    Domain(String),
    Network(IpAddr, u8),
}

impl Exceptions {
    /// Reads names, addresses and networks with commas or blanks between; what is none of these stands for no host.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace());
        let rules = entries.filter_map(|entry| match entry {
            "" => None,
            "*" => Some(Rule {
                of: Hosts::All,
                port: None,
            }),
            entry => Rule::parse(entry),
        });
        Self {
            rules: rules.collect(),
        }
    }

    /// Whether that host and port are among them.
    pub(super) fn have(&self, name: &str, port: u16) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let address = name.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let is_of = |rule: &Rule| {
            rule.port.is_none_or(|only| only == port)
                && match &rule.of {
                    Hosts::All => true,
                    Hosts::Network(network, bits) => {
                        address.is_some_and(|ip| is_within(ip, *network, *bits))
                    }
                    // An address has no names below it.
                    Hosts::Domain(_) if address.is_some() => false,
                    Hosts::Domain(domain) => name
                        .strip_suffix(domain.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
                }
        };
        self.rules.iter().any(is_of)
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        if let Some(of) = network(entry) {
            return Some(Self { of, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let of = match network(host) {
            Some(network) => network,
            None => {
                let domain = host.trim_start_matches("*.").trim_matches('.');
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                if domain.is_empty() || !domain.bytes().all(is_name) {
                    return None;
                }
                Hosts::Domain(domain.to_ascii_lowercase())
            }
        };
        Some(Self { of, port })
    }
}

/// An address, or a network in CIDR notation.
fn network(text: &str) -> Option<Hosts> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let given: IpAddr = bare.unwrap_or(address).parse().ok()?;
    let most = if given.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    if bits > most {
        return None;
    }
    // Of an IPv4 address written as an IPv6 one, the first 96 bits are the prefix.
    let canonical = given.to_canonical();
    let bits = match (given, canonical) {
        (IpAddr::V6(_), IpAddr::V4(_)) => bits.checked_sub(96)?,
        _ => bits,
    };
    Some(Hosts::Network(canonical, bits))
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let differing = ip.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let differing = ip.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_themselves_and_what_is_below() {
        for (list, host, excepted) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com.", true),
            ("Example.com", "a.b.example.com", true),
            ("example.com", "badexample.com", false),
            ("example.com", "example.com.evil.test", false),
            (".example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("a.test, b.test\tc.test", "c.test", true),
            ("a.test,,b.test", "d.test", false),
            ("*", "anything.test", true),
            ("", "a.test", false),
            ("localhost", "localhost", true),
            ("localhost", "127.0.0.1", false),
        ] {
            assert_eq!(
                Exceptions::parse(list).have(host, 80),
                excepted,
                "{list:?} {host}"
            );
        }
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        for (list, host, excepted) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "110.0.0.1", false),
            ("0.0.1", "10.0.0.1", false),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/33", "10.0.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::1", "::1", true),
            ("[::1]", "::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("1", "::1", false),
        ] {
            assert_eq!(
                Exceptions::parse(list).have(host, 80),
                excepted,
                "{list:?} {host}"
            );
        }
    }

    #[test]
    fn a_port_narrows_an_entry() {
        let list = Exceptions::parse("a.test:8080,[::1]:443,10.0.0.1:80,b.test:x");
        assert!(list.have("a.test", 8080) && list.have("x.a.test", 8080));
        assert!(!list.have("a.test", 80));
        assert!(list.have("::1", 443) && !list.have("::1", 80));
        assert!(list.have("10.0.0.1", 80) && !list.have("10.0.0.1", 81));
        assert!(!list.have("b.test", 80));
    }
}
