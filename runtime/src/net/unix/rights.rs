//! Descriptors that travel with messages, and who the peer is.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};

pub(super) use crate::sys::socket::receive_with_descriptors as receive;
use crate::sys::socket::{MOST_DESCRIPTORS, peer_credentials};

/// Descriptors that one message carries at most (`SCM_MAX_FD`, unix(7)).
pub const MOST_FDS: usize = MOST_DESCRIPTORS;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_FDS));

pub(super) fn check(bytes: &[u8], fds: &[BorrowedFd<'_>], empty_carries: bool) -> io::Result<()> {
    let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if fds.len() > MOST_FDS {
        return invalid("more descriptors than one message carries");
    }
    if bytes.is_empty() && !empty_carries && !fds.is_empty() {
        return invalid("on a stream, descriptors need a byte to travel with");
    }
    Ok(())
}

pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let parts = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)
}

/// Who made the other end of a Unix-domain connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process; `None` if it cannot be seen from this process' namespace.
    pub pid: Option<i32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl PeerCredentials {
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let raw = peer_credentials(socket)?;
        if raw.pid == 0 && raw.uid == u32::MAX {
            return Err(Errno::NOTCONN.into());
        }
        Ok(Self {
            pid: (raw.pid != 0).then_some(raw.pid),
            uid: raw.uid,
            gid: raw.gid,
        })
    }
}
