//! A port of the loopback address that is held for a server until it listens there, and after.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::OwnedFd,
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// A port that the kernel gives to nobody else for as long as this lives.
///
/// A socket is bound to it that does not listen. Who asks for any port, to listen on or to connect from, gets another one.
/// Who asks for this one may have it if it sets `SO_REUSEADDR`, which servers do (socket(7)): the one that is told of it.
#[derive(Debug)]
pub struct HeldPort {
    number: u16,
    _socket: OwnedFd,
}

impl HeldPort {
    /// Any that is free.
    pub fn any() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddr::try_from(net::getsockname(&socket)?)?;
        Ok(Self {
            number: address.port(),
            _socket: socket,
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether that process listens on it, and no other.
    pub fn is_listened_on_by(&self, process: u32) -> io::Result<bool> {
        let table = fs::read_to_string("/proc/net/tcp")?;
        let Some(inode) = table.lines().find_map(|line| self.listener(line)) else {
            return Ok(false);
        };
        let socket = format!("socket:[{inode}]");
        let mut descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
        // A descriptor may be closed meanwhile.
        Ok(descriptors
            .any(|one| fs::read_link(one.path()).is_ok_and(|to| to.as_os_str() == &*socket)))
    }

    /// The inode of the socket that this line of `/proc/net/tcp` is about, if that listens on the port (proc_net(5)).
    fn listener<'a>(&self, line: &'a str) -> Option<&'a str> {
        const LISTENS: &str = "0A";
        let mut fields = line.split_whitespace();
        let (address, state) = (fields.nth(1)?, fields.nth(1)?);
        let (_, port) = address.split_once(':')?;
        let is_it = u16::from_str_radix(port, 16) == Ok(self.number) && state == LISTENS;
        is_it.then(|| fields.nth(5)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd, process};

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn who_is_told_of_a_held_port_may_listen_there_and_is_known_by_that() {
        let port = HeldPort::any().unwrap();
        assert!(!port.is_listened_on_by(process::id()).unwrap());
        let _listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        assert!(port.is_listened_on_by(process::id()).unwrap());
        let mut other = process::Command::new("sleep").arg("60").spawn().unwrap();
        let is_others = port.is_listened_on_by(other.id());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!is_others.unwrap());
    }

    #[test]
    fn a_held_port_is_given_to_nobody_who_asks_for_any() {
        const IP_LOCAL_PORT_RANGE: libc::c_int = 51; // Since Linux 6.3 (ip(7)).
        let port = HeldPort::any().unwrap();
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        let only = u32::from(port.number()) << 16 | u32::from(port.number());
        // SAFETY: the option's value is a u32, which is read here and now.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                IP_LOCAL_PORT_RANGE,
                (&raw const only).cast(),
                size_of_val(&only) as libc::socklen_t,
            )
        };
        if set != 0 {
            println!("not tried: {}", io::Error::last_os_error());
            return;
        }
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        assert_eq!(net::bind(&socket, &any), Err(Errno::ADDRINUSE));
        drop(port);
        assert_eq!(net::bind(&socket, &any), Ok(()));
    }
}
