//! Moving bytes from one descriptor to another inside the kernel (splice(2)).
//!
//! One of the two must be a pipe, so the bytes go through one of our own. It is held only while bytes are
//! in it: a connection that idles costs no descriptors. Empty pipes are kept for the next, up to [`KEPT`].

use std::{
    io::{self, Read, Write},
    os::fd::{BorrowedFd, OwnedFd},
    sync::LazyLock,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::RecvFlags,
    pipe::{PIPE_BUF, PipeFlags, SpliceFlags, pipe_with},
};

use super::{
    PipeReader, PipeWriter, Shutdown, TcpStream, UnixStream,
    source::{Moved, Source},
};
use crate::sys::{event::Direction, spin::SpinLock};

/// What can be spliced from: [`TcpStream`], [`UnixStream`] and [`PipeReader`].
pub trait SpliceFrom: sealed::Reads {}

/// What can be spliced to: [`TcpStream`], [`UnixStream`] and [`PipeWriter`].
pub trait SpliceTo: sealed::Writes {}

/// A connection, whose sending half can be closed: [`TcpStream`] and [`UnixStream`].
pub trait Duplex: SpliceFrom + SpliceTo + sealed::Halves {}

/// Moves bytes from one descriptor to the other until the first has no more, without copying them to this
/// process. Returns how many. Closes neither, and works as [`copy`](crate::io::copy) does where the kernel
/// cannot splice the two, or the process has no descriptors left for a pipe.
///
/// Read and write timeouts hold for each wait.
///
/// # Errors
/// The first error of either side, also that of a wait that was cut short. What was read and not yet written
/// is then lost.
///
/// # Examples
/// ```
/// use maniple::net::UnixStream;
/// use std::io::{Read, Write};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let (mut source, from) = UnixStream::pair()?;
///     let (to, mut sink) = UnixStream::pair()?;
///     source.write_all(b"through the kernel")?;
///     drop(source);
///     assert_eq!(maniple::io::splice(&from, &to)?, 18);
///     drop(to);
///     let mut text = String::new();
///     sink.read_to_string(&mut text)?;
///     assert_eq!(text, "through the kernel");
///     Ok(())
/// })
/// # }
/// ```
pub fn splice<F: SpliceFrom, T: SpliceTo>(from: &F, to: &T) -> io::Result<u64> {
    let mut total = 0;
    loop {
        match from.fill() {
            Ok(mut pipe) if pipe.bytes > 0 => {
                let n = pipe.bytes as u64;
                if !drain(&mut pipe, to)? {
                    copy_bytes(&pipe.take_bytes()?, to)?;
                    return Ok(total + n + copy_rest(from, to)?);
                }
                total += n;
            }
            Ok(_) => return Ok(total),
            Err(error) if cannot(&error) => return Ok(total + copy_rest(from, to)?),
            Err(error) => return Err(error),
        }
    }
}

/// Splices until the end, and hands the end on.
pub(crate) fn one_way<F: Duplex, T: Duplex>(from: &F, to: &T) -> io::Result<u64> {
    let bytes = splice(from, to)?;
    match to.end_writing() {
        // It is gone already: nobody to tell.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(bytes),
        ended => ended.map(|()| bytes),
    }
}

/// Bytes to move at once, and the size of the buffer where they are copied.
const PART: usize = 64 << 10;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Empties the pipe; false if these two cannot be spliced.
fn drain<T: SpliceTo>(pipe: &mut Pipe, to: &T) -> io::Result<bool> {
    while pipe.bytes > 0 {
        match to.drain(pipe) {
            Ok(()) => {}
            Err(error) if cannot(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Whether the bytes have to be copied instead.
fn cannot(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::INVAL, Errno::MFILE, Errno::NFILE].contains(&errno))
}

#[cold]
fn copy_rest<F: SpliceFrom, T: SpliceTo>(from: &F, to: &T) -> io::Result<u64> {
    let mut buffer = vec![0; PART];
    let mut total = 0;
    loop {
        let n = from.read_some(&mut buffer)?;
        if n == 0 {
            return Ok(total);
        }
        copy_bytes(&buffer[..n], to)?;
        total += n as u64;
    }
}

fn copy_bytes<T: SpliceTo>(mut bytes: &[u8], to: &T) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write_some(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => bytes = &bytes[n..],
        }
    }
    Ok(())
}

/// A pipe of our own, which goes back to the others when it is dropped empty.
#[derive(Debug)]
pub struct Pipe {
    /// The reader and the writer; gone in drop alone.
    ends: Option<(OwnedFd, OwnedFd)>,
    bytes: usize,
}

/// Pipes that are kept at most.
const KEPT: usize = 64;

static SPARE: LazyLock<SpinLock<Vec<(OwnedFd, OwnedFd)>>> =
    LazyLock::new(|| SpinLock::new(Vec::new()));

impl Pipe {
    fn take() -> rustix::io::Result<Self> {
        let spare = SPARE.lock().pop();
        let ends = match spare {
            Some(ends) => ends,
            None => pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?,
        };
        Ok(Self {
            ends: Some(ends),
            bytes: 0,
        })
    }

    /// A pipe with what a call on `source` finds, or, at its end, without.
    fn filled(source: &Source, timeout: Option<Duration>) -> io::Result<Self> {
        let mut failed = false;
        source.io(Direction::Read, timeout, |fd| {
            // Taken only now: nothing is held while there is nothing to read.
            let mut pipe = Self::take()?;
            match pipe.fill(fd) {
                // Twice, with the word in between that something is there.
                Err(Errno::AGAIN) if failed => pipe.fill_by_hand(fd)?,
                filled => filled.inspect_err(|errno| failed = *errno == Errno::AGAIN)?,
            }
            match pipe.bytes {
                0 => source.at_end().map(|_| Moved::Fully(pipe)),
                _ => Ok(Moved::Filled(pipe)),
            }
        })
    }

    fn fill(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let Some((_, writer)) = &self.ends else {
            return Ok(());
        };
        self.bytes = rustix::pipe::splice(from, None, writer, None, PART, FLAGS)?;
        Ok(())
    }

    /// Where splice(2) finds nothing although something is there: on a TCP connection it never goes past a byte
    /// that the peer has marked as urgent. A receive does, and leaves that byte out.
    #[cold]
    fn fill_by_hand(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let mut buffer = [0; PIPE_BUF];
        let n = match rustix::net::recv(from, &mut buffer, RecvFlags::DONTWAIT) {
            Err(Errno::NOTSOCK) => return Err(Errno::AGAIN),
            received => received?.0,
        };
        if let Some((_, writer)) = &self.ends {
            // An empty pipe has room for that much.
            self.bytes = rustix::io::write(writer, &buffer[..n])?;
            debug_assert_eq!(self.bytes, n);
        }
        Ok(())
    }

    fn drain(&mut self, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if let Some((reader, _)) = &self.ends {
            self.bytes -= rustix::pipe::splice(reader, None, to, None, self.bytes, FLAGS)?;
        }
        Ok(())
    }

    /// What is in it, copied out.
    #[cold]
    fn take_bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        if let Some((reader, _)) = &self.ends {
            let mut at = 0;
            while at < bytes.len() {
                match rustix::io::read(reader, &mut bytes[at..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => at += n,
                }
            }
        }
        self.bytes = 0;
        Ok(bytes)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.bytes > 0 {
            return;
        }
        let mut spare = SPARE.lock();
        if spare.len() < KEPT {
            spare.extend(self.ends.take());
        }
    }
}

mod sealed {
    use super::*;

    pub trait Reads {
        /// Waits for something to read, and moves it into a pipe.
        fn fill(&self) -> io::Result<Pipe>;
        fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize>;
    }

    pub trait Writes {
        /// Waits for room, and moves there what is in the pipe, as far as it goes.
        fn drain(&self, pipe: &mut Pipe) -> io::Result<()>;
        fn write_some(&self, bytes: &[u8]) -> io::Result<usize>;
    }

    pub trait Halves {
        fn end_writing(&self) -> io::Result<()>;
    }
}

macro_rules! reads {
    ($ours:ty, $timeout:expr) => {
        impl SpliceFrom for $ours {}

        impl sealed::Reads for $ours {
            fn fill(&self) -> io::Result<Pipe> {
                let timeout: fn(&Self) -> Option<Duration> = $timeout;
                Pipe::filled(&self.source, timeout(self))
            }

            fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
                (&mut &*self).read(buffer)
            }
        }
    };
}

macro_rules! writes {
    ($ours:ty, $timeout:expr) => {
        impl SpliceTo for $ours {}

        impl sealed::Writes for $ours {
            fn drain(&self, pipe: &mut Pipe) -> io::Result<()> {
                let timeout: fn(&Self) -> Option<Duration> = $timeout;
                (self.source).io(Direction::Write, timeout(self), |fd| {
                    self.source.send_by_kernel();
                    pipe.drain(fd).map(Moved::Fully)
                })
            }

            fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
                (&mut &*self).write(bytes)
            }
        }
    };
}

macro_rules! duplex {
    ($ours:ty) => {
        reads!($ours, <$ours>::read_timeout);
        writes!($ours, <$ours>::write_timeout);

        impl Duplex for $ours {}

        impl sealed::Halves for $ours {
            fn end_writing(&self) -> io::Result<()> {
                self.shutdown(Shutdown::Write)
            }
        }
    };
}

duplex!(TcpStream);
duplex!(UnixStream);
reads!(PipeReader, |_| None);
writes!(PipeWriter, |_| None);
