//! Settings of a hub that processes share.

use std::{fmt, io, sync::Arc, time::Duration};

use maniple::{sync::channel::bounded, task};
use maniple_parts::{
    engine::{EngineUrl, Login, Secret},
    hub,
};

use crate::{
    hub::{Owner, SharedHub},
    link, nats,
    shared::{Broker, Kind, Settings, Shared},
    tls::Tls,
};

/// Messages on their way to the broker at most; who has one more waits.
const QUEUE: usize = 256;

impl SharedHub {
    /// Settings for a hub over Redis, from version 6 on: the server that takes messages, and others that may do so after it. The name
    /// stands in errors.
    ///
    /// Each is `host:port`, `redis://host:port`, or `rediss://host:port` for one by TLS, which needs the feature `tls`. Before the
    /// host may stand who asks, `name:password@` or `:password@`: see [`Builder::user`].
    pub fn redis<B: Into<String>>(
        name: impl Into<String>,
        brokers: impl IntoIterator<Item = B>,
    ) -> Builder {
        Builder::new(Kind::Redis, name.into(), brokers)
    }

    /// Settings for a hub over NATS: a server, and others of its cluster. The name stands in errors.
    ///
    /// Each is `host:port`, `nats://host:port`, or `tls://host:port` for one by TLS, which needs the feature `tls`: the server says
    /// who it is in plain text first, and is asked nothing before the handshake. Before the host may stand who asks, `name:password@`
    /// or `token@`: see [`Builder::user`] and [`Builder::token`].
    pub fn nats<B: Into<String>>(
        name: impl Into<String>,
        brokers: impl IntoIterator<Item = B>,
    ) -> Builder {
        Builder::new(Kind::Nats, name.into(), brokers)
    }
}

/// Settings of a [`SharedHub`]; made by [`SharedHub::redis`] and [`SharedHub::nats`].
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    settings: Settings,
    /// As they were given: there may be passwords in them.
    brokers: Vec<String>,
    login: Option<Login>,
    pub(crate) tls: Option<Tls>,
    hub: hub::Builder,
}

impl Builder {
    fn new<B: Into<String>>(
        kind: Kind,
        name: String,
        brokers: impl IntoIterator<Item = B>,
    ) -> Self {
        Self {
            settings: Settings {
                kind,
                name: name.as_str().into(),
                brokers: Vec::new(),
                prefix: String::new(),
                patience: Duration::from_secs(3),
                silence: Duration::from_secs(10),
                max_message: 1024 * 1024,
            },
            brokers: brokers.into_iter().map(Into::into).collect(),
            login: None,
            tls: None,
            hub: hub::Hub::builder(name),
        }
    }

    /// What stands before each topic's name at the broker, so that other programs can be there too: `chat:` or `chat.`, for NATS with a
    /// point at its end. Default: nothing.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// Who asks, where the broker wants to know it and its URL does not say it. Default: nobody. For Redis a name of nothing is the
    /// user `default`.
    ///
    /// Without TLS the password travels as it is. No log and no `Debug` shows it.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some(Login::User(name.into(), Secret::new(password)));
        self
    }

    /// The same by a token, which NATS has and Redis has not.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Some(Login::Token(Secret::new(token)));
        self
    }

    /// How long to wait for the broker: for a connection, and in a call. Default: 3 s.
    pub fn patience(mut self, time: Duration) -> Self {
        self.settings.patience = time;
        self
    }

    /// How long a broker may be silent. It is asked for a sign of life twice in that time; one that gives none is left. Default:
    /// 10 s.
    pub fn silence(mut self, time: Duration) -> Self {
        self.settings.silence = time;
        self
    }

    /// Bytes of a message, both ways. A longer one from elsewhere is passed over, and the topic's members are told a
    /// [gap](hub::RecvError::Gap). Default: 1 MiB, at least 1 KiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes;
        self
    }

    /// Topics that have members in this process, as [`hub::Builder::max_topics`].
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.hub = self.hub.max_topics(topics);
        self
    }

    /// Members of a topic in this process, as [`hub::Builder::max_members`].
    pub fn max_members(mut self, members: usize) -> Self {
        self.hub = self.hub.max_members(members);
        self
    }

    /// Messages that a member may be behind, as [`hub::Builder::queue`].
    pub fn queue(mut self, messages: usize) -> Self {
        self.hub = self.hub.queue(messages);
        self
    }

    /// Makes the hub, which connects in the background. To be called within a runtime.
    ///
    /// # Errors
    /// If there is no broker in the list, or one that is none; if TLS is asked for that cannot be had; if a time or a limit is too
    /// small, or the prefix cannot be one (all `InvalidInput`); if there is no stack for the connection.
    pub fn build(mut self) -> io::Result<SharedHub> {
        let brokers = self.brokers.iter().map(|broker| self.broker(broker));
        let brokers: io::Result<_> = brokers.collect();
        self.settings.brokers = brokers.map_err(|error| {
            let text = format!("hub `{}`: {error}", self.settings.name);
            io::Error::new(error.kind(), text)
        })?;
        let settings = self.settings;
        let wrong = |text: &str| {
            let text = format!("hub `{}`: {text}", settings.name);
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        };
        if settings.brokers.is_empty() {
            return wrong("there is no broker");
        }
        let times = [settings.patience, settings.silence];
        if times.iter().any(|time| *time < Duration::from_millis(2)) {
            return wrong("patience and silence must be at least two milliseconds");
        }
        if settings.max_message < 1024 {
            return wrong("max_message must be at least 1024");
        }
        let example = format!("{}x", settings.prefix);
        if let (Kind::Nats, Some(fault)) = (settings.kind, nats::fault(&example)) {
            return wrong(fault);
        }
        let (commands, taken) = bounded(QUEUE);
        let shared = Arc::new(Shared::new(settings, self.hub.build()?, commands));
        let of_link = Arc::clone(&shared);
        let builder = task::Builder::new().name("broker").without_locals();
        let link = builder.spawn(move || link::run(&of_link, &taken))?;
        Ok(SharedHub {
            owner: Arc::new(Owner { shared, link }),
        })
    }

    fn broker(&self, text: &str) -> io::Result<Broker> {
        let wrong = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let kind = self.settings.kind;
        let port = match kind {
            Kind::Redis => 6379,
            Kind::Nats => 4222,
        };
        let url = EngineUrl::parse(text, port)?;
        let tls = match (kind, url.scheme.as_deref()) {
            (_, None) | (Kind::Nats, Some("nats")) => self.tls.clone(),
            (Kind::Redis, Some("redis")) => None,
            (Kind::Redis, Some("rediss")) | (Kind::Nats, Some("tls")) => {
                Some(self.tls.clone().map_or_else(Tls::usual, Ok)?)
            }
            (Kind::Redis, Some(_)) => return wrong("a broker is named by redis or rediss"),
            (Kind::Nats, Some(_)) => return wrong("a broker is named by nats or tls"),
        };
        // Topics are the same in all of Redis's databases.
        let is_database = kind == Kind::Redis && url.path.bytes().all(|b| b.is_ascii_digit());
        if !url.path.is_empty() && !is_database {
            return wrong("a broker has no path");
        }
        let authority = url.authority();
        let login = url.login.or_else(|| self.login.clone());
        match (kind, &login) {
            (Kind::Redis, Some(Login::Token(_))) => {
                return wrong("Redis has no tokens: a password alone is `:password@`");
            }
            (Kind::Nats, Some(Login::User(name, _))) if name.is_empty() => {
                return wrong("a user of NATS has a name");
            }
            _ => {}
        }
        Ok(Broker {
            authority,
            host: url.host,
            tls,
            login,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the brokers, with their passwords.
        f.debug_struct("Builder")
            .field("name", &self.settings.name)
            .field("brokers", &self.brokers.len())
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_are_none_are_refused_without_a_word_of_them() {
        type Door = fn(&str) -> Builder;
        let redis: Door = |at| SharedHub::redis("rooms", [at]);
        let nats: Door = |at| SharedHub::nats("rooms", [at]);
        for (door, at) in [
            (redis, "nats://u:swordfish@h"),
            (redis, "redis://swordfish@h"),
            (redis, "redis://u:swordfish@h/zero"),
            (redis, "u:swordfish@h:1"),
            (nats, "redis://u:swordfish@h"),
            (nats, "nats://:swordfish@h"),
            (nats, "nats://u:swordfish@h/0"),
            (nats, "nats://u:sword/fish@h"),
        ] {
            let error = door(at).build().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{at}");
            let text = error.to_string();
            assert!(
                text.contains("hub `rooms`") && !text.contains("fish"),
                "{text}"
            );
        }
        let error = redis("h:1").token("swordfish").build().unwrap_err();
        assert!(error.to_string().contains("no tokens"), "{error}");
    }

    #[test]
    fn brokers_are_named_by_urls_too() {
        let redis = |at| SharedHub::redis("rooms", ["h"]).broker(at).unwrap();
        let broker = redis("redis://u:p@h/3");
        assert_eq!((&*broker.authority, &*broker.host), ("h:6379", "h"));
        assert!(broker.tls.is_none() && broker.login.is_some());
        let nats = SharedHub::nats("rooms", ["h"]).user("u", "p");
        let one = nats.broker("nats://token@[::1]:1").unwrap();
        assert_eq!((&*one.authority, &*one.host), ("[::1]:1", "::1"));
        assert!(matches!(one.login, Some(Login::Token(_))), "its own");
        let other = nats.broker("h").unwrap();
        assert!(matches!(other.login, Some(Login::User(..))), "that of all");
    }

    #[test]
    fn nothing_that_is_shown_has_a_password() {
        let builder = SharedHub::nats("rooms", ["nats://u:swordfish@h", "nats://swordfish@h"]);
        let builder = builder.user("u", "swordfish");
        let shown = format!("{builder:?}");
        assert!(
            shown.contains("rooms") && !shown.contains("swordfish"),
            "{shown}"
        );
    }
}
