//! Coroutines that begin once a descriptor is readable, on whichever worker is free then.

use std::{os::fd::AsFd, time::Instant};

use super::{JoinHandle, typed};
use crate::{
    local,
    scheduler::{Worker, current_scheduler},
};

/// Runs `body` on a new coroutine once `source` is readable, has hung up or failed, or `until` has come.
///
/// Until then it costs a heap object: no stack, and no worker. Then it goes to whichever worker is free, as
/// any coroutine that has not begun. This is how a server keeps many idle connections, and how a connection
/// gets to another worker between two requests: a coroutine that has begun stays with its own.
///
/// The body finds out what it was begun for by trying to read without waiting, for instance with
/// [`TcpStream::try_read`](crate::net::TcpStream::try_read). It may also be begun for nothing, where the
/// kernel cannot watch the descriptor. The deadline is kept to some 200 ms. Arming costs one `epoll_ctl`.
///
/// One at a time can wait like this for a descriptor: a second one takes the first one's event, which then
/// begins at its deadline. Several that wait for one socket need descriptors of their own (`try_clone`).
///
/// What the calling worker still watches it is woken for: see
/// [`TcpStream::unwatch`](crate::net::TcpStream::unwatch).
///
/// # Cancellation
/// It inherits none, like what is [spawned](crate::spawn()). Cancelled on standby it will not run; that is carried out
/// when it would have begun. If the runtime ends first, `body` is dropped.
///
/// # Panics
/// Panics as [`spawn`](crate::spawn()) does.
///
/// # Examples
/// ```
/// use maniple::{net::{TcpListener, TcpStream}, task};
/// use std::{io::{Read, Write}, time::{Duration, Instant}};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut client = TcpStream::connect(listener.local_addr()?)?;
///     let (stream, _peer) = listener.accept()?;
///
///     let until = Instant::now() + Duration::from_secs(60);
///     let serving = task::spawn_when_readable(stream, until, |mut stream| {
///         let mut buffer = [0; 64];
///         let count = stream.read(&mut buffer)?;
///         stream.write_all(&buffer[..count])
///     });
///     client.write_all(b"hello")?;
///     let mut answer = [0; 5];
///     client.read_exact(&mut answer)?;
///     assert_eq!(&answer, b"hello");
///     serving.join()?
/// })
/// # }
/// ```
#[track_caller]
pub fn spawn_when_readable<S, F, T>(source: S, until: Instant, body: F) -> JoinHandle<T>
where
    S: AsFd + Send + 'static,
    F: FnOnce(S) -> T + Send + 'static,
    T: Send + 'static,
{
    let scheduler = current_scheduler();
    let class = scheduler.default_class;
    let locals = local::bequest();
    JoinHandle::new(typed::stand_by(
        scheduler, None, class, locals, source, until, body,
    ))
}

/// Whether a worker had much to do lately while another had nothing: for ten seconds after one has worked for
/// longer than a millisecond while another slept.
///
/// Coroutines that have begun do not move. So while this holds, what waits for its next piece of work serves
/// its user faster if it waits with [`spawn_when_readable`]. False on one worker, and on plain threads.
#[inline]
pub fn is_imbalanced() -> bool {
    Worker::current().is_some_and(Worker::is_imbalanced)
}
