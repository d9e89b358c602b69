//! What a replay is told, and tells.

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicUsize,
    time::Duration,
};

use maniple::{
    cancel::CancelToken,
    sync::{Mutex, Notify},
};

use crate::{recording::Damaged, status::Status};

/// When recorded calls are made again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Pace {
    /// At their times, whatever becomes of those before; with 2.0, in half the time.
    Times(f64),
    /// As soon as all is answered that was answered before it in the recording: as fast as it goes, with no more at a time
    /// than there were, and none before what it may have followed from.
    AsAnswered,
}

/// Makes the calls of a recording again.
///
/// # Examples
/// ```no_run
/// use maniple_rpc::replay::{Pace, Replay};
///
/// # fn main() -> Result<(), maniple_rpc::replay::Error> {
/// let summary = maniple::run(|| {
///     Replay::of("traffic.mrec").pace(Pace::AsAnswered).to("127.0.0.1:7001")
/// })?;
/// println!("{summary}");
/// assert!(summary.is_same());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a replay does nothing until it is told where to"]
pub struct Replay {
    pub(super) path: PathBuf,
    pub(super) pace: Pace,
    pub(super) patience: Duration,
    pub(super) compares_metadata: bool,
    pub(super) only: Vec<String>,
    pub(super) only_idempotent: bool,
}

impl Replay {
    /// Of the calls in a file that a [`Recorder`](crate::record::Recorder) has written.
    pub fn of(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            pace: Pace::Times(1.0),
            patience: Duration::from_secs(30),
            compares_metadata: false,
            only: Vec::new(),
            only_idempotent: false,
        }
    }

    /// Default: at the recorded times.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// How long an answer may take, once it is waited for, before its call is given up. Default: 30 s.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Whether answers differ whose metadata do. Default: no, since there are times and names of processes in them.
    pub fn compare_metadata(mut self, compares: bool) -> Self {
        self.compares_metadata = compares;
        self
    }

    /// One of the methods whose calls are made, `/package.Service/Method`. Default: all are.
    pub fn only(mut self, path: impl Into<String>) -> Self {
        self.only.push(path.into());
        self
    }

    /// Whether only calls are made whose caller said that they may be carried out more than once. Default: no.
    pub fn only_idempotent(mut self, only: bool) -> Self {
        self.only_idempotent = only;
        self
    }
}

/// Why nothing was replayed, or not all.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    File(String, io::Error),
    /// It is none that a recorder has written.
    NoRecording(String, Damaged),
    /// A pace that is no number above 0.
    Pace(f64),
    /// No coroutine can be had.
    Calls(io::Error),
    /// No server is there, or not any more.
    NoServer(Status),
    /// The replay was cut short.
    Cut(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File(name, error) => write!(f, "read {name}: {error}"),
            Error::NoRecording(name, damaged) => write!(f, "{name}: {damaged}"),
            Error::Pace(pace) => write!(f, "a pace of {pace}"),
            Error::Calls(error) => write!(f, "make calls: {error}"),
            Error::NoServer(status) => write!(f, "make calls: {status}"),
            Error::Cut(error) => write!(f, "the replay was cut short: {error}"),
        }
    }
}

impl error::Error for Error {}

/// What a replay came to. It says so in a few lines.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Records that were read.
    pub records: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Those that were answered as in the recording.
    pub same: u64,
    /// Those that were answered otherwise, or not at all.
    pub different: u64,
    /// Those whose caller had given them up, or whose answer, or messages, are not in the recording: what comes is not
    /// looked at.
    pub not_compared: u64,
    /// Calls that were not made, since they were not asked for.
    pub passed_over: u64,
    /// Frames that the recording says it has not.
    pub left_out: u64,
    /// The first differences, each in a line.
    pub differences: Vec<String>,
    /// Where the recording could not be read on.
    pub damaged: Option<Damaged>,
    /// How long the calls that were compared took in the recording, and how long they took now; in microseconds.
    pub(super) then: Vec<u32>,
    pub(super) now: Vec<u32>,
}

/// Differences that are told.
pub(super) const TOLD: usize = 100;

impl Summary {
    /// Whether all that could be compared is the same, and the recording is whole.
    pub fn is_same(&self) -> bool {
        self.different == 0 && self.damaged.is_none()
    }

    /// How long that share of the compared calls took at most, in the recording and now: 0.5 for the median.
    pub fn within(&self, share: f64) -> Option<[Duration; 2]> {
        let of = |times: &[u32]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            let last = times.len().checked_sub(1)?;
            let at = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
            Some(Duration::from_micros(times[at.min(last)].into()))
        };
        Some([of(&self.then)?, of(&self.now)?])
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        let untold = self.different.saturating_sub(self.differences.len() as u64);
        if untold > 0 {
            writeln!(f, "and {untold} more")?;
        }
        write!(
            f,
            "{} calls: {} answered the same, {} not, {} not compared",
            self.calls, self.same, self.different, self.not_compared
        )?;
        if self.passed_over > 0 {
            write!(f, "; {} passed over", self.passed_over)?;
        }
        if self.left_out > 0 {
            write!(f, "; {} frames are not in the recording", self.left_out)?;
        }
        for (name, share) in [("median", 0.5), ("99 %", 0.99)] {
            if let Some([then, now]) = self.within(share) {
                write!(f, "\n{name}: {now:?}, in the recording {then:?}")?;
            }
        }
        match &self.damaged {
            Some(damaged) => write!(f, "\nthe recording is damaged: {damaged}"),
            None => Ok(()),
        }
    }
}

pub(super) struct Shared {
    pub(super) settings: Replay,
    pub(super) address: String,
    /// Calls that have not ended.
    pub(super) underway: AtomicUsize,
    /// One of them has, or has heard something.
    pub(super) news: Notify,
    pub(super) summary: Mutex<Summary>,
    pub(super) stop: CancelToken,
    /// Why there is no server any more.
    pub(super) gone: Mutex<Option<Status>>,
}
