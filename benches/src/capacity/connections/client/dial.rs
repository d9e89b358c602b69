//! Connecting from a chosen address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, socket_with,
    sockopt::{Timeout, set_socket_timeout, set_tcp_nodelay},
};

/// A connection that does not block, with whatever port is free for these two addresses.
pub(super) fn connect(
    source: Ipv4Addr,
    server: SocketAddrV4,
    patience: Duration,
) -> Result<TcpStream> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind_without_port(&socket).context("IP_BIND_ADDRESS_NO_PORT")?;
    bind(&socket, &SocketAddrV4::new(source, 0)).with_context(|| format!("bind {source}"))?;
    // A full backlog swallows connections without a word.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            return Err(io::Error::from(io::ErrorKind::TimedOut))
                .with_context(|| format!("connect {source} to {server} within {patience:?}"));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("connect {source} to {server}"));
        }
    }
    set_tcp_nodelay(&socket, true)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Has the kernel choose the port only when it knows the other end: so that a port can serve many servers, and one
/// that a closed connection to another server still lingers on is free (ip(7)).
fn bind_without_port(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a local of the given size, which outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_comes_from_the_address_that_was_chosen() {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 1, 0, 9), 0)).unwrap();
        let std::net::SocketAddr::V4(server) = listener.local_addr().unwrap() else {
            panic!("not an IPv4 address");
        };
        let source = Ipv4Addr::new(127, 2, 0, 7);
        let stream = connect(source, server, Duration::from_secs(5)).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source);
        assert_eq!(stream.local_addr().unwrap(), peer);
    }

    #[test]
    fn a_refusal_names_both_ends() {
        // Bound and not listening, so that nobody else gets the port meanwhile.
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, 9), 0)).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap();
        let server = SocketAddrV4::try_from(address).unwrap();
        let source = Ipv4Addr::new(127, 2, 0, 8);
        let error = connect(source, server, Duration::from_secs(5)).unwrap_err();
        let text = format!("{error:#}");
        for part in [source.to_string(), server.to_string(), "refused".to_owned()] {
            assert!(text.contains(&part), "{part}: {text}");
        }
    }
}
