//! How deep coroutines use their stacks, by where they were spawned and what they were doing.

use std::{fmt, panic::Location};

use crate::{
    coroutine::{Looks, looks},
    scheduler::watermark,
    stack::depth::{self, Buckets, Place, Tally},
};

/// What [`measure_depths`] is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeasureDepths {
    /// Nothing, from now on. What was measured can still be read.
    #[default]
    Off,
    /// Measure, and forget what was measured before.
    On,
    /// Measure like [`On`](Self::On), and give the memory of each stack back before a coroutine begins on it, so that
    /// what it touched is known of every one. Costs a system call for each coroutine, and a page fault for each page.
    OnFreshStacks,
}

/// Begins, or ends, to measure how deep coroutines use their stacks, for all runtimes of the process. Off by
/// default; then nothing is collected, and nothing of it is on any path but the test of a flag for each turn
/// that [`track`](super::track) has too.
///
/// Three things are measured:
///
/// * the depth at each suspension, to about an eighth: what a coroutine that waits keeps at the least;
/// * at the end of each coroutine, the deepest page that it has touched. A stack is used again with its memory as
///   it is, so of a coroutine that came no deeper than one before it this is not known, and counted as such,
///   unless [stacks are to be fresh](MeasureDepths::OnFreshStacks);
/// * in runtimes that [paint their stacks](crate::runtime::Builder::paint_stacks), the deepest byte it wrote. The
///   first 512 bytes are always taken for written, and 64 KiB are painted; below that the pages tell, which are
///   given back before for that. A frame is touched once in each page when it is made: of one that is reserved
///   and not written, less than its last page does not show. (C code may be compiled without that.)
///
/// Depths are counted by where the coroutine was spawned, by its name up to the first digit (`conn` of
/// `conn-17`), and by the label that it has given itself by [`depth_label`]. Up to 1,024 places and labels are
/// told apart, in up to 2,048 combinations for each of 16 sets of workers; the rest is counted together.
///
/// A [`dump`](super::dump()) meanwhile walks suspended stacks on these stacks themselves, which counts as use.
///
/// # Costs
/// While on: some twenty nanoseconds for each turn; for each coroutine an allocation and two calls of mincore(2),
/// that take the longer the larger its stack is, some microseconds in all. With painted stacks, a microsecond more
/// for each turn.
///
/// # Examples
/// ```
/// use maniple::inspect::{self, MeasureDepths};
/// let runtime = maniple::Runtime::builder().workers(1).paint_stacks(true).build()?;
/// inspect::measure_depths(MeasureDepths::On);
/// runtime.run(|| {
///     let deep = maniple::spawn(|| {
///         let mut room = [0_u8; 20_000];
///         std::hint::black_box(&mut room);
///     });
///     deep.join().unwrap();
/// });
/// inspect::measure_depths(MeasureDepths::Off);
/// let all = inspect::depths();
/// let deep = all.iter().find(|of| of.spawned_at().is_some_and(|at| at.file() == file!()
///     && of.name().is_none())).unwrap();
/// assert_eq!(deep.ended(), 1);
/// let deepest = deep.painted().max().unwrap();
/// assert!((20_000..30_000).contains(&deepest));
/// println!("{deep}");
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn measure_depths(measure: MeasureDepths) {
    let on = measure != MeasureDepths::Off;
    if on {
        depth::start_over(measure == MeasureDepths::OnFreshStacks);
    }
    Looks::set_depths(on);
}

/// Counts the depths of the calling coroutine under `label` from here on, until it sets another or ends. Does
/// nothing on a plain thread, or while depths are not [measured](measure_depths): then it costs a relaxed load.
///
/// Makes known what a coroutine was doing, where one does this and that: the connections of `maniple-server`
/// set the pattern of each request's route. A turn, from one suspension to the next, is looked at as a whole
/// and counts under the label that was in force at its end: so the reading of a request counts under its route,
/// and so does the wait for the one after it; and of requests that came at once and were answered without a
/// suspension in between, all count under the last one's. Pages are looked at when a coroutine ends and count
/// under its last label, whatever it did before.
///
/// ```
/// use maniple::inspect::{self, MeasureDepths};
/// inspect::measure_depths(MeasureDepths::On);
/// maniple::run(|| {
///     for page in ["front", "back"] {
///         inspect::depth_label(page);
///         maniple::yield_now();
///     }
/// });
/// inspect::measure_depths(MeasureDepths::Off);
/// let depths = inspect::depths();
/// let front = depths.iter().find(|of| of.label() == Some("front")).unwrap();
/// assert_eq!((front.suspended().count(), front.ended()), (1, 0));
/// ```
#[inline]
pub fn depth_label(label: &str) {
    if looks().depths() {
        watermark::set_label(label);
    }
}

/// What was measured so far, the deepest first; may be called at any time and from anywhere.
///
/// Stops workers for no longer than it takes to copy what they have measured. Coroutines that have not ended
/// count with their suspensions alone.
pub fn depths() -> Vec<DepthsOf> {
    let mut all: Vec<_> = depth::all()
        .into_iter()
        .map(|(place, label, tally)| DepthsOf::new(place, label, tally))
        .collect();
    all.sort_by_key(|of| {
        let at = of.spawned_at.map(|at| (at.file(), at.line()));
        (std::cmp::Reverse(of.deepest()), at, of.label.clone())
    });
    all
}

/// How deep the coroutines of one place, name and label used their stacks.
///
/// See [`measure_depths`] for an example.
#[derive(Clone, Debug)]
pub struct DepthsOf {
    spawned_at: Option<&'static Location<'static>>,
    name: Option<String>,
    label: Option<String>,
    ended: u64,
    unknown: u64,
    beyond_paint: u64,
    suspended: Distribution,
    resident: Distribution,
    painted: Distribution,
}

impl DepthsOf {
    fn new(place: Option<Place>, label: Option<String>, tally: Tally) -> Self {
        let (spawned_at, name) = match place {
            Some(place) => (Some(place.spawned_at), place.name),
            None => (None, None),
        };
        Self {
            spawned_at,
            name,
            label,
            ended: tally.ended,
            unknown: tally.unknown,
            beyond_paint: tally.beyond_paint,
            suspended: Distribution(tally.suspended),
            resident: Distribution(tally.resident),
            painted: Distribution(tally.painted),
        }
    }

    /// Where they were spawned; `None` for what came from more places than are told apart.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.spawned_at
    }

    /// Their name up to the first digit, if they have one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What [`depth_label`] was given; `None` before its first call, and beyond what is told apart.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Coroutines that have ended under this label.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Bytes of stack in use at each suspension.
    pub fn suspended(&self) -> &Distribution {
        &self.suspended
    }

    /// Bytes down to the deepest page that a coroutine has touched, for those of which this is known at their
    /// end: multiples of the page size. Of one whose stack was painted, the painted bytes are rounded up.
    pub fn resident(&self) -> &Distribution {
        &self.resident
    }

    /// Coroutines that ended and had come no deeper than one before them on the same stack, so that the pages
    /// say nothing of them.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Bytes down to the deepest that was written, one figure for each coroutine without labels, else for each
    /// time that it bore this label; none unless stacks are painted.
    pub fn painted(&self) -> &Distribution {
        &self.painted
    }

    /// How many of the [`painted`](Self::painted) came deeper than the paint. These count with their deepest page.
    /// Only where that is not known, as in locked memory that is not given back, they count with the depth of the
    /// paint, and may have come deeper.
    pub fn beyond_paint(&self) -> u64 {
        self.beyond_paint
    }

    /// The deepest of all: the painted bytes if there are any, else the pages, else the depth at a suspension.
    pub fn deepest(&self) -> usize {
        let Self {
            suspended,
            resident,
            painted,
            ..
        } = self;
        let exact = if self.beyond_paint > 0 {
            painted.max().max(resident.max())
        } else {
            painted.max().or(resident.max())
        };
        exact.max(suspended.max()).unwrap_or(0)
    }
}

/// One line: what, how many, and how deep.
impl fmt::Display for DepthsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spawned_at {
            Some(at) => write!(f, "{at}")?,
            None => f.write_str("elsewhere")?,
        }
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        if let Some(label) = &self.label {
            write!(f, " [{label}]")?;
        }
        write!(f, ": {} ended; suspended at {}", self.ended, self.suspended)?;
        write!(f, "; pages down to {}", self.resident)?;
        if self.unknown > 0 {
            write!(f, ", {} not known", self.unknown)?;
        }
        if self.painted.count() > 0 {
            write!(f, "; written down to {}", self.painted)?;
        }
        if self.beyond_paint > 0 {
            write!(f, ", {} beyond the paint", self.beyond_paint)?;
        }
        Ok(())
    }
}

/// How often depths were seen, in bytes; each to about an eighth, the greatest exactly.
///
/// ```
/// use maniple::inspect::{self, MeasureDepths};
/// inspect::measure_depths(MeasureDepths::On);
/// maniple::run(|| maniple::yield_now());
/// inspect::measure_depths(MeasureDepths::Off);
/// let depths = inspect::depths();
/// let main = depths.iter().find(|of| of.name() == Some("main")).unwrap();
/// let suspended = main.suspended();
/// assert!(suspended.count() >= 1);
/// assert!(suspended.quantile(0.5) <= suspended.max());
/// assert_eq!(suspended.buckets().map(|(_, count)| count).sum::<u64>(), suspended.count());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution(Buckets);

impl Distribution {
    /// How many were seen.
    pub fn count(&self) -> u64 {
        self.0.count
    }

    /// The greatest; `None` if none was seen.
    pub fn max(&self) -> Option<usize> {
        (self.0.count > 0).then_some(self.0.max)
    }

    /// A depth that so large a share, from 0 to 1, does not exceed; `None` if none was seen. Up to an eighth
    /// above the exact one, never above the greatest.
    pub fn quantile(&self, share: f64) -> Option<usize> {
        (self.0.count > 0).then(|| self.0.quantile(share))
    }

    /// What was seen, from the least: depths up to so many bytes, and how often.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.filled()
    }
}

/// Median and greatest.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.quantile(0.5), self.max()) {
            (Some(median), Some(max)) => write!(f, "{median} B (median) .. {max} B"),
            _ => f.write_str("unknown"),
        }
    }
}
