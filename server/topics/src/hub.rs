//! Topics that processes share: publishing and subscribing over a broker.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use maniple::{
    JoinHandle, cancel,
    sync::channel::{RecvTimeoutError, SendTimeoutError},
};
use maniple_parts::hub::{
    Lag, Listen, MAX_TOPIC_NAME, Member, PublishError, Received, RecvError, SubscribeError, Topics,
};

use crate::{
    nats,
    shared::{Command, Failure, Heard, Kind, Message, Place, Shared, SharedStats, Ticket},
};

/// Topics that processes share over a broker. Clones are the same hub; with the last it is closed.
///
/// One connection serves all of the process. What it publishes comes back from the broker as what others publish does, so all
/// members of a topic, in all processes, hear its messages in the broker's order.
#[derive(Clone)]
pub struct SharedHub {
    pub(crate) owner: Arc<Owner>,
}

pub(crate) struct Owner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: JoinHandle<()>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.link.cancel();
        self.shared.hub.close();
    }
}

impl SharedHub {
    /// Makes the caller a member of a topic. Once it returns the broker has the subscription: what anybody publishes from then on
    /// comes.
    ///
    /// # Errors
    /// If a limit of this process is reached; if the broker is not there within the hub's patience, or refuses; if the caller is cut
    /// short; if `lag` is [`Lag::Wait`], since no broker has publishers wait for members of other processes.
    pub fn subscribe(&self, topic: &str, lag: Lag) -> Result<SharedMember, SubscribeError> {
        let shared = &self.owner.shared;
        let hub = || shared.settings.name.clone();
        let broken = |reason: Arc<str>| SubscribeError::Broker {
            hub: hub(),
            topic: topic.into(),
            reason,
        };
        if lag == Lag::Wait {
            return Err(broken(
                "no broker has publishers wait: take another lag".into(),
            ));
        }
        let heard = shared.hub.subscribe(topic, lag)?;
        if let Some(fault) = self.fault(topic) {
            return Err(broken(fault.into()));
        }
        let (place, waiting) = shared.join(topic);
        if let Some(mut waiting) = waiting {
            shared.look();
            match waiting.recv_timeout(shared.settings.patience) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return Err(broken(reason)),
                Err(_) if cancel::check().is_err() => {
                    return Err(SubscribeError::CutShort {
                        hub: hub(),
                        topic: topic.into(),
                    });
                }
                Err(_) => return Err(broken("the broker is not there".into())),
            }
        }
        Ok(SharedMember {
            heard,
            dropped: 0,
            _place: place,
        })
    }

    /// Publishes a message to a topic, and waits until the broker has it.
    ///
    /// # Errors
    /// [`PublishError::Broker`] if the broker is not there within the hub's patience, is lost meanwhile, or refuses; it says whether the
    /// message may have arrived all the same. If the scope is cancelled or its deadline passes meanwhile, nobody knows that.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Result<(), PublishError> {
        let shared = &self.owner.shared;
        let settings = &shared.settings;
        let message = message.into();
        let failed = |reason: &str, may_have_arrived| {
            let reason = reason.into();
            shared.failed(
                topic,
                Failure {
                    reason,
                    may_have_arrived,
                },
            )
        };
        let most = shared.most.load(Relaxed).min(settings.max_message as u64);
        if message.len() as u64 > most {
            let text = format!("{} bytes are too many, {most} may be", message.len());
            return Err(failed(&text, false));
        }
        if topic.len() > MAX_TOPIC_NAME {
            return Err(failed("the topic's name is too long", false));
        }
        if let Some(fault) = self.fault(topic) {
            return Err(failed(fault, false));
        }
        let (ticket, mut answered) = Ticket::new(format!("{}{topic}", settings.prefix), message);
        let cut = |otherwise: PublishError| match cancel::check() {
            Ok(()) => otherwise,
            Err(cut) => {
                let (hub, topic) = (settings.name.clone(), topic.into());
                match cut {
                    cancel::Interrupt::Cancelled => PublishError::Cancelled { hub, topic },
                    cancel::Interrupt::Elapsed => PublishError::Elapsed { hub, topic },
                }
            }
        };
        let absent = "the broker is not there";
        let command = Command::Publish(Arc::clone(&ticket));
        match shared.commands.send_timeout(command, settings.patience) {
            Ok(()) => {}
            Err(SendTimeoutError::Disconnected(_)) => {
                let hub = settings.name.clone();
                return Err(PublishError::Closed { hub });
            }
            Err(_) => return Err(cut(failed(absent, false))),
        }
        match answered.recv_timeout(settings.patience) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(shared.failed(topic, failure)),
            Err(RecvTimeoutError::Disconnected) => Err(failed(absent, !ticket.take())),
            // Where it is still here it is not sent any more.
            Err(_) if ticket.take() => Err(cut(failed(absent, false))),
            Err(_) => Err(cut(failed("the broker has not answered", true))),
        }
    }

    fn fault(&self, topic: &str) -> Option<&'static str> {
        match self.owner.shared.settings.kind {
            Kind::Redis => None,
            Kind::Nats => nats::fault(topic),
        }
    }

    /// The hub's numbers.
    pub fn stats(&self) -> SharedStats {
        self.owner.shared.stats()
    }

    /// The hub's name.
    pub fn name(&self) -> &str {
        &self.owner.shared.settings.name
    }
}

impl Topics<Message> for SharedHub {
    type Member = SharedMember;

    fn subscribe(&self, topic: &str, lag: Lag) -> Result<SharedMember, SubscribeError> {
        SharedHub::subscribe(self, topic, lag)
    }

    fn publish(&self, topic: &str, message: Message) -> Result<(), PublishError> {
        SharedHub::publish(self, topic, message)
    }
}

impl fmt::Debug for SharedHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedHub")
            .field("name", &self.name())
            .field("stats", &self.stats())
            .finish()
    }
}

/// A member of a topic that processes share; made by [`SharedHub::subscribe`]. Dropping it leaves the topic.
pub struct SharedMember {
    /// Dropped before the place is.
    heard: Member<Heard>,
    /// Missed before a gap, and not reported yet.
    dropped: u64,
    _place: Place,
}

impl SharedMember {
    /// Receives the next message, waiting for one.
    ///
    /// # Errors
    /// [`RecvError::Gap`] where the broker was lost, and is there again: messages may be missing before the next, so read anew
    /// whatever state they tell of. Else as [`Member::recv`].
    pub fn recv(&mut self) -> Result<Received<Message>, RecvError> {
        let received = self.heard.recv();
        self.told(received)
    }

    /// Receives the next message like [`recv`](Self::recv), waiting for at most `timeout`.
    ///
    /// # Errors
    /// Fails as [`recv`](Self::recv) does, and with [`RecvError::Elapsed`] if no message came in time.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Received<Message>, RecvError> {
        let received = self.heard.recv_timeout(timeout);
        self.told(received)
    }

    fn told(
        &mut self,
        received: Result<Received<Heard>, RecvError>,
    ) -> Result<Received<Message>, RecvError> {
        let received = received?;
        let mut message = None;
        let received = received.map(|heard| match heard {
            Heard::Message(bytes) => message = Some(bytes),
            Heard::Gap => {}
        });
        match message {
            Some(message) => {
                let dropped = std::mem::take(&mut self.dropped);
                Ok(received.map(|()| message).after(dropped))
            }
            None => {
                self.dropped = self.dropped.saturating_add(received.dropped);
                Err(RecvError::Gap {
                    topic: self.topic().into(),
                })
            }
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.heard.topic()
    }
}

impl Listen<Message> for SharedMember {
    fn recv(&mut self) -> Result<Received<Message>, RecvError> {
        SharedMember::recv(self)
    }

    fn recv_timeout(&mut self, timeout: Duration) -> Result<Received<Message>, RecvError> {
        SharedMember::recv_timeout(self, timeout)
    }

    fn topic(&self) -> &str {
        SharedMember::topic(self)
    }
}

impl fmt::Debug for SharedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMember")
            .field("topic", &self.topic())
            .finish_non_exhaustive()
    }
}
