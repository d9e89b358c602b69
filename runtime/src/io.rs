//! Moving bytes from a reader to a writer, in this process or inside the kernel.

use std::io::{self, Read, Write};

use crate::net::one_way;
pub use crate::net::{Duplex, SpliceFrom, SpliceTo, splice};

/// Copies what `reader` has, until its end, to `writer`, and returns how many bytes it was.
///
/// Copies like [`std::io::copy`], with a buffer of 64 KiB, which is on the heap: coroutines' stacks are small. The
/// writer is not flushed. From socket to socket, [`splice`] spares the copy.
///
/// # Errors
/// The first error of either, except for `Interrupted`, which is tried again. What was read and not yet
/// written is then lost. A wait that is cut short is an error of the side that waited.
///
/// # Examples
/// ```
/// let mut text = Vec::new();
/// assert_eq!(maniple::io::copy(&mut &b"some bytes"[..], &mut text)?, 10);
/// assert_eq!(text, b"some bytes");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: Read + ?Sized,
    W: Write + ?Sized,
{
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        writer.write_all(&buffer[..n])?;
        total += n as u64;
    }
}

const BUFFER_BYTES: usize = 64 << 10;

/// Copies both ways at once, by [`splice`], until both have ended: a proxy between two connections. Returns how
/// many bytes went from `one` to `other`, and how many came back.
///
/// When one has no more, the sending half of the other is closed, so that the end travels on while the other
/// direction may still flow. The second direction runs in a child of the caller's.
///
/// # Errors
/// The first error of either direction, which ends the other one too. The connections are then best closed.
///
/// # Panics
/// If there is no stack left for the child.
///
/// # Examples
/// ```
/// use maniple::net::{TcpListener, TcpStream};
/// # fn proxy(listener: TcpListener, upstream: std::net::SocketAddr) -> std::io::Result<()> {
/// for client in listener.incoming() {
///     let client = client?;
///     maniple::spawn(move || {
///         let server = TcpStream::connect(upstream)?;
///         maniple::io::copy_bidirectional(&client, &server)
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[allow(clippy::redundant_closure_call)] // The macro's, which inside its own crate is not known as foreign.
pub fn copy_bidirectional<A, B>(one: &A, other: &B) -> io::Result<(u64, u64)>
where
    A: Duplex + Sync,
    B: Duplex + Sync,
{
    crate::try_join!(one_way(one, other), one_way(other, one))
}
