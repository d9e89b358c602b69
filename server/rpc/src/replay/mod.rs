//! Recorded calls made again, and their answers beside those that were recorded.

mod call;
mod director;
mod told;

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Arc, atomic::AtomicUsize},
};

use maniple::{
    cancel::CancelToken,
    fs,
    sync::{Mutex, Notify},
};

use crate::recording::{Reader, Unread};

use director::Director;
use told::Shared;

pub use told::{Error, Pace, Replay, Summary};

impl Replay {
    /// Makes the calls to the server at `host:port`: over as many connections as were recorded, and with the times that their
    /// callers gave them. None is made twice. Messages of streams are sent in the order, among the others of their call, in
    /// which they were; a call that was given up is given up again.
    ///
    /// # Errors
    /// [`Error`]. A recording that is damaged is one whose calls are made up to there: see [`Summary::damaged`].
    pub fn to(self, address: impl Into<String>) -> Result<Summary, Error> {
        let name = self.path.display().to_string();
        let mut file =
            fs::File::open(&self.path).map_err(|error| Error::File(name.clone(), error))?;
        let mut reader = match Reader::open(move |bytes: &mut [u8]| read_some(&mut file, bytes)) {
            Ok(reader) => reader,
            Err(Unread::Io(error)) => return Err(Error::File(name, error)),
            Err(Unread::Damaged(damaged)) => return Err(Error::NoRecording(name, damaged)),
        };
        if let Pace::Times(speed) = self.pace
            && !(speed > 0.0 && speed.is_finite())
        {
            return Err(Error::Pace(speed));
        }
        let shared = Arc::new(Shared {
            settings: self,
            address: address.into(),
            underway: AtomicUsize::new(0),
            news: Notify::new(),
            summary: Mutex::new(Summary::default()),
            stop: CancelToken::new(),
            gone: Mutex::new(None),
        });
        // Whatever ends this, no call goes on.
        let _stopping = Stopping(&shared.stop);
        let mut director = Director {
            shared: &shared,
            began: maniple::time::now(),
            channels: HashMap::new(),
            calls: HashMap::new(),
        };
        let damaged = loop {
            match reader.next() {
                Ok(Some(record)) => director.follow(record)?,
                Ok(None) => break None,
                Err(Unread::Damaged(damaged)) => break Some(damaged),
                Err(Unread::Io(error)) => return Err(Error::File(name, error)),
            }
        };
        director.end()?;
        let mut summary = std::mem::take(&mut *shared.summary.lock());
        summary.damaged = damaged;
        summary.records = reader.records();
        Ok(summary)
    }
}

fn read_some(file: &mut fs::File, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

struct Stopping<'a>(&'a CancelToken);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
