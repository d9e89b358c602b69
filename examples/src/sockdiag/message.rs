//! The messages of sock_diag(7): the request, and the sockets in the answer.
//!
//! A request is one netlink message, the answer a row of them: for each socket an `inet_diag_msg` of fixed
//! layout, then attributes, of which the one with the kernel's `tcp_info` is read. Newer kernels append
//! to these, so fields are read by their offset and what is too short for one is without it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Ends, Info, Socket, State};

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
pub fn request(ends: Ends) -> Vec<u8> {
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
pub fn parse(mut datagram: &[u8], sockets: &mut Vec<Socket>) -> io::Result<bool> {
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
    Some(in_bytes(Socket {
        state: State(fields.u8(1)?),
        local: address(8, fields.u16(4)?)?,
        peer: address(24, fields.u16(6)?)?,
        cookie: u64::from(fields.u32(44)?) | u64::from(fields.u32(48)?) << 32,
        recv_queue: fields.u32(56)?,
        send_queue: fields.u32(60)?,
        uid: fields.u32(64)?,
        inode: fields.u32(68)?,
        info: attribute(&message[INET_DIAG_MSG..], INET_DIAG_INFO).and_then(info),
    }))
}

/// The kernel counts sequence numbers, of which SYN and FIN have one each: without them what is left are bytes.
///
/// A FIN that came counts in Recv-Q until the end of the stream has been read, and among the bytes received for good; one
/// that was sent, and a SYN, count in Send-Q until they are acknowledged.
fn in_bytes(mut socket: Socket) -> Socket {
    let State(state) = socket.state;
    if matches!(state, CLOSE_WAIT | LAST_ACK | CLOSING) && socket.recv_queue > 0 {
        socket.recv_queue -= 1;
        if let Some(info) = &mut socket.info {
            info.bytes_received = info.bytes_received.saturating_sub(1);
        }
    }
    if matches!(state, SYN_SENT | SYN_RECV | FIN_WAIT_1 | LAST_ACK | CLOSING) {
        socket.send_queue = socket.send_queue.saturating_sub(1);
    }
    socket
}

const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const FIN_WAIT_1: u8 = 4;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

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

pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

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
