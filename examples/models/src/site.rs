//! Where a model serves: its address, its backends, its size.

use std::{
    fs::File,
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
    process::{Signal, set_parent_process_death_signal},
};

use crate::work::{Backends, backend};

/// What a model is told when it starts.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where A, B and C are.
    pub backends: [SocketAddr; backend::COUNT],
    /// How many threads, processes or workers a model has that has a fixed number of them for waiting.
    pub workers: usize,
    /// How many it has for computing, and how many loops: as many as cores.
    pub cores: usize,
}

/// How many connections may wait to be accepted. The kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

impl Site {
    /// Listens, and prints where.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let listener = self.socket(false)?;
        self.announce(listener.local_addr()?)?;
        Ok(listener)
    }

    /// Several sockets that listen on one port, among which the kernel spreads the connections; prints where.
    pub fn listen_shared(&self, count: usize) -> io::Result<Vec<TcpListener>> {
        let first = self.socket(true)?;
        let site = Site {
            listen: first.local_addr()?,
            ..self.clone()
        };
        let rest = (1..count).map(|_| site.socket(true));
        let listeners = std::iter::once(Ok(first))
            .chain(rest)
            .collect::<io::Result<Vec<_>>>()?;
        self.announce(site.listen)?;
        Ok(listeners)
    }

    /// Prints where the model listens: the process that started it waits for this line.
    pub fn announce(&self, address: SocketAddr) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "listening on {address}")?;
        out.flush()
    }

    /// A client to the backends for code that blocks.
    pub fn backends(&self) -> Backends {
        Backends::new(self.backends)
    }

    fn socket(&self, shared: bool) -> io::Result<TcpListener> {
        let family = match self.listen {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, shared)?;
        bind(&socket, &self.listen)?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }
}

/// What to do when accepting fails, for code that may block: see [`pause_after_failed_accept`].
pub fn after_failed_accept(error: &io::Error) {
    if let Some(pause) = pause_after_failed_accept(error) {
        thread::sleep(pause);
    }
}

/// Where clients come in to a loop, which must not wait for them, nor sleep when there is no descriptor for one.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    /// Given up for a moment when there are no descriptors left, so that a client can be let in to be sent away:
    /// a listener that stays ready would keep the loop busy.
    spare: Option<File>,
}

impl Door {
    /// Over a listener, which becomes non-blocking.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let spare = Some(File::open("/dev/null")?);
        Ok(Self { listener, spare })
    }

    /// The next who knocks; `None` if nobody does.
    pub fn accept(&mut self) -> Option<TcpStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return None,
                    Some(libc::EMFILE) if self.spare.take().is_some() => {
                        // Without a descriptor it is not even said whether somebody is there.
                        let nobody = self.listener.accept().is_err();
                        self.spare = File::open("/dev/null").ok();
                        if nobody {
                            return None;
                        }
                    }
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        after_failed_accept(&error);
                        return None;
                    }
                    // One that knocked and left.
                    _ => {}
                },
            }
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// What to do when accepting fails: a connection that ended meanwhile is nothing; without a descriptor it is
/// better to wait a little than to ask again and again.
pub fn pause_after_failed_accept(error: &io::Error) -> Option<Duration> {
    let out_of_descriptors = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    let code = error.raw_os_error()?;
    out_of_descriptors
        .contains(&code)
        .then_some(Duration::from_millis(10))
}

/// Has the kernel end this process when the one that started it ends, however that comes.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}
