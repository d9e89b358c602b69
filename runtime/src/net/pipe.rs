//! Pipes, and other descriptors that are read or written as pipes are.

use std::{
    fmt,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::pipe::{PIPE_BUF, PipeFlags, pipe_with};

use super::{
    simulated,
    socket::{conversions, reader, slices_at_once, writer},
    source::{Moved, Source},
};
use crate::sys::event::Direction;

/// Makes a pipe: what is written to one end is read from the other, up to 64 KiB later (pipe(7)).
///
/// # Errors
/// If the process has no descriptor left, or its user too much memory in pipes.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let (mut reader, mut writer) = maniple::net::pipe()?;
///     let read = maniple::spawn(move || -> std::io::Result<String> {
///         let mut text = String::new();
///         reader.read_to_string(&mut text)?;
///         Ok(text)
///     });
///     writer.write_all(b"through the pipe")?;
///     drop(writer);
///     assert_eq!(read.join()??, "through the pipe");
///     Ok(())
/// })
/// # }
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    simulated::take_descriptor()?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((
        PipeReader::with_source(Source::new(reader)),
        PipeWriter::with_source(Source::new(writer)),
    ))
}

/// The end of a pipe that is read, in the shape of [`std::io::PipeReader`].
///
/// Reads need only `&PipeReader`. A wait that is cut short has consumed nothing.
///
/// # Examples
/// What a child process says, without holding up a worker:
/// ```
/// use maniple::net::PipeReader;
/// use std::{io::Read, process::{Command, Stdio}};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
///     let mut output = PipeReader::from_fd(child.stdout.take().unwrap())?;
///     let mut text = String::new();
///     output.read_to_string(&mut text)?;
///     assert_eq!(text, "hello\n");
///     child.wait().map(drop)
/// })
/// # }
/// ```
pub struct PipeReader {
    pub(in crate::net) source: Source,
}

/// The end of a pipe that is written, in the shape of [`std::io::PipeWriter`].
///
/// Writes need only `&PipeWriter`. Writing to a pipe that nobody reads any more is an error of kind
/// `BrokenPipe`; it also raises `SIGPIPE`, which Rust programs ignore unless told otherwise.
pub struct PipeWriter {
    pub(in crate::net) source: Source,
}

macro_rules! end {
    ($ours:ident, $name:literal, $std:ty) => {
        impl $ours {
            /// Takes over an existing descriptor: a pipe, a terminal, a character device.
            ///
            /// It is made non-blocking (`O_NONBLOCK`), and that for all who share it: duplicates and other
            /// processes see their calls fail with `EAGAIN` where they used to wait. A regular file can be
            /// used, but is always ready and holds the worker up.
            ///
            /// # Errors
            /// If the descriptor cannot be made non-blocking.
            pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
                let fd = fd.into();
                rustix::io::ioctl_fionbio(&fd, true)?;
                Ok(Self::with_source(Source::new(fd)))
            }

            fn with_source(source: Source) -> Self {
                Self { source }
            }

            /// A second handle to the same end.
            ///
            /// # Errors
            /// If the process has no descriptor left.
            pub fn try_clone(&self) -> io::Result<Self> {
                self.source.try_clone().map(Self::with_source)
            }
        }

        conversions!($ours, with_source);

        impl TryFrom<$std> for $ours {
            type Error = io::Error;

            /// As `from_fd`.
            fn try_from(std: $std) -> io::Result<Self> {
                Self::from_fd(std)
            }
        }

        impl TryFrom<$ours> for $std {
            type Error = io::Error;

            /// Gives the end to std and makes it blocking, for all who share it.
            fn try_from(ours: $ours) -> io::Result<Self> {
                let fd = OwnedFd::from(ours);
                rustix::io::ioctl_fionbio(&fd, false)?;
                Ok(fd.into())
            }
        }

        impl fmt::Debug for $ours {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name)
                    .field("fd", &self.source.as_fd().as_raw_fd())
                    .finish()
            }
        }
    };
}

end!(PipeReader, "PipeReader", std::io::PipeReader);
end!(PipeWriter, "PipeWriter", std::io::PipeWriter);

impl PipeReader {
    /// Reads what is there, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = simulated::part(buffer.len(), PIPE_BUF);
        self.source.try_io(Direction::Read, |fd| {
            rustix::io::read(fd, &mut buffer[..part])
        })
    }

    /// Waits until there is something to read or nobody is left who writes. It may return early.
    ///
    /// # Errors
    /// If the wait was cut short.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.source.wait_ready(Direction::Read, None)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.io(Direction::Read, None, |fd| {
            let part = simulated::part(buffer.len(), PIPE_BUF);
            let n = rustix::io::read(fd, &mut buffer[..part])?;
            // Terminals and pipes in packet mode give less than there is.
            Ok(match n {
                0 => Moved::Fully(n),
                _ => Moved::Filled(n),
            })
        })
    }
}

impl PipeWriter {
    fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source.io(Direction::Write, None, |fd| {
            let part = simulated::part(bytes.len(), PIPE_BUF);
            rustix::io::write(fd, &bytes[..part]).map(Moved::Fully)
        })
    }

    fn transmit_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.source.io(Direction::Write, None, |fd| {
            let slices = simulated::part_of(slices_at_once(slices), PIPE_BUF);
            rustix::io::writev(fd, slices).map(Moved::Fully)
        })
    }
}

reader!(PipeReader, &PipeReader);
writer!(PipeWriter, &PipeWriter);
