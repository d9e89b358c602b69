//! Behind a pool: the dispatcher and the workers, their count of jobs, and how they end.
//!
//! The queue's sender lies in `entrance`. A submitter borrows a clone; once the original is gone and the
//! clones are too, the dispatcher has handed out what came in, and finds the queue disconnected: then it
//! ends, its ends of the workers' channels go, and the workers end. A dispatcher that ends before that,
//! because its runtime does, withdraws what is queued; a submitter that still gets a job in after that sees
//! `deserted`, and withdraws it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::CancelToken,
    drain::DrainReport,
    sim,
    sync::{
        Condvar, Mutex,
        channel::{Receiver, Sender, bounded},
    },
    task,
};

use super::{
    report::Stats,
    settings::{Settings, WhenFull},
    ticket::{Ended, Queued},
};

pub(super) struct Workers {
    pub(super) name: Arc<str>,
    pub(super) count: usize,
    pub(super) queue: usize,
    pub(super) when_full: WhenFull,
    pub(super) tally: Mutex<Tally>,
    /// A worker has ended.
    ended: Condvar,
    /// `None` once the pool is closed.
    entrance: Mutex<Option<Sender<Queued>>>,
    /// To take jobs out for newer ones, and at the end.
    exit: Receiver<Queued>,
    /// The dispatcher is gone.
    deserted: AtomicBool,
    /// Cancels what runs.
    stop: CancelToken,
}

/// What [`Stats`] is made of. All under one lock, so that the numbers belong together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) submitted: u64,
    pub(super) rejected: u64,
    running: u64,
    done: u64,
    panicked: u64,
    /// While they ran.
    cancelled: u64,
    withdrawn: u64,
    expired: u64,
    dropped: u64,
    run_by_submitters: u64,
    longest_wait: Duration,
    per_worker: Vec<u64>,
    /// Workers that have not ended.
    present: usize,
}

impl Tally {
    fn count(&mut self, ended: Ended) {
        *match ended {
            Ended::Done => &mut self.done,
            Ended::Panicked => &mut self.panicked,
            Ended::Cancelled => &mut self.cancelled,
            Ended::Elapsed => &mut self.expired,
            Ended::Dropped => &mut self.dropped,
            Ended::Withdrawn => &mut self.withdrawn,
        } += 1;
    }
}

impl Workers {
    pub(super) fn start(settings: Settings) -> io::Result<Arc<Self>> {
        let (entrance, jobs) = bounded(settings.queue);
        let workers = Arc::new(Self {
            name: settings.name.into(),
            count: settings.workers,
            queue: settings.queue,
            when_full: settings.when_full,
            tally: Mutex::new(Tally {
                per_worker: vec![0; settings.workers],
                ..Tally::default()
            }),
            ended: Condvar::new(),
            entrance: Mutex::new(Some(entrance)),
            exit: jobs.clone(),
            deserted: AtomicBool::new(false),
            stop: CancelToken::new(),
        });
        // Each worker is in it once at most.
        let (free, free_workers) = bounded(workers.count);
        let mut channels = Vec::with_capacity(workers.count);
        for index in 0..workers.count {
            // One at a time: a worker is free again before it is given the next.
            let (channel, mine) = bounded(1);
            let worker = Present::new(workers.clone());
            let free = free.clone();
            workers.spawn(&format!("{}", index + 1), move || {
                work(&worker.workers, index, &free, &mine);
            })?;
            channels.push(channel);
        }
        let dispatcher = Dispatcher(workers.clone());
        workers.spawn("dispatcher", move || {
            dispatcher.dispatch(&jobs, &free_workers, &channels);
        })?;
        Ok(workers)
    }

    fn spawn(&self, role: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let spawned = task::Builder::new()
            .name(format!("{}-{role}", self.name))
            .spawn(body);
        spawned.map(drop).map_err(|error| {
            let text = format!("pool `{}`: cannot start {role}: {error}", self.name);
            io::Error::new(error.kind(), text)
        })
    }

    /// A way into the queue, unless the pool is closed.
    pub(super) fn entrance(&self) -> Option<Sender<Queued>> {
        self.entrance.lock().clone()
    }

    pub(super) fn close(&self) {
        let entrance = self.entrance.lock().take();
        // Not under the lock: it may wake the dispatcher.
        drop(entrance);
    }

    pub(super) fn drop_oldest(&self) {
        // Another may have made room meanwhile.
        if let Ok(oldest) = self.exit.try_recv() {
            let ended = oldest.drop_for_newer();
            self.tally.lock().count(ended);
        }
    }

    /// Runs a job, on that worker or for its submitter.
    pub(super) fn run(&self, queued: Queued, worker: Option<usize>) {
        sim::dawdle();
        let waited = maniple::time::now().saturating_duration_since(queued.since);
        {
            let mut tally = self.tally.lock();
            tally.running += 1;
            tally.longest_wait = tally.longest_wait.max(waited);
            *match worker {
                Some(index) => &mut tally.per_worker[index],
                None => &mut tally.run_by_submitters,
            } += 1;
        }
        let ended = queued.run(&self.stop);
        let mut tally = self.tally.lock();
        tally.running -= 1;
        tally.count(ended);
    }

    fn withdraw_all(&self) {
        for queued in self.exit.try_iter() {
            let ended = queued.withdraw();
            self.tally.lock().count(ended);
        }
    }

    /// For the submitter that has just put a job into the queue.
    pub(super) fn clear_if_deserted(&self) {
        // Pairs with the store in `Dispatcher::drop`: the queue's lock orders the job before its look into
        // the queue, which then finds the job, or after, and then this sees the flag.
        if self.deserted.load(Ordering::SeqCst) {
            self.withdraw_all();
        }
    }

    pub(super) fn drain(&self, bound: Duration) -> DrainReport {
        let before = self.ends();
        self.close();
        if !self.wait_for_workers(after(bound)) {
            self.stop.cancel();
            self.withdraw_all();
            self.wait_for_workers(after(AFTER_CANCEL));
        }
        let ends = self.ends();
        let mut report = DrainReport::default();
        report.finished = ends.0 - before.0;
        report.withdrawn = ends.1 - before.1;
        report.cancelled = ends.2 - before.2;
        report.left = self.tally.lock().running;
        report
    }

    /// Jobs that finished, were withdrawn, were cancelled.
    fn ends(&self) -> (u64, u64, u64) {
        let tally = self.tally.lock();
        let finished = tally.done + tally.panicked + tally.expired;
        (finished, tally.withdrawn, tally.cancelled)
    }

    fn wait_for_workers(&self, until: Instant) -> bool {
        let mut tally = self.tally.lock();
        while tally.present > 0 {
            let left = until.saturating_duration_since(maniple::time::now());
            if left.is_zero() {
                return false;
            }
            self.ended.wait_timeout(&mut tally, left);
        }
        true
    }

    pub(super) fn stats(&self) -> Stats {
        let tally = self.tally.lock();
        let ended = tally.done
            + tally.panicked
            + tally.cancelled
            + tally.withdrawn
            + tally.expired
            + tally.dropped;
        Stats {
            submitted: tally.submitted,
            queued: tally.submitted.saturating_sub(ended + tally.running),
            running: tally.running,
            done: tally.done,
            panicked: tally.panicked,
            cancelled: tally.cancelled + tally.withdrawn,
            expired: tally.expired,
            dropped: tally.dropped,
            rejected: tally.rejected,
            run_by_submitters: tally.run_by_submitters,
            longest_wait: tally.longest_wait,
            per_worker: tally.per_worker.clone(),
        }
    }
}

/// A worker's presence, which ends whichever way the worker does.
struct Present {
    workers: Arc<Workers>,
}

impl Present {
    fn new(workers: Arc<Workers>) -> Self {
        workers.tally.lock().present += 1;
        Self { workers }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.workers.tally.lock().present -= 1;
        self.workers.ended.notify_all();
    }
}

/// Takes jobs until there are no more to come; an error means that, or that the runtime ends.
fn work(workers: &Workers, index: usize, free: &Sender<usize>, mine: &Receiver<Queued>) {
    while free.send(index).is_ok() {
        match mine.recv() {
            Ok(queued) => workers.run(queued, Some(index)),
            Err(_) => return,
        }
    }
}

struct Dispatcher(Arc<Workers>);

impl Dispatcher {
    /// A worker first and then a job, so that jobs wait in the queue, where they can be dropped and counted.
    fn dispatch(
        &self,
        jobs: &Receiver<Queued>,
        free: &Receiver<usize>,
        channels: &[Sender<Queued>],
    ) {
        while let Ok(index) = free.recv() {
            let Ok(queued) = jobs.recv() else { return };
            sim::dawdle();
            // Only a worker whose runtime ends has left its channel.
            if let Err(refused) = channels[index].send(queued) {
                let ended = refused.into_inner().withdraw();
                self.0.tally.lock().count(ended);
            }
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.0.close();
        self.0.deserted.store(true, Ordering::SeqCst);
        self.0.withdraw_all();
    }
}

/// How long jobs that were cancelled by a drain may take to end.
const AFTER_CANCEL: Duration = Duration::from_secs(2);

/// What is longer counts as this, since instants do not reach to the end of all durations.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn after(bound: Duration) -> Instant {
    maniple::time::now() + bound.min(NEVER)
}
