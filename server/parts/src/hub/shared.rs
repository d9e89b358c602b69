//! What a hub's handles and members share: the topics, the limits and the numbers.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

use maniple::sync::Mutex;

use super::topic::Topic;

pub(super) type Topics<M> = HashMap<Arc<str>, Arc<Topic<M>>>;

pub(super) struct Shared<M> {
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    /// `None` once the hub is closed.
    pub(super) topics: Mutex<Option<Topics<M>>>,
    pub(super) published: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) disconnected: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) topics: usize,
    pub(super) members: usize,
    pub(super) queue: usize,
}

impl<M> Shared<M> {
    pub(super) fn close(&self) {
        // Not dropped under the lock: messages go with it, whose destructors are the user's.
        let topics = self.topics.lock().take();
        // Members are woken, which in a simulation is to be the same each time.
        let mut topics: Vec<_> = topics.into_iter().flatten().collect();
        topics.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        drop(topics);
    }

    pub(super) fn forget_if_empty(&self, name: &str) {
        let forgotten = {
            let mut topics = self.topics.lock();
            let Some(topics) = topics.as_mut() else {
                return;
            };
            match topics.get(name) {
                Some(topic) if topic.members() == 0 => topics.remove(name),
                _ => None,
            }
        };
        drop(forgotten);
    }
}
