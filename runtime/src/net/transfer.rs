//! What sockets of every kind do through their source: receive, send, accept.

use std::{
    io::{self, IoSlice},
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny};

use super::{
    Shutdown, simulated,
    socket::{FLAGS, slices_at_once},
    source::{Moved, Source, until},
};
use crate::sys::event::Direction;

/// What it says about a connection that a call has moved less than it could.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Partial {
    /// That there is nothing more, or no more room.
    Telling,
    /// Not much: datagrams go whole, and a receive from a Unix-domain socket stops where descriptors came.
    Vague,
}

/// Before a connection is accepted, for which a world may have no descriptor, or an error that lay in wait for it.
#[inline]
fn may_accept() -> rustix::io::Result<()> {
    simulated::take_descriptor()?;
    simulated::may_fail(&[
        Errno::CONNABORTED,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::HOSTUNREACH,
        Errno::PROTO,
    ])
}

/// Connections: zero bytes are their end.
impl Source {
    /// Waits for something to receive.
    #[inline(always)]
    pub(in crate::net) fn receive(
        &self,
        timeout: Option<Duration>,
        buffer: &mut [u8],
        partial: Partial,
    ) -> io::Result<usize> {
        if let Some(end) = self.end() {
            return self.receive_in_world(end, timeout, buffer);
        }
        self.io(Direction::Read, timeout, |fd| {
            let wanted = buffer.len();
            let (n, _) = rustix::net::recv(fd, &mut *buffer, RecvFlags::empty())?;
            if n >= wanted || (n > 0 && partial == Partial::Vague) {
                Ok(Moved::Filled(n))
            } else if n > 0 {
                Ok(Moved::Short(n))
            } else {
                self.at_end()
            }
        })
    }

    /// Receives like [`Source::receive`], and leaves the bytes to be received again.
    pub(in crate::net) fn peek(
        &self,
        timeout: Option<Duration>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        self.io(Direction::Read, timeout, |fd| {
            match rustix::net::recv(fd, &mut *buffer, RecvFlags::PEEK)? {
                (0, _) if !buffer.is_empty() => self.at_end(),
                (n, _) => Ok(Moved::Fully(n)),
            }
        })
    }

    /// Receives what is there, without waiting.
    pub(in crate::net) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_io(Direction::Read, |fd| {
            match rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT)? {
                (0, _) if !buffer.is_empty() => self.at_end().map(|_| 0),
                (n, _) => Ok(n),
            }
        })
    }

    /// Receives over a connection of a world, which knows whether there may be anything.
    #[cold]
    #[inline(never)]
    fn receive_in_world(
        &self,
        end: u32,
        timeout: Option<Duration>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        self.io(Direction::Read, timeout, |fd| {
            let wanted = buffer.len();
            if wanted > 0 && simulated::has_nothing(end) {
                return Err(Errno::AGAIN);
            }
            let received = rustix::net::recv(fd, &mut *buffer, RecvFlags::empty());
            match received {
                // Something else has received them: there are none now.
                Err(Errno::AGAIN) => simulated::took(end, usize::MAX),
                Ok((n, _)) => simulated::took(end, n),
                Err(_) => {}
            }
            match received?.0 {
                n if n >= wanted => Ok(Moved::Fully(n)),
                0 => self.at_end(),
                n => Ok(Moved::Short(n)),
            }
        })
    }

    /// Sends over a connection of a world, by its kernel only where that has to wait.
    #[cold]
    #[inline(never)]
    fn send_from_world(&self, timeout: Option<Duration>, bytes: &[u8]) -> io::Result<usize> {
        self.io(Direction::Write, timeout, |fd| {
            if let Some(sent) = self.send_in_world(bytes) {
                return Ok(Moved::Fully(sent));
            }
            let n = rustix::net::send(fd, bytes, SendFlags::NOSIGNAL)?;
            Ok(match n < bytes.len() {
                true => Moved::Short(n),
                false => Moved::Fully(n),
            })
        })
    }

    /// Sends over a connection of a world, if it is one and the kernel need not do it.
    #[inline]
    pub(in crate::net) fn send_in_world(&self, bytes: &[u8]) -> Option<usize> {
        simulated::send_now(self.end()?, bytes)
    }

    /// What is sent next the kernel sends, and what comes behind it too.
    pub(in crate::net) fn send_by_kernel(&self) {
        // A world has no room for nothing, and leaves it to the kernel.
        _ = self.send_in_world(&[]);
    }

    /// The kernel has been told to end a direction, of which a world hears.
    pub(in crate::net) fn shut(&self, how: Shutdown) {
        if let Some(end) = self.end() {
            simulated::shut(end, how != Shutdown::Write, how != Shutdown::Read);
        } else {
            self.ask();
        }
    }

    /// Waits for room, and sends.
    #[inline(always)]
    pub(in crate::net) fn send(
        &self,
        timeout: Option<Duration>,
        bytes: &[u8],
        partial: Partial,
    ) -> io::Result<usize> {
        if self.end().is_some() {
            return self.send_from_world(timeout, bytes);
        }
        self.io(Direction::Write, timeout, |fd| {
            let n = rustix::net::send(fd, bytes, SendFlags::NOSIGNAL)?;
            Ok(match partial {
                Partial::Telling if n < bytes.len() => Moved::Short(n),
                _ => Moved::Fully(n),
            })
        })
    }

    /// Sends like [`Source::send`], out of as many of the buffers as one call takes.
    pub(in crate::net) fn send_vectored(
        &self,
        timeout: Option<Duration>,
        slices: &[IoSlice<'_>],
        partial: Partial,
    ) -> io::Result<usize> {
        let slices = slices_at_once(slices);
        if self.end().is_some()
            && let Some(first) = slices.iter().find(|slice| !slice.is_empty())
        {
            return self.send_from_world(timeout, first);
        }
        let lengths = slices.iter().map(|slice| slice.len());
        // They may be the same bytes over and over, and many.
        let wanted = lengths.fold(0, usize::saturating_add);
        self.io(Direction::Write, timeout, |fd| {
            let mut ancillary = SendAncillaryBuffer::default();
            let n = rustix::net::sendmsg(fd, slices, &mut ancillary, SendFlags::NOSIGNAL)?;
            Ok(match partial {
                Partial::Telling if n < wanted => Moved::Short(n),
                _ => Moved::Fully(n),
            })
        })
    }

    /// Waits for room, and sends of a file (sendfile(2)). That less was sent may be the file's end, and says nothing.
    pub(in crate::net) fn send_file(
        &self,
        timeout: Option<Duration>,
        file: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
    ) -> io::Result<usize> {
        self.io(Direction::Write, timeout, |fd| {
            let mut at = offset;
            self.send_by_kernel();
            rustix::fs::sendfile(fd, file, Some(&mut at), bytes).map(Moved::Fully)
        })
    }

    /// Waits until there is something to receive.
    pub(in crate::net) fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_ready(Direction::Read, until(timeout))
    }
}

/// Datagrams.
impl Source {
    /// Waits for a datagram; returns its length, which with `RecvFlags::TRUNC` is that of the whole.
    pub(in crate::net) fn receive_datagram(
        &self,
        timeout: Option<Duration>,
        buffer: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<usize> {
        self.io(Direction::Read, timeout, |fd| {
            let (_, length) = rustix::net::recv(fd, &mut *buffer, flags)?;
            Ok(Moved::of_datagram(length, flags))
        })
    }

    /// Receives a datagram like [`Source::receive_datagram`], and says from whom.
    pub(in crate::net) fn receive_datagram_from(
        &self,
        timeout: Option<Duration>,
        buffer: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<(usize, Option<SocketAddrAny>)> {
        self.io(Direction::Read, timeout, |fd| {
            let (_, length, from) = rustix::net::recvfrom(fd, &mut *buffer, flags)?;
            Ok(Moved::of_datagram((length, from), flags))
        })
    }
}

/// Listeners.
impl Source {
    /// Waits for a connection; one that was reset before it could be accepted is passed over.
    pub(in crate::net) fn accept(&self) -> io::Result<(Source, Option<SocketAddrAny>)> {
        loop {
            let accepted = self.io(Direction::Read, None, |fd| {
                may_accept()?;
                rustix::net::acceptfrom_with(fd, FLAGS).map(Moved::Fully)
            });
            match accepted {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                accepted => return accepted.map(|accepted| self.listened(accepted)),
            }
        }
    }

    /// Accepts a connection that is there, without waiting.
    pub(in crate::net) fn try_accept(&self) -> io::Result<(Source, Option<SocketAddrAny>)> {
        let accepted = self.try_io(Direction::Read, |fd| {
            may_accept()?;
            rustix::net::acceptfrom_with(fd, FLAGS)
        });
        accepted.map(|accepted| self.listened(accepted))
    }

    fn listened<A>(&self, (fd, peer): (OwnedFd, A)) -> (Source, A) {
        (Source::accepted(fd, self), peer)
    }
}
