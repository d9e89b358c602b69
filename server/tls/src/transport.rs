//! What TLS goes over: anything that reads, writes and waits as our sockets do.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use maniple::net::{Shutdown, TcpStream, UnixStream};

/// A connection that [`Stream`](crate::Stream) can go over: [`TcpStream`], [`UnixStream`], or one of your own.
///
/// Calls take `&self`, since one coroutine may read while another writes. Those that wait end with the errors of
/// [`maniple::net`] when a deadline or a cancellation cuts them short.
pub trait Transport: Send + Sync {
    /// Reads some bytes, waiting for them; 0 at the end.
    ///
    /// # Errors
    /// If the connection failed, or the wait was cut short.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes some bytes, waiting for room, no longer than the write timeout.
    ///
    /// # Errors
    /// If the connection failed, or the wait was cut short.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Reads what is there.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is; else as [`Transport::read`].
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what there is room for.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is none; else as [`Transport::write`].
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Waits until there is something to read, the end included. It may return early.
    ///
    /// # Errors
    /// Kind `TimedOut` past `until`; or if the wait was cut short.
    fn wait_readable(&self, until: Option<Instant>) -> io::Result<()>;

    /// How long a write may wait.
    ///
    /// # Errors
    /// Kind `InvalidInput` if it is zero.
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Ends one direction or both.
    ///
    /// # Errors
    /// If the connection is gone.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Whether a read that was short has shown that nothing more is there, so that what waits for more does wait. If
    /// in doubt, no: which is what this says unless told otherwise.
    fn is_emptied_by_short_reads(&self) -> bool {
        false
    }
}

macro_rules! sockets {
    ($($socket:ty, $short_reads_tell:literal;)*) => {$(
        impl Transport for $socket {
            #[inline]
            fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                (&mut &*self).read(buffer)
            }

            #[inline]
            fn write(&self, bytes: &[u8]) -> io::Result<usize> {
                (&mut &*self).write(bytes)
            }

            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                <$socket>::try_read(self, buffer)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                <$socket>::try_write(self, bytes)
            }

            #[inline]
            fn wait_readable(&self, until: Option<Instant>) -> io::Result<()> {
                match until {
                    Some(until) => self.wait_readable_until(until),
                    None => <$socket>::wait_readable(self),
                }
            }

            fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                <$socket>::set_write_timeout(self, timeout)
            }

            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                <$socket>::shutdown(self, how)
            }

            fn is_emptied_by_short_reads(&self) -> bool {
                $short_reads_tell
            }
        }
    )*};
}

// A read from a Unix-domain socket stops where descriptors came along.
sockets! {
    TcpStream, true;
    UnixStream, false;
}
