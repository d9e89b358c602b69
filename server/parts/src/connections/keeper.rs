//! Drops free connections when their time is over, though nobody asks for one.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Instant,
};

use maniple::{panics, sync::Notify, task, time};

use super::{Idle, Keeping, Manage, Shared};

impl<M: Manage> Shared<M> {
    /// Has a keeper look when that connection has to go, which is free now. `keeping` is who kept until then: if nobody,
    /// the caller has noted one already.
    pub(super) fn keep(self: &Arc<Self>, keeping: Keeping, end: Option<Instant>) {
        match (keeping, end) {
            (Keeping::Nobody, _) => Keeper::hire(self),
            (Keeping::Until(None), Some(_)) => self.news.notify_one(),
            (Keeping::Until(Some(next)), Some(end)) if end < next => self.news.notify_one(),
            _ => {}
        }
    }

    /// Drops what has to go. When to look next; `Nobody` if nothing is left to be kept.
    fn look(&self) -> Keeping {
        loop {
            let (old, next) = self.take_old();
            if old.is_empty() {
                return next;
            }
            // Meanwhile others may become old.
            self.drop_old(old);
        }
    }

    fn take_old(&self) -> (Vec<Idle<M::Connection>>, Keeping) {
        let mut free = self.free.lock();
        let now = time::now();
        let (old, idle): (Vec<_>, Vec<_>) = std::mem::take(&mut free.idle)
            .into_iter()
            .partition(|it| self.is_old(it.made, it.since, now));
        free.idle = idle.into();
        self.counts.idle.store(free.idle.len(), Ordering::Relaxed);
        let ends = free.idle.iter().map(|it| self.ends(it.made, it.since));
        let next = ends.flatten().min();
        if old.is_empty() {
            free.keeper = match free.idle.is_empty() {
                true => Keeping::Nobody,
                false => Keeping::Until(next),
            };
        }
        (old, free.keeper)
    }
}

struct Keeper<M: Manage> {
    shared: Weak<Shared<M>>,
    news: Arc<Notify>,
    /// There is nothing to keep, as was noted.
    may_leave: bool,
}

impl<M: Manage> Keeper<M> {
    fn hire(shared: &Arc<Shared<M>>) {
        let keeper = Self {
            shared: Arc::downgrade(shared),
            news: shared.news.clone(),
            may_leave: false,
        };
        // It keeps connections of all callers: what is the first one's own must not stay with it.
        let builder = task::Builder::new().name("maniple-pool").without_locals();
        // On a plain thread that is a coroutine of the default runtime, whose start may panic. Whatever goes wrong, the
        // keeper is dropped, and who gives a connection back next hires another.
        panics::catch(|| builder.spawn(move || keeper.work()).map(drop));
    }

    fn work(mut self) {
        while let Some(shared) = self.shared.upgrade() {
            let next = shared.look();
            drop(shared);
            match next {
                Keeping::Nobody => {
                    self.may_leave = true;
                    return;
                }
                Keeping::Until(None) => self.news.notified(),
                Keeping::Until(Some(next)) => {
                    let left = next.saturating_duration_since(time::now());
                    self.news.notified_timeout(left);
                }
            }
        }
    }
}

impl<M: Manage> Drop for Keeper<M> {
    /// Its runtime ends, or it could not begin.
    fn drop(&mut self) {
        if !self.may_leave
            && let Some(shared) = self.shared.upgrade()
        {
            shared.free.lock().keeper = Keeping::Nobody;
        }
    }
}

impl<M: Manage> Drop for Shared<M> {
    /// Dismisses the keeper.
    fn drop(&mut self) {
        self.news.notify_one();
    }
}
