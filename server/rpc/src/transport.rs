//! What connections go over: TCP, Unix-domain sockets, and TLS over TCP.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Read, Write},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use maniple::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UnixListener, UnixStream};
#[cfg(feature = "tls")]
use maniple_tls as tls;
use rustix::fs::{FlockOperation, flock};

use crate::address::{Address, unix_address, unix_name};

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<tls::Stream<TcpStream>>),
}

impl Stream {
    /// Connects to a `host:port`, or to `unix:` and a path, or `@` and a name.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        match unix_name(address) {
            Some(name) => UnixStream::connect_addr(&unix_address(name)?).map(Stream::Unix),
            None => TcpStream::connect(address).map(Stream::Tcp),
        }
    }

    /// The addresses of this end and of the other.
    pub(crate) fn ends(&self) -> io::Result<[Address; 2]> {
        Ok(match self {
            Stream::Unix(stream) => [stream.local_addr()?, stream.peer_addr()?]
                .map(|address| Address::of_unix(&address)),
            Stream::Tcp(stream) => [stream.local_addr()?, stream.peer_addr()?].map(Address::Tcp),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => {
                let stream = stream.transport();
                [stream.local_addr()?, stream.peer_addr()?].map(Address::Tcp)
            }
        })
    }

    /// Has what is written leave at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nodelay(true),
            Stream::Unix(_) => Ok(()),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.transport().set_nodelay(true),
        }
    }

    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => (&mut &**stream).read(buffer),
        }
    }

    #[inline]
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.try_write(bytes),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write_vectored(slices),
            // One after the other: the rest is for the next call.
            _ => match slices.iter().find(|slice| !slice.is_empty()) {
                Some(first) => self.try_write(first),
                None => Ok(0),
            },
        }
    }

    /// Waits for room, no longer than the write timeout.
    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write_vectored(slices),
            Stream::Unix(stream) => (&mut &*stream).write_vectored(slices),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => (&mut &**stream).write_vectored(slices),
        }
    }

    /// Whether something was taken that is still to leave, once there is room: [`Stream::flush`] waits for that.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.is_behind(),
        }
    }

    /// Waits until all that was taken has left, no longer than the write timeout.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => (&mut &**stream).flush(),
        }
    }

    pub(crate) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Stream::Unix(stream) => stream.set_write_timeout(Some(timeout)),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }

    /// To end both directions does not wait; to end one waits no longer than the write timeout.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.shutdown(how),
        }
    }

    /// What the kernel has in its queues: bytes that came and were not read, and bytes that the peer has not acknowledged, or
    /// over a Unix-domain socket not read.
    pub(crate) fn queues(&self) -> (u64, usize) {
        let of_tcp = |stream: &TcpStream| {
            let unread = rustix::io::ioctl_fionread(stream).unwrap_or(0);
            (unread, stream.unacknowledged().unwrap_or(0))
        };
        match self {
            Stream::Tcp(stream) => of_tcp(stream),
            Stream::Unix(stream) => {
                let unread = rustix::io::ioctl_fionread(stream).unwrap_or(0);
                (unread, stream.unread_by_peer().unwrap_or(0))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => of_tcp(stream.transport()),
        }
    }
}

/// What a server accepts connections from: of TCP, or a Unix-domain socket.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    /// The file of a socket, which is ours as long as this is locked.
    _place: Option<Place>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self {
            kind: Kind::Tcp(listener),
            _place: None,
        }
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self {
            kind: Kind::Unix(listener),
            _place: None,
        }
    }
}

impl Listener {
    pub(crate) fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(TcpListener::bind(address)?.into())
    }

    /// At a path, whose file is replaced if no process has it any more; or at `@` and a name that is no file.
    pub(crate) fn bind_unix(name: &str) -> io::Result<Self> {
        let mut place = match name.starts_with('@') {
            true => None,
            false => Some(Place::take(Path::new(name))?),
        };
        let listener = UnixListener::bind_addr(&unix_address(name)?)?;
        if let Some(place) = &mut place {
            place.is_bound = true;
        }
        Ok(Self {
            kind: Kind::Unix(listener),
            _place: place,
        })
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        Ok(match &self.kind {
            Kind::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            Kind::Unix(listener) => Stream::Unix(listener.accept()?.0),
        })
    }

    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(match &self.kind {
            Kind::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Kind::Unix(listener) => Address::of_unix(&listener.local_addr()?),
        })
    }

    #[cfg(feature = "tls")]
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.kind, Kind::Tcp(_))
    }
}

/// The path of a socket, for one process at a time: a port is free once its process has gone, however that was, and the file
/// of a socket stays. So who has a lock beside it may replace it; the kernel lets go of that lock with the process.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Whether what lies there is ours.
    is_bound: bool,
    _locked: File,
}

impl Place {
    fn take(path: &Path) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let locked = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(beside)?;
        match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => return Err(error.into()),
        }
        match fs::symlink_metadata(path) {
            // Nothing but a socket is removed.
            Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
            _ => {}
        }
        Ok(Self {
            path: path.to_owned(),
            is_bound: false,
            _locked: locked,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_bound {
            // Who comes next replaces what is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}
