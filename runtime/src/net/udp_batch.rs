//! Many datagrams in one system call: the buffers that they come in, the headers that they leave with.

use std::{
    fmt,
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr},
    os::fd::BorrowedFd,
};

use rustix::{
    io::Errno,
    net::{MMsgHdr, SendAncillaryBuffer, SocketAddrAny, addr::SocketAddrArg},
};

use super::socket::to_inet;
use crate::sys::socket::receive_many;

/// Room for several datagrams, which [`UdpSocket::recv_batch`](super::UdpSocket::recv_batch) fills.
///
/// # Examples
/// ```
/// use maniple::net::{RecvBatch, UdpSocket};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let server = UdpSocket::bind("127.0.0.1:0")?;
///     let client = UdpSocket::bind("127.0.0.1:0")?;
///     let to = server.local_addr()?;
///     client.send_batch(&[("one", to), ("two", to)])?;
///     let mut batch = RecvBatch::new(32, 1500);
///     let mut texts = Vec::new();
///     while texts.len() < 2 {
///         server.recv_batch(&mut batch)?;
///         texts.extend(batch.iter().map(|datagram| datagram.bytes.to_vec()));
///     }
///     assert_eq!(texts, [b"one", b"two"]);
///     Ok(())
/// })
/// # }
/// ```
pub struct RecvBatch {
    /// `datagram_bytes` for each.
    bytes: Box<[u8]>,
    datagram_bytes: usize,
    slots: Box<[Slot]>,
    received: usize,
}

/// What is known about the datagram in one part of the buffer.
#[derive(Clone, Copy)]
struct Slot {
    length: usize,
    from: SocketAddr,
    truncated: bool,
}

/// One datagram of a [`RecvBatch`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// What it says, as far as there was room.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub from: SocketAddr,
    /// Whether its end was lost because it is longer than the room for it.
    pub truncated: bool,
}

impl RecvBatch {
    /// Room for `datagrams` of `datagram_bytes` each. One call receives at most 1024.
    ///
    /// # Panics
    /// If either is 0, or their product overflows.
    pub fn new(datagrams: usize, datagram_bytes: usize) -> Self {
        assert!(
            datagrams > 0 && datagram_bytes > 0,
            "a batch has room for a datagram"
        );
        let bytes = datagrams.checked_mul(datagram_bytes);
        let empty = Slot {
            length: 0,
            from: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            truncated: false,
        };
        Self {
            bytes: vec![0; bytes.expect("a batch fits into memory")].into(),
            datagram_bytes,
            slots: vec![empty; datagrams].into(),
            received: 0,
        }
    }

    /// The datagrams received last, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        (0..self.received).map(|at| {
            let slot = self.slots[at];
            let from = at * self.datagram_bytes;
            Datagram {
                bytes: &self.bytes[from..from + slot.length],
                from: slot.from,
                truncated: slot.truncated,
            }
        })
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.received
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// How many datagrams it has room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn clear(&mut self) {
        self.received = 0;
    }

    /// Receives what is there, without waiting.
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let parts = self.bytes.chunks_exact_mut(self.datagram_bytes);
        let mut slots = self.slots.iter_mut().take(MOST);
        let mut foreign = false;
        let received = receive_many(fd, parts.take(slots.len()), |datagram| {
            let (Some(slot), Ok(from)) = (slots.next(), to_inet(datagram.from)) else {
                foreign = true;
                return;
            };
            *slot = Slot {
                length: datagram.length,
                from,
                truncated: datagram.truncated,
            };
        })?;
        if foreign {
            return Err(Errno::AFNOSUPPORT);
        }
        self.received = received;
        Ok(received)
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBatch")
            .field("capacity", &self.capacity())
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// Datagrams that one call takes at most (`UIO_MAXIOV`, sendmmsg(2)).
const MOST: usize = 1024;

/// Hands the headers that sendmmsg(2) takes to `send`.
pub(super) fn with_headers<B: AsRef<[u8]>>(
    datagrams: &[(B, SocketAddr)],
    send: impl FnOnce(&mut [MMsgHdr<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let datagrams = &datagrams[..datagrams.len().min(MOST)];
    if datagrams.is_empty() {
        return Ok(0);
    }
    let addresses: Vec<SocketAddrAny> = datagrams.iter().map(|(_, to)| to.as_any()).collect();
    let parts: Vec<[IoSlice<'_>; 1]> = (datagrams.iter())
        .map(|(bytes, _)| [IoSlice::new(bytes.as_ref())])
        .collect();
    let mut no_control: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        datagrams.iter().map(|_| Default::default()).collect();
    let mut headers: Vec<_> = (addresses.iter().zip(&parts).zip(&mut no_control))
        .map(|((to, part), control)| MMsgHdr::new_with_addr(to, part, control))
        .collect();
    send(&mut headers)
}

/// How many datagrams were sent, one by one; the error if it was none.
pub(super) fn count(sent: impl Iterator<Item = io::Result<usize>>) -> io::Result<usize> {
    let mut count = 0;
    for sent in sent.take(MOST) {
        match sent {
            Ok(_) => count += 1,
            Err(_) if count > 0 => return Ok(count),
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
