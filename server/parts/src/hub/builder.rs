//! Settings of a hub.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::AtomicU64},
};

use maniple::sync::Mutex;

use super::{
    Hub, Owner,
    shared::{Limits, Shared},
};

impl Hub<()> {
    /// Settings for a hub of that name, which stands in its errors.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            limits: Limits {
                topics: 10_000,
                members: 10_000,
                queue: 64,
            },
        }
    }
}

/// Settings of a hub; made by [`Hub::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    name: String,
    limits: Limits,
}

impl Builder {
    /// Topics at a time. Default: 10,000; at least 1.
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.limits.topics = topics;
        self
    }

    /// Members of a topic. Default: 10,000; at least 1.
    pub fn max_members(mut self, members: usize) -> Self {
        self.limits.members = members;
        self
    }

    /// Messages that a member may be behind before its [`Lag`](super::Lag) decides. Default: 64; at least 1.
    pub fn queue(mut self, messages: usize) -> Self {
        self.limits.queue = messages;
        self
    }

    /// Makes the hub, for messages of one type.
    ///
    /// # Errors
    /// If a setting is 0 (`InvalidInput`); the message names the hub.
    pub fn build<M>(self) -> io::Result<Hub<M>> {
        let Limits {
            topics,
            members,
            queue,
        } = self.limits;
        if [topics, members, queue].contains(&0) {
            let text = format!(
                "hub `{}`: max_topics, max_members and queue must be at least 1",
                self.name
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let shared = Shared {
            name: self.name.into(),
            limits: self.limits,
            topics: Mutex::new(Some(HashMap::new())),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            disconnected: AtomicU64::new(0),
        };
        Ok(Hub {
            owner: Arc::new(Owner {
                shared: Arc::new(shared),
            }),
        })
    }
}
