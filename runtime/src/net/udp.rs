//! UDP: datagrams one at a time, and in batches of one system call.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketAddrAny, SocketType, ipproto, sockopt},
};

use super::{
    ToSocketAddrs,
    resolve::each_address,
    simulated,
    socket::{FLAGS, Timeout, conversions, family, timeouts, to_inet},
    source::{Moved, Source},
    transfer::Partial,
    udp_batch::{self, RecvBatch},
};
use crate::sys::event::Direction;

/// A UDP socket, in the shape of [`std::net::UdpSocket`].
///
/// All calls need only `&UdpSocket`: coroutines can share one. A datagram longer than the buffer that it
/// is received into loses its end, as in std. A receive that waits is cut short as described in
/// [`net`](crate::net); it has then consumed nothing.
///
/// # Examples
/// ```
/// use maniple::net::UdpSocket;
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let server = UdpSocket::bind("127.0.0.1:0")?;
///     let address = server.local_addr()?;
///     let echo = maniple::spawn(move || -> std::io::Result<usize> {
///         let mut buffer = [0; 1500];
///         let (n, peer) = server.recv_from(&mut buffer)?;
///         server.send_to(&buffer[..n], peer)
///     });
///     let client = UdpSocket::bind("127.0.0.1:0")?;
///     client.connect(address)?;
///     client.send(b"ping")?;
///     let mut answer = [0; 16];
///     assert_eq!(client.recv(&mut answer)?, 4);
///     echo.join()?.map(drop)
/// })
/// # }
/// ```
pub struct UdpSocket {
    source: Source,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

impl UdpSocket {
    /// Binds to the first address that can be bound.
    ///
    /// # Errors
    /// If the name cannot be resolved or no address can be bound; the message names the last one.
    pub fn bind<A: ToSocketAddrs>(address: A) -> io::Result<Self> {
        each_address(&address, |address| {
            Self::bind_one(address)
                .map_err(|error| io::Error::new(error.kind(), format!("bind {address}: {error}")))
        })
    }

    fn bind_one(address: &SocketAddr) -> io::Result<Self> {
        if let Some(world) = simulated::world() {
            let fd = simulated::bind(&world, address)?;
            return Ok(Self::with_source(Source::new(fd)));
        }
        let udp = Some(ipproto::UDP);
        let fd = rustix::net::socket_with(family(address), SocketType::DGRAM, FLAGS, udp)?;
        rustix::net::bind(&fd, address)?;
        Ok(Self::with_source(Source::new(fd)))
    }

    fn with_source(source: Source) -> Self {
        Self {
            source,
            read_timeout: Timeout::none(),
            write_timeout: Timeout::none(),
        }
    }

    /// Sets where [`UdpSocket::send`] sends to, and what alone [`UdpSocket::recv`] receives from. Waits
    /// for nothing but the look-up of a name.
    ///
    /// # Errors
    /// If the name cannot be resolved or no address is reachable from this socket.
    pub fn connect<A: ToSocketAddrs>(&self, address: A) -> io::Result<()> {
        each_address(&address, |address| match simulated::world() {
            Some(world) => simulated::connect_datagrams(&world, self.source.as_fd(), address),
            None => Ok(rustix::net::connect(&self.source, address)?),
        })
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Errors
    /// If the socket is not connected, the datagram is too long, an earlier one was refused, or the wait
    /// for room was cut short.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if simulated::world().is_some() {
            return self.send_in_world(bytes, None);
        }
        self.source
            .send(self.write_timeout.load(), bytes, Partial::Vague)
    }

    /// Sends one datagram to the first of the addresses.
    ///
    /// # Errors
    /// If the name cannot be resolved, the datagram is too long, the address is of another family, or the
    /// wait for room was cut short.
    pub fn send_to<A: ToSocketAddrs>(&self, bytes: &[u8], address: A) -> io::Result<usize> {
        let address = address.first_socket_addr()?;
        if simulated::world().is_some() {
            return self.send_in_world(bytes, Some(address));
        }
        self.source
            .io(Direction::Write, self.write_timeout.load(), |fd| {
                rustix::net::sendto(fd, bytes, SendFlags::NOSIGNAL, &address).map(Moved::Fully)
            })
    }

    /// Receives one datagram from the connected peer.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::empty())
    }

    /// Receives one datagram, and says from whom.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buffer, RecvFlags::empty())
    }

    /// Receives a datagram and returns how long it is: longer than the buffer if its end was lost.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    ///
    /// # Examples
    /// ```
    /// use maniple::net::UdpSocket;
    /// # fn main() -> std::io::Result<()> {
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.send_to(b"too long", socket.local_addr()?)?;
    /// let mut buffer = [0; 4];
    /// let length = socket.recv_len(&mut buffer)?;
    /// let whole = buffer.get(..length);
    /// assert_eq!((length, whole), (8, None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_len(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::TRUNC)
    }

    /// Receives a datagram and returns how long it is, like [`UdpSocket::recv_len`], and from whom.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    pub fn recv_len_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buffer, RecvFlags::TRUNC)
    }

    /// Reads a datagram like [`UdpSocket::recv`], and leaves it to be received again.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::PEEK)
    }

    /// Reads a datagram like [`UdpSocket::recv_from`], and leaves it to be received again.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buffer, RecvFlags::PEEK)
    }

    /// Receives a datagram that is there, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is none; otherwise as [`UdpSocket::recv`].
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (n, _, from) = self.source.try_io(Direction::Read, |fd| {
            rustix::net::recvfrom(fd, buffer, RecvFlags::empty())
        })?;
        Ok((n, sender(from)?))
    }

    /// Waits for at least one datagram and receives, in one system call, as many as are there and as
    /// `batch` has room for (recvmmsg(2)). What it held before is gone.
    ///
    /// # Errors
    /// If an earlier send was refused, past the read timeout (kind `TimedOut`), or the wait was cut short.
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.clear();
        self.source
            .io(Direction::Read, self.read_timeout.load(), |fd| {
                batch.receive(fd).map(Moved::Filled)
            })
    }

    /// Sends datagrams, each to its address, in one system call (sendmmsg(2)); waits for room for the
    /// first. Returns how many were sent, which may be fewer than there are: at most 1024, and none behind
    /// one that failed. Sending none is no error.
    ///
    /// # Errors
    /// Fails as [`UdpSocket::send_to`] does, for the first datagram.
    pub fn send_batch<B: AsRef<[u8]>>(&self, datagrams: &[(B, SocketAddr)]) -> io::Result<usize> {
        if simulated::world().is_some() {
            let sent = datagrams
                .iter()
                .map(|(bytes, to)| self.send_in_world(bytes.as_ref(), Some(*to)));
            return udp_batch::count(sent);
        }
        udp_batch::with_headers(datagrams, |headers| {
            self.source
                .io(Direction::Write, self.write_timeout.load(), |fd| {
                    rustix::net::sendmmsg(fd, headers, SendFlags::NOSIGNAL).map(Moved::Fully)
                })
        })
    }

    /// Sends by the network of the world that the caller is in.
    #[cold]
    fn send_in_world(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        let timeout = self.write_timeout.load();
        self.source.io(Direction::Write, timeout, |fd| {
            let world = simulated::world().ok_or(Errno::NOTSOCK)?;
            simulated::send_datagram(&world, fd, to, bytes).map(Moved::Fully)
        })
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        self.source
            .receive_datagram(self.read_timeout.load(), buffer, flags)
    }

    fn receive_from(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        let timeout = self.read_timeout.load();
        let (n, from) = self.source.receive_datagram_from(timeout, buffer, flags)?;
        Ok((n, sender(from)?))
    }
}

/// Addresses, options and handles.
impl UdpSocket {
    /// The address that it is bound to, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_inet(rustix::net::getsockname(&self.source)?)
    }

    /// The address that it is connected to.
    ///
    /// # Errors
    /// Kind `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        to_inet(rustix::net::getpeername(&self.source)?.ok_or(Errno::NOTCONN)?)
    }

    /// A second handle to the same socket. Timeouts are each handle's own.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.source.try_clone().map(Self::with_source)
    }

    /// Whether sending to a broadcast address is allowed (`SO_BROADCAST`, socket(7)); off by default.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_broadcast(&self.source, broadcast)?)
    }

    /// Whether `SO_BROADCAST` is set.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(sockopt::socket_broadcast(&self.source)?)
    }

    /// The hops that a datagram may take (`IP_TTL`, ip(7)).
    ///
    /// # Errors
    /// If the value is out of range.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        simulated::option(&self.source, sockopt::set_ip_ttl(&self.source, ttl), ())
    }

    /// What `IP_TTL` is.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn ttl(&self) -> io::Result<u32> {
        simulated::option(&self.source, sockopt::ip_ttl(&self.source), 64)
    }

    /// Whether what is sent to a multicast group comes back to this host's members (`IP_MULTICAST_LOOP`).
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_multicast_loop_v4(&self, comes_back: bool) -> io::Result<()> {
        Ok(sockopt::set_ip_multicast_loop(&self.source, comes_back)?)
    }

    /// Receives what is sent to the group on that interface (`IP_ADD_MEMBERSHIP`).
    ///
    /// # Errors
    /// If the group is none, or the interface does not exist.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_add_membership(
            &self.source,
            group,
            interface,
        )?)
    }

    /// Undoes [`UdpSocket::join_multicast_v4`].
    ///
    /// # Errors
    /// If it is not a member.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_drop_membership(
            &self.source,
            group,
            interface,
        )?)
    }

    /// Joins a multicast group of IPv6 on the interface of that index; 0 is any.
    ///
    /// # Errors
    /// If the group is none, or the interface does not exist.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_add_membership(
            &self.source,
            group,
            interface,
        )?)
    }

    /// Undoes [`UdpSocket::join_multicast_v6`].
    ///
    /// # Errors
    /// If it is not a member.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_drop_membership(
            &self.source,
            group,
            interface,
        )?)
    }

    /// Takes the socket's pending error, such as that of a datagram that was refused.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.source.take_error()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("fd", &self.source.as_fd().as_raw_fd())
            .field("local", &self.local_addr().ok())
            .finish()
    }
}

conversions!(UdpSocket, with_source, std::net::UdpSocket);
timeouts!(UdpSocket);

fn sender(address: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    to_inet(address.ok_or(Errno::DESTADDRREQ)?)
}
