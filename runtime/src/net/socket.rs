//! What sockets of every kind share: flags, timeouts, and going to std and back.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::net::{
    AddressFamily, Shutdown as RawShutdown, SocketAddrAny, SocketFlags, SocketType, ipproto,
};

use super::{Shutdown, simulated};

pub(in crate::net) const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Connections that the kernel holds ready for a listener, unless said otherwise; the system's
/// `net.core.somaxconn` bounds it.
pub(in crate::net) const DEFAULT_BACKLOG: i32 = 4096;

/// A socket timeout that may be changed while others use the socket: nanoseconds, 0 for none.
pub(in crate::net) struct Timeout(AtomicU64);

impl Timeout {
    pub(in crate::net) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(in crate::net) fn store(&self, timeout: Option<Duration>) -> io::Result<()> {
        let nanos = match timeout {
            None => 0,
            Some(timeout) if timeout.is_zero() => return Err(zero_timeout()),
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(in crate::net) fn load(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

pub(in crate::net) fn zero_timeout() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a timeout of zero is not allowed",
    )
}

/// The buffers that one call takes, of those that there are.
pub(in crate::net) fn slices_at_once<'a, 'b>(slices: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    &slices[..slices.len().min(MOST_SLICES)]
}

/// Buffers that one call takes at most (`UIO_MAXIOV`, writev(2)).
const MOST_SLICES: usize = 1024;

pub(in crate::net) fn to_inet(address: SocketAddrAny) -> io::Result<SocketAddr> {
    let simulated = || simulated::address(&address);
    let address = SocketAddr::try_from(address.clone())
        .ok()
        .or_else(simulated);
    address.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the socket has no internet address",
        )
    })
}

/// A TCP socket for an address of that family.
pub(in crate::net) fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let (family, tcp) = (family(address), Some(ipproto::TCP));
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        FLAGS,
        tcp,
    )?)
}

pub(in crate::net) fn family(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

pub(in crate::net) fn raw_shutdown(how: Shutdown) -> RawShutdown {
    match how {
        Shutdown::Read => RawShutdown::Read,
        Shutdown::Write => RawShutdown::Write,
        Shutdown::Both => RawShutdown::Both,
    }
}

/// Descriptor traits of a type with a `source`, and the way to its counterpart in std, if it has one, and back.
macro_rules! conversions {
    ($ours:ident, $make:ident) => {
        impl ::std::os::fd::AsFd for $ours {
            fn as_fd(&self) -> ::std::os::fd::BorrowedFd<'_> {
                self.source.lend()
            }
        }

        impl ::std::os::fd::AsRawFd for $ours {
            fn as_raw_fd(&self) -> ::std::os::fd::RawFd {
                self.source.lend().as_raw_fd()
            }
        }

        impl From<$ours> for ::std::os::fd::OwnedFd {
            /// The descriptor, still non-blocking.
            fn from(ours: $ours) -> ::std::os::fd::OwnedFd {
                ours.source.into_fd()
            }
        }

        impl ::std::os::fd::IntoRawFd for $ours {
            fn into_raw_fd(self) -> ::std::os::fd::RawFd {
                ::std::os::fd::OwnedFd::from(self).into_raw_fd()
            }
        }

        impl TryFrom<::std::os::fd::OwnedFd> for $ours {
            type Error = ::std::io::Error;

            /// Takes over a descriptor that is a socket of this kind, and makes it non-blocking, clones of it included.
            /// With one of another kind calls fail.
            fn try_from(fd: ::std::os::fd::OwnedFd) -> ::std::io::Result<Self> {
                ::rustix::io::ioctl_fionbio(&fd, true)?;
                Ok($ours::$make($crate::net::source::Source::foreign(fd)))
            }
        }
    };
    ($ours:ident, $make:ident, $std:ty) => {
        conversions!($ours, $make);

        impl TryFrom<$std> for $ours {
            type Error = ::std::io::Error;

            /// Takes over a socket of std's and makes it non-blocking, clones of it included.
            fn try_from(std: $std) -> ::std::io::Result<Self> {
                std.set_nonblocking(true)?;
                let fd = ::std::os::fd::OwnedFd::from(std);
                Ok($ours::$make($crate::net::source::Source::foreign(fd)))
            }
        }

        impl TryFrom<$ours> for $std {
            type Error = ::std::io::Error;

            /// Gives the socket to std and makes it blocking, clones of it included.
            fn try_from(ours: $ours) -> ::std::io::Result<Self> {
                let std = <$std>::from(::std::os::fd::OwnedFd::from(ours));
                std.set_nonblocking(false)?;
                Ok(std)
            }
        }
    };
}

pub(in crate::net) use conversions;

/// The two timeouts of a type with a `read_timeout` and a `write_timeout`.
macro_rules! timeouts {
    ($ours:ident) => {
        impl $ours {
            /// Bounds each read's or receive's wait; `None`, the default, does not. The error has kind `TimedOut`.
            ///
            /// # Errors
            /// If the timeout is zero.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> ::std::io::Result<()> {
                self.read_timeout.store(timeout)
            }

            /// Bounds each write's or send's wait; `None`, the default, does not. The error has kind `TimedOut`.
            ///
            /// # Errors
            /// If the timeout is zero.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> ::std::io::Result<()> {
                self.write_timeout.store(timeout)
            }

            /// What `set_read_timeout` set.
            pub fn read_timeout(&self) -> Option<Duration> {
                self.read_timeout.load()
            }

            /// What `set_write_timeout` set.
            pub fn write_timeout(&self) -> Option<Duration> {
                self.write_timeout.load()
            }
        }
    };
}

pub(in crate::net) use timeouts;

/// `Read` for types that can `receive` by reference, and for references to them.
macro_rules! reader {
    ($($ours:ty),*) => {$(
        impl ::std::io::Read for $ours {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> ::std::io::Result<usize> {
                self.receive(buffer)
            }
        }
    )*};
}

pub(in crate::net) use reader;

/// `Write` for types that can `transmit` by reference, and for references to them.
macro_rules! writer {
    ($($ours:ty),*) => {$(
        impl ::std::io::Write for $ours {
            #[inline]
            fn write(&mut self, bytes: &[u8]) -> ::std::io::Result<usize> {
                self.transmit(bytes)
            }

            fn write_vectored(&mut self, slices: &[::std::io::IoSlice<'_>]) -> ::std::io::Result<usize> {
                self.transmit_vectored(slices)
            }

            fn flush(&mut self) -> ::std::io::Result<()> {
                Ok(())
            }
        }
    )*};
}

pub(in crate::net) use writer;
