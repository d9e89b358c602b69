//! Who is told of servers that leave a list.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use maniple::panics;

use super::endpoint::Endpoint;

/// Who is told, in the order in which they came.
#[derive(Default)]
pub(super) struct Listeners {
    all: Arc<Mutex<Vec<Arc<Told>>>>,
}

type Told = dyn Fn(&Endpoint) + Send + Sync;

/// Has a function told of servers that leave, until it is dropped; made by
/// [`Endpoints::on_leave`](super::Endpoints::on_leave).
#[must_use = "nobody is told any more once this is dropped"]
pub struct Listening {
    all: Weak<Mutex<Vec<Arc<Told>>>>,
    told: Weak<Told>,
}

impl Listeners {
    pub(super) fn add(&self, told: impl Fn(&Endpoint) + Send + Sync + 'static) -> Listening {
        let told: Arc<Told> = Arc::new(told);
        let listening = Listening {
            all: Arc::downgrade(&self.all),
            told: Arc::downgrade(&told),
        };
        locked(&self.all).push(told);
        listening
    }

    /// Not under any lock: they may do anything.
    pub(super) fn tell(&self, left: &[Endpoint]) {
        if left.is_empty() {
            return;
        }
        let all = locked(&self.all).clone();
        for told in all {
            for endpoint in left {
                panics::catch(|| told(endpoint));
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let (Some(all), Some(told)) = (self.all.upgrade(), self.told.upgrade()) else {
            return;
        };
        let mut all = locked(&all);
        let at = all.iter().position(|one| Arc::ptr_eq(one, &told));
        let gone = at.map(|at| all.remove(at));
        drop(all);
        // What it owns is dropped outside of the lock.
        drop((gone, told));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = locked(&self.all).len();
        f.debug_tuple("Listeners").field(&count).finish()
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
