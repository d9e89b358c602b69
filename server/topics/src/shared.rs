//! What handles, members and the connection share: which topics are wanted, and what is on its way to the broker.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use maniple::sync::{
    channel::{Receiver, Sender},
    oneshot,
};
use maniple_parts::{
    engine::Login,
    hub::{Hub, PublishError},
};

use crate::tls::Tls;

/// Bytes of a message; clones share them.
pub type Message = Arc<[u8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Nats,
}

pub(crate) struct Settings {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) prefix: String,
    pub(crate) patience: Duration,
    pub(crate) silence: Duration,
    pub(crate) max_message: usize,
}

/// A broker, and how it is talked to.
pub(crate) struct Broker {
    /// `host:port`.
    pub(crate) authority: String,
    /// By which its certificate is judged.
    pub(crate) host: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Option<Login>,
}

/// What members hear from the hub of this process.
#[derive(Clone)]
pub(crate) enum Heard {
    Message(Message),
    Gap,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) hub: Hub<Heard>,
    pub(crate) commands: Sender<Command>,
    /// What the broker takes at most, as far as it says.
    pub(crate) most: AtomicU64,
    wants: Mutex<Wants>,
    stats: Mutex<SharedStats>,
}

/// The numbers of a hub that processes share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedStats {
    /// The broker that is connected now, if any.
    pub broker: Option<String>,
    /// Why there was none, the last time that one was lost or could not be had; none while one is connected.
    pub fault: Option<String>,
    /// How often a broker was connected.
    pub connected: u64,
    /// How often a connection was lost, or came to nothing.
    pub lost: u64,
    /// Messages that the broker has taken.
    pub published: u64,
    /// Messages that came from the broker.
    pub received: u64,
    /// How often members of a topic were told that messages may be missing.
    pub gaps: u64,
}

/// What the connection is to do.
pub(crate) enum Command {
    Publish(Arc<Ticket>),
    /// To look at what has changed.
    Look,
}

/// A message on its way.
pub(crate) struct Ticket {
    /// As the broker has it.
    pub(crate) topic: String,
    pub(crate) message: Message,
    /// Set by who sends it, or by who gives it up before: by one of them.
    is_taken: AtomicBool,
    answer: Mutex<Option<oneshot::Sender<Result<(), Failure>>>>,
}

/// Why a broker has not got a message.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Arc<str>,
    pub(crate) may_have_arrived: bool,
}

impl Ticket {
    pub(crate) fn new(
        topic: String,
        message: Message,
    ) -> (Arc<Self>, oneshot::Receiver<Result<(), Failure>>) {
        let (answer, answered) = oneshot::channel();
        let ticket = Self {
            topic,
            message,
            is_taken: AtomicBool::new(false),
            answer: Mutex::new(Some(answer)),
        };
        (Arc::new(ticket), answered)
    }

    /// Whether it is the caller's to send, or to give up.
    pub(crate) fn take(&self) -> bool {
        // The message itself is shared, and never changed: only who was first counts.
        !self.is_taken.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn answer(&self, outcome: Result<(), Failure>) {
        if let Some(answer) = locked(&self.answer).take() {
            let _ = answer.send(outcome);
        }
    }
}

#[derive(Default)]
struct Wants {
    all: HashMap<Arc<str>, Want>,
    /// Topics that have come or gone since the connection looked.
    changed: Vec<Arc<str>>,
    generations: u64,
}

/// A topic that has members here.
struct Want {
    members: usize,
    /// Another for a topic that is wanted again.
    generation: u64,
    is_confirmed: bool,
    /// Over an earlier connection.
    had_been: bool,
    waiting: Vec<oneshot::Sender<Result<(), Arc<str>>>>,
}

/// Holds a topic for one member.
pub(crate) struct Place {
    topic: Arc<str>,
    shared: Arc<Shared>,
}

/// What the broker has said to a subscription comes here.
pub(crate) type Confirmed = oneshot::Receiver<Result<(), Arc<str>>>;

impl Shared {
    pub(crate) fn new(settings: Settings, hub: Hub<Heard>, commands: Sender<Command>) -> Self {
        Self {
            settings,
            hub,
            commands,
            most: AtomicU64::new(u64::MAX),
            wants: Mutex::default(),
            stats: Mutex::default(),
        }
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut SharedStats)) {
        change(&mut locked(&self.stats));
    }

    pub(crate) fn stats(&self) -> SharedStats {
        locked(&self.stats).clone()
    }

    pub(crate) fn look(&self) {
        // Where there is no room the connection is busy, and looks.
        let _ = self.commands.try_send(Command::Look);
    }

    /// A member more; what to wait for, unless the topic is there.
    pub(crate) fn join(self: &Arc<Self>, topic: &str) -> (Place, Option<Confirmed>) {
        let mut wants = locked(&self.wants);
        let wants = &mut *wants;
        let topic = match wants.all.get_key_value(topic) {
            Some((topic, _)) => Arc::clone(topic),
            None => {
                let topic: Arc<str> = topic.into();
                wants.generations += 1;
                let want = Want {
                    members: 0,
                    generation: wants.generations,
                    is_confirmed: false,
                    had_been: false,
                    waiting: Vec::new(),
                };
                wants.all.insert(Arc::clone(&topic), want);
                wants.changed.push(Arc::clone(&topic));
                topic
            }
        };
        let waits = wants.all.get_mut(&topic).and_then(|want| {
            want.members += 1;
            (!want.is_confirmed).then(|| {
                let (answer, answered) = oneshot::channel();
                want.waiting.push(answer);
                answered
            })
        });
        let place = Place {
            topic,
            shared: Arc::clone(self),
        };
        (place, waits)
    }

    /// What has changed since the last look: topics with the generation that is wanted, if any is. All of them for a new connection.
    pub(crate) fn changes(&self, is_new: bool) -> Vec<(Arc<str>, Option<u64>)> {
        let mut wants = locked(&self.wants);
        let mut changed = std::mem::take(&mut wants.changed);
        if is_new {
            changed = wants.all.keys().cloned().collect();
            // What goes over the wire is the same each time.
            changed.sort_unstable();
        }
        let with_generation = |topic: Arc<str>| {
            let generation = wants.all.get(&topic).map(|want| want.generation);
            (topic, generation)
        };
        changed.into_iter().map(with_generation).collect()
    }

    /// The broker has a subscription; whether messages may be missing before the next.
    pub(crate) fn confirm(&self, topic: &str, generation: u64) -> bool {
        let mut wants = locked(&self.wants);
        let want = wants.all.get_mut(topic);
        let Some(want) = want.filter(|want| want.generation == generation) else {
            return false;
        };
        want.is_confirmed = true;
        let waiting = std::mem::take(&mut want.waiting);
        let had_been = std::mem::replace(&mut want.had_been, true);
        drop(wants);
        for answer in waiting {
            let _ = answer.send(Ok(()));
        }
        had_been
    }

    /// The broker refuses a subscription; whether it has had it before.
    pub(crate) fn refuse(&self, topic: &str, generation: u64, reason: &str) -> bool {
        let mut wants = locked(&self.wants);
        let want = wants.all.get_mut(topic);
        let Some(want) = want.filter(|want| want.generation == generation) else {
            return false;
        };
        let waiting = std::mem::take(&mut want.waiting);
        let had_been = want.had_been;
        drop(wants);
        let reason: Arc<str> = reason.into();
        for answer in waiting {
            let _ = answer.send(Err(Arc::clone(&reason)));
        }
        had_been
    }

    /// The connection is lost, and with it all subscriptions.
    pub(crate) fn unconfirm(&self) {
        let mut wants = locked(&self.wants);
        for want in wants.all.values_mut() {
            want.is_confirmed = false;
        }
    }

    pub(crate) fn failed(&self, topic: &str, failure: Failure) -> PublishError {
        PublishError::Broker {
            hub: self.settings.name.clone(),
            topic: topic.into(),
            reason: failure.reason,
            may_have_arrived: failure.may_have_arrived,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut wants = locked(&self.shared.wants);
        let Some(want) = wants.all.get_mut(&self.topic) else {
            return;
        };
        want.members -= 1;
        if want.members == 0 {
            wants.all.remove(&self.topic);
            wants.changed.push(Arc::clone(&self.topic));
            drop(wants);
            self.shared.look();
        }
    }
}

/// Never held over a wait.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) type Commands = Receiver<Command>;
