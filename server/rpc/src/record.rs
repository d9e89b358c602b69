//! Recordings of what goes over connections, frame by frame, with times, in a file.
//!
//! A [`Recorder`] is what a [server](crate::server::Builder::record) or a [channel](crate::channel::Builder::record) is given;
//! [`crate::proxy`] records between programs that know nothing of it, and [`crate::replay`] makes the calls again. The command
//! `maniple-rpc` has all of them. What lies in the file is in the book's chapter on RPC.

use std::{
    fmt, io,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use maniple::{JoinHandle, cancel, fs, future::Poller, sync::Mutex, task};

pub use crate::recording::Damaged;
use crate::{
    frame::{CallId, Frame, Kind},
    recording::{self, Record, Way, What},
};

/// Makes a [`Recorder`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it creates a recording"]
pub struct Builder {
    max_bytes: u64,
    max_queued: usize,
}

impl Builder {
    /// Bytes of the file. Frames beyond are left out, and counted. Default: 1 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bytes that wait to be written while others are: frames beyond are left out, and counted. Default: 8 MiB. A recorder
    /// has twice that in memory at most.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued = bytes;
        self
    }

    /// Begins a recording in a new file, which nobody but its owner may read: it has what was said. In a coroutine it is
    /// written in that runtime, else in the default one.
    ///
    /// # Errors
    /// If there is a file of that name, or none can be made; if no coroutine can be had.
    pub fn create(self, path: impl AsRef<Path>) -> io::Result<Recorder> {
        let path = path.as_ref();
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("record to {}: {error}", path.display()),
            )
        };
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(path).map_err(named)?;
        let began = maniple::time::system_now().duration_since(SystemTime::UNIX_EPOCH);
        let began = u64::try_from(began.unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
        file.write_all(&recording::file_head(began))
            .map_err(named)?;
        let queue = Queue {
            total: recording::FILE_HEAD as u64,
            ..Queue::default()
        };
        let shared = Arc::new(Shared {
            settings: self,
            began: maniple::time::now(),
            poller: Poller::new(),
            connections: AtomicU32::new(0),
            queue: Mutex::new(queue),
        });
        let (written, name) = (shared.clone(), path.display().to_string());
        let writer = task::Builder::new().name("RPC recorder");
        let writing = writer.spawn(move || {
            if let Err(error) = written.write(&mut file) {
                written.fail(&name, &error);
            }
        })?;
        Ok(Recorder(Arc::new(Owner {
            shared,
            writing: Mutex::new(Some(writing)),
        })))
    }
}

/// Writes frames to a file. Clones write to the same.
///
/// Who sends or receives waits for no disk: frames go to a queue, which a coroutine writes. Those for which there is no
/// room, there or in the file, are left out and counted; so are all after a write that failed.
///
/// The recording is ended by [`finish`](Recorder::finish), or soon after the last clone was dropped. One that was not ended
/// can be read up to where it was written, and says that it has no end.
///
/// # Examples
/// ```
/// use maniple_rpc::{Server, record::Recorder};
///
/// # fn main() -> std::io::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("maniple-rpc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("doc.mrec");
/// maniple::run(|| {
///     let recorder = Recorder::create(&path)?;
///     let server = Server::builder().record(recorder.clone()).bind("127.0.0.1:0")?;
///     let handle = server.handle();
///     let serving = maniple::spawn(move || server.serve());
///     handle.drain();
///     serving.join()??;
///     let recorded = recorder.finish()?;
///     assert_eq!((recorded.frames, recorded.left_out), (0, 0));
/// #   std::fs::remove_dir_all(&folder)?;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    writing: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    settings: Builder,
    began: Instant,
    /// By which the writer waits.
    poller: Poller,
    connections: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// All that was written, or is to be.
    total: u64,
    frames: u64,
    left_out: u64,
    /// Those of them that the recording does not tell of yet.
    unsaid: u64,
    is_closed: bool,
    /// All of it lies in the file, the end too.
    is_written: bool,
    /// Why nothing more is written.
    failed: Option<(io::ErrorKind, String)>,
}

/// What a recording came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// Frames in it.
    pub frames: u64,
    /// Frames for which there was no room.
    pub left_out: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What is kept for the end of a recording, beyond its bound.
const LEAST: u64 = 64;

impl Recorder {
    /// A recording in a new file, with the defaults.
    ///
    /// # Errors
    /// Those of [`Builder::create`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::builder().create(path)
    }

    /// A recording with settings.
    pub fn builder() -> Builder {
        Builder {
            max_bytes: 1 << 30,
            max_queued: 8 << 20,
        }
    }

    /// What it has come to so far.
    pub fn recorded(&self) -> Recorded {
        self.0.shared.queue.lock().recorded()
    }

    /// Ends the recording, and waits until all of it is written. What other clones have to write after that is no part of it.
    ///
    /// # Errors
    /// If something could not be written, or the wait was cut short; after that of other clones as well.
    pub fn finish(self) -> io::Result<Recorded> {
        let Owner { shared, writing } = &*self.0;
        shared.close();
        // Locked while it is waited for: so do those who have a clone.
        let mut writing = writing.lock();
        if let Some(writing) = writing.take() {
            writing.join()?;
        }
        drop(writing);
        let queue = shared.queue.lock();
        match &queue.failed {
            Some((kind, why)) => Err(io::Error::new(*kind, why.clone())),
            None if !queue.is_written => Err(io::Error::other(
                "nobody waited until the recording was written",
            )),
            None => Ok(queue.recorded()),
        }
    }

    /// A connection that is recorded from now on, between these ends.
    pub(crate) fn connection(&self, client: String, server: String) -> Tape {
        let shared = &self.0.shared;
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        shared.add(None, |out, at| {
            let what = What::Begun { client, server };
            recording::write(
                out,
                &Record {
                    at,
                    connection,
                    what,
                },
            );
        });
        Tape {
            recorder: self.clone(),
            connection,
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.recorded();
        f.debug_struct("Recorder")
            .field("recorded", &recorded)
            .finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Queue {
    fn recorded(&self) -> Recorded {
        Recorded {
            frames: self.frames,
            left_out: self.left_out,
            bytes: self.total,
        }
    }
}

impl Shared {
    /// Adds a record of a frame whose body has so many bytes, or of none, if there is room.
    fn add(&self, frame: Option<usize>, record: impl FnOnce(&mut Vec<u8>, Duration)) {
        let (frames, body) = (u64::from(frame.is_some()), frame.unwrap_or(0));
        let mut queue = self.queue.lock();
        // With a note of what was left out before it, and the frame's own head.
        let most = body.saturating_add(4 * recording::RECORD_HEAD + 600);
        if queue.is_closed {
            // It came after the recording.
            return;
        }
        let is_open = queue.failed.is_none();
        let has_room = queue.bytes.len().saturating_add(most) <= self.settings.max_queued.max(most)
            && queue.total.saturating_add(most as u64 + LEAST) <= self.settings.max_bytes;
        if !is_open || !has_room {
            queue.left_out += frames;
            queue.unsaid += frames;
            return;
        }
        queue.frames += frames;
        // Under the lock, so that times do not go back.
        let at = maniple::time::now().saturating_duration_since(self.began);
        let was_empty = queue.bytes.is_empty();
        let before = queue.bytes.len();
        queue.tell_of_gap(at);
        record(&mut queue.bytes, at);
        queue.total += (queue.bytes.len() - before) as u64;
        drop(queue);
        if was_empty {
            self.poller.waker().wake_by_ref();
        }
    }

    fn close(&self) {
        self.queue.lock().is_closed = true;
        self.poller.waker().wake_by_ref();
    }

    /// Writes what comes until it is closed, or its runtime ends.
    fn write(&self, file: &mut fs::File) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let waited = self.poller.wait(None, |_| {
                let mut queue = self.queue.lock();
                if queue.bytes.is_empty() && !queue.is_closed {
                    return Poll::Pending;
                }
                std::mem::swap(&mut bytes, &mut queue.bytes);
                Poll::Ready(queue.is_closed)
            });
            let is_last = waited.unwrap_or(true);
            if is_last {
                self.end(&mut bytes);
            }
            // Whole records, also at the end.
            cancel::shield(|| file.write_all(&bytes))?;
            if is_last {
                self.queue.lock().is_written = true;
                return Ok(());
            }
        }
    }

    /// Adds what is left, and the end.
    fn end(&self, bytes: &mut Vec<u8>) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        let before = queue.bytes.len();
        let at = maniple::time::now().saturating_duration_since(self.began);
        queue.tell_of_gap(at);
        recording::write(
            &mut queue.bytes,
            &Record {
                at,
                connection: 0,
                what: What::End,
            },
        );
        queue.total += (queue.bytes.len() - before) as u64;
        bytes.extend_from_slice(&queue.bytes);
        queue.bytes = Vec::new();
    }

    #[cold]
    fn fail(&self, name: &str, error: &io::Error) {
        let why = format!("record to {name}: {error}");
        maniple::panics::catch(|| log::warn!("RPC: {why}: nothing more is recorded"));
        let mut queue = self.queue.lock();
        queue.failed = Some((error.kind(), why));
        queue.bytes = Vec::new();
    }
}

impl Queue {
    fn tell_of_gap(&mut self, at: Duration) {
        let unsaid = std::mem::take(&mut self.unsaid);
        if unsaid > 0 {
            recording::write(
                &mut self.bytes,
                &Record {
                    at,
                    connection: 0,
                    what: What::LeftOut(unsaid),
                },
            );
        }
    }
}

/// A connection in a recording; dropped, it has ended.
pub(crate) struct Tape {
    recorder: Recorder,
    connection: u32,
}

impl Tape {
    pub(crate) fn frame(&self, way: Way, frame: &Frame) {
        let head = (frame.kind, frame.flags, frame.call);
        self.pieces(way, head, [&frame.body, &[]]);
    }

    /// A frame whose body lies in two pieces.
    pub(crate) fn pieces(&self, way: Way, head: (Kind, u8, CallId), body: [&[u8]; 2]) {
        let size = body[0].len() + body[1].len();
        self.recorder.0.shared.add(Some(size), |out, at| {
            recording::write_frame(out, (way, at, self.connection), head, body);
        });
    }

    /// Some frames of it are not recorded, since they could not be read.
    pub(crate) fn cannot_read(&self) {
        let mut queue = self.recorder.0.shared.queue.lock();
        queue.left_out += 1;
        queue.unsaid += 1;
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        let connection = self.connection;
        self.recorder.0.shared.add(None, |out, at| {
            recording::write(
                out,
                &Record {
                    at,
                    connection,
                    what: What::Ended,
                },
            );
        });
    }
}

/// An attachment that lies elsewhere than the frame that it belongs to.
pub(crate) fn beside(attachment: &Bytes, is_beside: bool) -> &[u8] {
    match is_beside {
        true => attachment,
        false => &[],
    }
}
