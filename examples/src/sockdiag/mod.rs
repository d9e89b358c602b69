//! What the kernel knows of TCP sockets, asked as ss(8) asks it: through sock_diag(7), without privileges.

mod message;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// A way to ask about the sockets of this network namespace, of all processes.
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
        self.dump(&message::request(ends)).map_err(explain)
    }

    fn dump(&self, request: &[u8]) -> io::Result<Vec<Socket>> {
        rustix::net::send(&self.0, request, SendFlags::empty())?;
        let mut sockets = Vec::new();
        // The kernel fills at most 32 KiB at a time, unless the reader has asked with less before.
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let n = match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, n)) if n > buffer.len() => {
                    return Err(message::invalid("an answer was cut"));
                }
                Ok((_, n)) => n,
                Err(Errno::AGAIN) => {
                    maniple::net::wait_readable(self.0.as_fd())?;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            if message::parse(&buffer[..n], &mut sockets)? {
                return Ok(sockets);
            }
        }
    }
}

fn explain(error: io::Error) -> io::Error {
    let message = format!("sock_diag: {error} (see sock_diag(7); does `ss -t` work here?)");
    io::Error::new(error.kind(), message)
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
        let mut theirs = SockDiag::open()
            .unwrap()
            .sockets(Ends::Towards(at))
            .unwrap();
        // An earlier connection to a listener that had the same port may still be on its way out, or have ended just now.
        theirs.retain(|socket| socket.state != State::TIME_WAIT && socket.peer == at);
        let here = client.local_addr().unwrap();
        assert_eq!((theirs.len(), theirs[0].local), (1, here), "{theirs:?}");
    }

    #[test]
    fn the_end_of_a_stream_is_no_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(at).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(b"four").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();

        let closing = State(8);
        let unread = eventually(at, closing, |socket| socket.recv_queue == 4);
        assert_eq!(unread.info.unwrap().bytes_received, 4);
        accepted.read_exact(&mut [0; 4]).unwrap();
        eventually(at, closing, |socket| socket.recv_queue == 0);
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
        eventually(at, closing, |socket| socket.recv_queue == 0);
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
}
