//! From names to addresses, without blocking a worker.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use super::lookup;
use crate::error::Elapsed;

/// What can be resolved to socket addresses; as [`std::net::ToSocketAddrs`], for the same types.
///
/// Addresses and address literals resolve at once. Names are looked up by the system's resolver
/// (getaddrinfo(3)) on threads for names alone, as [`offload`](crate::offload()) describes, while the coroutine waits;
/// the answer is remembered for 5 seconds: see [`set_name_ttl`](super::set_name_ttl).
pub trait ToSocketAddrs {
    /// The addresses, in the resolver's order.
    ///
    /// # Errors
    /// If the text has no port or an invalid one (`InvalidInput`), the name cannot be resolved, or the
    /// look-up was cut short.
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>>;

    /// The first of them; what is one address already needs no list for it.
    ///
    /// # Errors
    /// Fails as [`ToSocketAddrs::to_socket_addrs`] does; `InvalidInput` if there is none.
    fn first_socket_addr(&self) -> io::Result<SocketAddr> {
        let addresses = self.to_socket_addrs()?;
        addresses.first().copied().ok_or_else(no_address)
    }
}

impl ToSocketAddrs for SocketAddr {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![*self])
    }

    fn first_socket_addr(&self) -> io::Result<SocketAddr> {
        Ok(*self)
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.to_vec())
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        resolve(self.0, self.1)
    }
}

impl ToSocketAddrs for (String, u16) {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        resolve(&self.0, self.1)
    }
}

impl ToSocketAddrs for str {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address]);
        }
        let invalid = |what: &str| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{what} in address {self:?}, expected HOST:PORT"),
            )
        };
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("no port"))?;
        let port = port.parse().map_err(|_| invalid("bad port"))?;
        if host.is_empty() {
            return Err(invalid("no host"));
        }
        resolve(host, port)
    }
}

impl ToSocketAddrs for String {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_str().to_socket_addrs()
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        (**self).to_socket_addrs()
    }

    fn first_socket_addr(&self) -> io::Result<SocketAddr> {
        (**self).first_socket_addr()
    }
}

macro_rules! from_parts {
    ($($parts:ty),*) => {$(
        impl ToSocketAddrs for $parts {
            fn to_socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![SocketAddr::from(*self)])
            }

            fn first_socket_addr(&self) -> io::Result<SocketAddr> {
                Ok(SocketAddr::from(*self))
            }
        }
    )*};
}

from_parts!(
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    lookup::look_up(host, port)
}

/// Tries the addresses in turn; the last one's error if none will do.
pub(super) fn each_address<T>(
    addresses: &impl ToSocketAddrs,
    mut with: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses.to_socket_addrs()? {
        match with(&address) {
            Ok(done) => return Ok(done),
            Err(error) if is_interrupt(&error) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the name resolves to no address",
    )
}

/// Whether it was the caller's scope, not the address, that ended the attempt.
fn is_interrupt(error: &io::Error) -> bool {
    crate::cancel::is_cancelled_error(error)
        || error.get_ref().is_some_and(|inner| inner.is::<Elapsed>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_resolve_without_a_look_up() {
        let address = "127.0.0.1:80".to_socket_addrs().unwrap();
        assert_eq!(address, [SocketAddr::from(([127, 0, 0, 1], 80))]);
        assert_eq!(("::1", 80).to_socket_addrs().unwrap()[0].port(), 80);
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (address, wrong) in [
            ("localhost", "no port"),
            ("localhost:http", "bad port"),
            ("localhost:99999", "bad port"),
            (":80", "no host"),
        ] {
            let error = address.to_socket_addrs().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
