//! Whose word is taken for who the client is.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Peers whose word is taken for who the client is, and in which header fields they give it.
///
/// Made from a list of networks and addresses, with blanks or commas between them; `unix` is for all that connect by a
/// Unix-domain socket, `memory` for those [in memory](crate::transport::memory).
///
/// A trusted proxy must set the fields or remove them, all of those that are read: what it lets through from a client is
/// the client's word.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, Server, transport::{Listener, Trust}};
/// # fn main() -> std::io::Result<()> {
/// let who = |request: &mut Request| match request.client_address() {
///     Some(address) => format!("{address} by {}", request.scheme()),
///     None => "somebody".to_owned(),
/// };
/// let bound = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let proxies: Trust = "127.0.0.0/8, ::1, 10.1.0.0/16".parse()?;
/// let listener = Listener::try_from(bound)?.trust(proxies);
/// let server = Server::builder(Router::new().get("/", who)).listener(listener)?;
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trust {
    networks: Vec<Network>,
    unix: bool,
    memory: bool,
    fields: Fields,
}

/// Where a proxy says for whom it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fields {
    #[default]
    XForwarded,
    Forwarded,
    None,
}

impl Trust {
    /// Nobody.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Reads `Forwarded` (RFC 7239). Default: `X-Forwarded-For`, `-Proto` and `-Host`, which most proxies set.
    ///
    /// Never both: most proxies set the one kind and let the other through as the client has sent it.
    pub fn by_forwarded(mut self) -> Self {
        self.fields = Fields::Forwarded;
        self
    }

    /// Reads neither kind of field: the client is who the PROXY protocol says, or who is connected.
    pub fn by_no_field(mut self) -> Self {
        self.fields = Fields::None;
        self
    }

    pub(crate) fn fields(&self) -> Fields {
        self.fields
    }

    /// Whether it is one of those.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = Network::bits(address);
        self.networks.iter().any(|network| network.has(address))
    }

    pub(crate) fn trusts_unix(&self) -> bool {
        self.unix
    }

    pub(crate) fn trusts_memory(&self) -> bool {
        self.memory
    }

    pub(crate) fn is_nobody(&self) -> bool {
        self.networks.is_empty() && !self.unix && !self.memory
    }
}

impl FromStr for Trust {
    type Err = io::Error;

    /// # Errors
    /// If a part is no address, no network, or has bits behind its length, such as `10.1.0.1/16` (`InvalidInput`).
    fn from_str(text: &str) -> io::Result<Self> {
        let mut trust = Self::nobody();
        let parts = text.split([',', ' ', '\t', '\n']);
        for part in parts.filter(|part| !part.is_empty()) {
            match part {
                "unix" => trust.unix = true,
                "memory" => trust.memory = true,
                part => trust.networks.push(part.parse()?),
            }
        }
        Ok(trust)
    }
}

/// Addresses that begin with the same bits; those of IPv4 as IPv6 maps them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Network {
    first: u128,
    length: u32,
}

impl Network {
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - self.length).unwrap_or(0)
    }

    fn has(self, address: u128) -> bool {
        address & self.mask() == self.first
    }
}

impl FromStr for Network {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let wrong = |what: &str| {
            let text = format!("{text:?} is no {what}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong("address or network"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => match length.parse::<u32>() {
                Ok(length) if length <= most => length,
                _ => return Err(wrong("network: its length is wrong")),
            },
        };
        let network = Self {
            first: Self::bits(address),
            length: 128 - most + length,
        };
        match network.has(network.first) {
            true => Ok(network),
            false => Err(wrong("network: it has bits behind its length")),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = Ipv6Addr::from_bits(self.first);
        match first.to_ipv4_mapped() {
            Some(v4) if self.length >= 96 => write!(f, "{v4}/{}", self.length - 96),
            _ => write!(f, "{first}/{}", self.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(trust: &str, address: &str) -> bool {
        let trust: Trust = trust.parse().unwrap();
        trust.trusts(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        assert!(trusts("10.1.0.0/16", "10.1.255.255"));
        assert!(!trusts("10.1.0.0/16", "10.2.0.0"));
        assert!(trusts("127.0.0.1 ::1", "::1"));
        assert!(!trusts("127.0.0.1", "127.0.0.2"));
        assert!(trusts("0.0.0.0/0", "8.8.8.8"));
        assert!(!trusts("0.0.0.0/0", "::1"), "no address of the other kind");
        assert!(trusts("::/0", "8.8.8.8") && trusts("::/0", "::1"));
        assert!(trusts("fd00::/8", "fdff::1"));
        assert!(!trusts("", "127.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_ipv6() {
        assert!(trusts("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(trusts("::ffff:10.0.0.0/104", "10.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in [
            "10.1.0.1/16",
            "10.0.0.0/33",
            "::/129",
            "host",
            "10.0.0.0/-1",
            "/8",
        ] {
            let error = wrong.parse::<Trust>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
