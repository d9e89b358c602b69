//! Where an end of a connection is: an address and a port, or a Unix-domain socket.

use std::{
    fmt, io,
    net::SocketAddr,
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr as UnixAddr},
};

/// Where an end of a connection is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix-domain socket: its path, or `@` and a name that is no file; empty at an end that has none, as clients do.
    Unix(String),
}

impl Address {
    /// That of TCP, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    pub(crate) fn of_unix(address: &UnixAddr) -> Self {
        Address::Unix(match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
            (None, None) => String::new(),
        })
    }
}

/// As it is called: `127.0.0.1:7000`, `unix:/run/hello.sock`, `unix:@hello`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(name) => write!(f, "unix:{name}"),
        }
    }
}

/// What is behind `unix:`, if an address begins so.
pub(crate) fn unix_name(address: &str) -> Option<&str> {
    address.strip_prefix("unix:")
}

/// The address of such a name: one that begins with `@` is no file.
pub(crate) fn unix_address(name: &str) -> io::Result<UnixAddr> {
    match name.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets_are_written_as_they_are_read() {
        for text in ["unix:/run/a.sock", "unix:@a b"] {
            let address = unix_address(unix_name(text).unwrap()).unwrap();
            assert_eq!(Address::of_unix(&address).to_string(), text);
        }
        assert_eq!(unix_name("unix.example:80"), None);
    }
}
