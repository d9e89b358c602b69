//! What the kernel knows of TCP sockets, asked as ss(8) asks it: through sock_diag(7), without privileges.
//!
//! A request is one netlink message, the answer a row of them: for each socket an `inet_diag_msg` of fixed
//! layout, then attributes, of which the one with the kernel's `tcp_info` is read. Newer kernels append
//! to these, so fields are read by their offset and what is too short for one is without it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// A way to ask about the sockets of this network namespace, whoever's they are.
#[derive(Debug)]
pub struct SockDiag(OwnedFd);

/// Which sockets are asked about.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// Those at this port, a listening one among them: a server's own.
    At(SocketAddr),
    /// Those whose peer is at this port: its clients', as far as they are on this machine.
    Towards(SocketAddr),
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub state: State,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// Connected: bytes that have come and were not read. Listening: connections not yet accepted.
    pub recv_queue: u32,
    /// Connected: bytes written that the peer's kernel has not acknowledged. Listening: the backlog.
    pub send_queue: u32,
    /// Who created it.
    pub uid: u32,
    /// As in the links of `/proc/PID/fd`; 0 if no process has it any more.
    pub inode: u32,
    /// Its identity for as long as it exists.
    pub cookie: u64,
    /// Absent in the states that are hardly a connection, `TIME-WAIT` above all.
    pub info: Option<Info>,
}

/// Parts of `tcp_info`, as in `linux/tcp.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Of the segment that is overdue now.
    pub retransmits: u8,
    /// Segments; what slow start begins small.
    pub congestion_window: u32,
    /// Since the last acknowledgement came, of whatever.
    pub since_ack: Duration,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segments_out: u32,
    pub segments_in: u32,
    /// How much the peer would still take, in bytes; since Linux 5.4.
    pub peer_window: Option<u32>,
}

impl SockDiag {
    pub fn open() -> io::Result<SockDiag> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let diag = Some(netlink::SOCK_DIAG);
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, diag)
            .map(SockDiag)
            .map_err(|errno| explain(errno.into()))
    }

    /// The sockets as they are now.
    pub fn sockets(&self, ends: Ends) -> io::Result<Vec<Socket>> {
        self.dump(&request(ends)).map_err(explain)
    }

    fn dump(&self, request: &[u8]) -> io::Result<Vec<Socket>> {
        rustix::net::send(&self.0, request, SendFlags::empty())?;
        let mut sockets = Vec::new();
        // The kernel fills at most 32 KiB at a time, unless the reader has asked with less before.
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let n = match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, n)) if n > buffer.len() => return Err(invalid("an answer was cut")),
                Ok((_, n)) => n,
                Err(Errno::AGAIN) => {
                    maniple::net::wait_readable(self.0.as_fd())?;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            if parse(&buffer[..n], &mut sockets)? {
                return Ok(sockets);
            }
        }
    }
}

fn explain(error: io::Error) -> io::Error {
    let message = format!("sock_diag: {error} (see sock_diag(7); does `ss -t` work here?)");
    io::Error::new(error.kind(), message)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_AND_DUMP: u16 = 0x1 | 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The attribute that holds a `tcp_info`.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_MSG: usize = 72;

/// A `nlmsghdr` and an `inet_diag_req_v2`: all states, and the ports as the only filter.
fn request(ends: Ends) -> Vec<u8> {
    let (address, own, peers) = match ends {
        Ends::At(address) => (address, address.port(), 0),
        Ends::Towards(address) => (address, 0, address.port()),
    };
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(own.to_be_bytes());
    body.extend(peers.to_be_bytes());
    body.resize(56, 0);

    let length = (HEADER + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST_AND_DUMP.to_ne_bytes());
    message.resize(HEADER, 0);
    message.extend(body);
    message
}

/// Takes the messages of one datagram apart; whether the answer is complete.
fn parse(mut datagram: &[u8], sockets: &mut Vec<Socket>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let header = Fields(datagram);
        let (Some(length), Some(kind)) = (header.u32(0), header.u16(4)) else {
            return Err(invalid("a message without a header"));
        };
        let Some(body) = datagram.get(HEADER..length as usize) else {
            return Err(invalid("a message longer than its datagram"));
        };
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let errno = Fields(body)
                    .u32(0)
                    .ok_or_else(|| invalid("an error without its number"))?;
                return Err(io::Error::from_raw_os_error((errno as i32).wrapping_neg()));
            }
            SOCK_DIAG_BY_FAMILY => {
                sockets.push(socket(body).ok_or_else(|| invalid("a socket cut short"))?);
            }
            _ => {}
        }
        let next = (length as usize).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(false)
}

fn socket(message: &[u8]) -> Option<Socket> {
    let fields = Fields(message.get(..INET_DIAG_MSG)?);
    let address = |ip_at: usize, port: u16| -> Option<SocketAddr> {
        let bytes = *message.get(ip_at..)?.first_chunk::<16>()?;
        let ip = match fields.u8(0)? {
            AF_INET => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
            // An IPv4 client of a listener on [::] comes as ::ffff:a.b.c.d.
            _ => Ipv6Addr::from(bytes).to_canonical(),
        };
        Some(SocketAddr::new(ip, u16::from_be(port)))
    };
    Some(Socket {
        state: State(fields.u8(1)?),
        local: address(8, fields.u16(4)?)?,
        peer: address(24, fields.u16(6)?)?,
        cookie: u64::from(fields.u32(44)?) | u64::from(fields.u32(48)?) << 32,
        recv_queue: fields.u32(56)?,
        send_queue: fields.u32(60)?,
        uid: fields.u32(64)?,
        inode: fields.u32(68)?,
        info: attribute(&message[INET_DIAG_MSG..], INET_DIAG_INFO).and_then(info),
    })
}

/// Looks an attribute up: each is a length, a kind and a value, padded to four bytes.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let header = Fields(attributes);
        let (length, kind) = (usize::from(header.u16(0)?), header.u16(2)?);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn info(tcp_info: &[u8]) -> Option<Info> {
    let fields = Fields(tcp_info);
    Some(Info {
        retransmits: fields.u8(2)?,
        since_ack: Duration::from_millis(fields.u32(56)?.into()),
        congestion_window: fields.u32(80)?,
        bytes_acked: fields.u64(120)?,
        bytes_received: fields.u64(128)?,
        segments_out: fields.u32(136)?,
        segments_in: fields.u32(140)?,
        peer_window: fields.u32(228),
    })
}

/// Numbers at offsets of a message, in this machine's byte order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.0
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u16::from_ne_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.0
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.0
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u64::from_ne_bytes)
    }
}

/// A state of RFC 9293, section 3.3.2, by its number in the kernel's `tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u8);

impl State {
    pub const ESTABLISHED: State = State(1);
    pub const TIME_WAIT: State = State(6);
    pub const LISTEN: State = State(10);
}

impl fmt::Display for State {
    /// As ss(8) writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            1 => "ESTAB",
            2 => "SYN-SENT",
            3 | 12 => "SYN-RECV",
            4 => "FIN-WAIT-1",
            5 => "FIN-WAIT-2",
            6 => "TIME-WAIT",
            7 => "UNCONN",
            8 => "CLOSE-WAIT",
            9 => "LAST-ACK",
            10 => "LISTEN",
            11 => "CLOSING",
            _ => "UNKNOWN",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    #[test]
    fn queues_hold_what_was_not_read_and_not_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(b"seven b").unwrap();

        let listening = eventually(at, State::LISTEN, |socket| socket.recv_queue == 1);
        assert_eq!((listening.local, listening.info.is_some()), (at, true));
        let waiting = eventually(at, State::ESTABLISHED, |socket| socket.recv_queue == 7);
        assert_eq!(waiting.peer, client.local_addr().unwrap());
        assert_eq!(waiting.info.unwrap().bytes_received, 7);

        let (mut accepted, _) = listener.accept().unwrap();
        accepted.read_exact(&mut [0; 7]).unwrap();
        eventually(at, State::LISTEN, |socket| socket.recv_queue == 0);
        eventually(at, State::ESTABLISHED, |socket| socket.recv_queue == 0);
        let theirs = SockDiag::open()
            .unwrap()
            .sockets(Ends::Towards(at))
            .unwrap();
        assert_eq!((theirs.len(), theirs[0].peer), (1, at), "{theirs:?}");
    }

    /// The only socket at `at` of that state, once it is as it is to be: the kernel may deliver a moment later.
    fn eventually(at: SocketAddr, state: State, is: impl Fn(&Socket) -> bool) -> Socket {
        let diag = SockDiag::open().unwrap();
        let started = Instant::now();
        loop {
            let mut sockets = diag.sockets(Ends::At(at)).unwrap();
            sockets.retain(|socket| socket.state == state);
            match &sockets[..] {
                [only] if is(only) => return only.clone(),
                _ => assert!(started.elapsed() < Duration::from_secs(30), "{sockets:?}"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_an_error_and_no_panic() {
        let mut message = vec![0; HEADER + INET_DIAG_MSG];
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        let mut sockets = Vec::new();
        assert!(!parse(&message, &mut sockets).unwrap());
        assert_eq!((sockets.len(), sockets[0].info), (1, None));
        for cut in 1..message.len() {
            assert!(parse(&message[..cut], &mut sockets).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_kernels_error_is_passed_on() {
        let mut message = vec![0; HEADER + 4];
        message[0] = HEADER as u8 + 4;
        message[4] = ERROR as u8;
        message[HEADER..].copy_from_slice(&(-2_i32).to_ne_bytes());
        let error = parse(&message, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
