//! A cluster of etcd, as its clients know it: its members, of which each attempt takes the next.

use std::{
    fmt, io,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use maniple::log_limit::LogLimit;
use maniple_grpc::{Channel, Code, Metadata, Status};
use maniple_parts::engine::{EngineUrl, Login, Secret};

use crate::{
    rpc::{AuthClient, AuthenticateRequest, KvClient, LeaseClient, WatchClient},
    tls::Tls,
};

/// Of each kind of trouble with a cluster the log has so many lines in ten seconds.
pub(crate) static TROUBLE: LogLimit = LogLimit::new(20);

/// Between attempts that come to nothing.
pub(crate) const PAUSES: RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(3);

/// A cluster of etcd. Clones are the same.
///
/// Nothing is connected until something is asked. Each thing that [follows](Self::follow) or [registers](Self::register) has a
/// connection of its own to one of the members, and to the next when that fails, falls silent, or has lost its leader.
#[derive(Clone)]
pub struct Etcd {
    pub(crate) shared: Arc<Settings>,
}

pub(crate) struct Settings {
    members: Vec<Member>,
    /// Which member is next.
    next: AtomicUsize,
    pub(crate) patience: Duration,
    pub(crate) silence: Duration,
    pub(crate) relist: Duration,
}

/// A server of the cluster.
struct Member {
    /// `host:port`.
    authority: String,
    tls: Option<Tls>,
    login: Option<Login>,
}

impl Etcd {
    /// Settings for the cluster of these members: each `host:port`, `http://host:port`, or `https://host:port` for one by TLS, which
    /// needs the feature `tls`. Before the host may stand who asks, `name:password@` or `token@`: see [`Builder::user`].
    pub fn builder<M: Into<String>>(members: impl IntoIterator<Item = M>) -> Builder {
        Builder {
            members: members.into_iter().map(Into::into).collect(),
            login: None,
            tls: None,
            patience: Duration::from_secs(3),
            silence: Duration::from_secs(5),
            relist: Duration::from_secs(300),
        }
    }

    /// A connection to the next member; whether it is there is found out by the first call.
    pub(crate) fn session(&self) -> Result<Session, Status> {
        let settings = &self.shared;
        let turn = settings.next.fetch_add(1, Relaxed) % settings.members.len();
        let member = &settings.members[turn];
        let mut channel = Channel::to(member.authority.as_str())
            .connect_timeout(settings.patience)
            .max_message_bytes(MOST_BYTES);
        if let Some(tls) = &member.tls {
            channel = tls.over(channel);
        }
        let mut metadata = Metadata::new();
        // Else a member without a leader lets its watchers wait, and says nothing.
        let _ = metadata.insert("hasleader", "true");
        let patience = settings.patience;
        let token = match &member.login {
            None => None,
            Some(Login::User(name, password)) => {
                let request = AuthenticateRequest {
                    name: name.clone(),
                    password: password.reveal().to_owned(),
                };
                let auth = AuthClient::new(channel.clone());
                let asked = within(patience, || auth.authenticate(&request));
                // Which of the members it was is known by the log alone.
                let answer = asked.map_err(|status| {
                    let text = format!("{}: {}", member.authority, status.message());
                    Status::new(status.code(), text)
                })?;
                Some(Secret::new(answer.into_inner().token))
            }
            Some(Login::Token(token)) => Some(token.clone()),
            Some(_) => None,
        };
        if let Some(token) = token
            && !metadata.insert("token", token.reveal())
        {
            return Err(Status::new(Code::Internal, "etcd's token is no text"));
        }
        let member = member.authority.clone();
        Ok(Session {
            channel,
            metadata,
            member,
            patience,
        })
    }

    pub(crate) fn members(&self) -> usize {
        self.shared.members.len()
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.shared.members.iter();
        let members: Vec<_> = members.map(|member| &member.authority).collect();
        f.debug_struct("Etcd")
            .field("members", &members)
            .finish_non_exhaustive()
    }
}

/// Settings of an [`Etcd`]; made by [`Etcd::builder`].
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    /// As they were given: there may be passwords in them.
    members: Vec<String>,
    login: Option<Login>,
    pub(crate) tls: Option<Tls>,
    patience: Duration,
    silence: Duration,
    relist: Duration,
}

impl Builder {
    /// Who asks, where the cluster wants to know it and a member's URL does not say it. Default: nobody.
    ///
    /// Without TLS the password travels as it is: keep that to networks that you trust. No log and no `Debug` shows it.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some(Login::User(name.into(), Secret::new(password)));
        self
    }

    /// The same by a token, which etcd has given, or signed by whom it believes. One that has run out is not made anew: then each attempt
    /// fails, and the log says so.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Some(Login::Token(Secret::new(token)));
        self
    }

    /// How long a member may take for an answer; then it is the turn of the next. Default: 3 s.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// How long a watch may be silent. A quiet watch is asked for a sign of life after half of that, and given up if none comes
    /// in the other half. Default: 5 s.
    pub fn silence(mut self, time: Duration) -> Self {
        self.silence = time;
        self
    }

    /// How often a list is read anew (give or take a tenth) though nothing seems wrong with its watch. Default: 5 minutes.
    pub fn relist(mut self, time: Duration) -> Self {
        self.relist = time;
        self
    }

    /// The cluster.
    ///
    /// # Errors
    /// If it has no members, or one that is none; if TLS is asked for that cannot be had; or a time is less than a millisecond
    /// (`InvalidInput`).
    pub fn build(self) -> io::Result<Etcd> {
        if self.members.is_empty() {
            return Err(wrong("a cluster of etcd without members"));
        }
        let times = [self.patience, self.silence, self.relist];
        if times.iter().any(|time| *time < Duration::from_millis(1)) {
            return Err(wrong(
                "patience, silence and relist must be at least a millisecond",
            ));
        }
        let members = self.members.iter().map(|member| self.member(member));
        let members = members.collect::<io::Result<_>>()?;
        Ok(Etcd {
            shared: Arc::new(Settings {
                members,
                next: AtomicUsize::new(0),
                patience: self.patience,
                silence: self.silence,
                relist: self.relist,
            }),
        })
    }

    fn member(&self, text: &str) -> io::Result<Member> {
        let url = EngineUrl::parse(text, PORT)?;
        let usual = || self.tls.clone().map_or_else(Tls::usual, Ok);
        let tls = match url.scheme.as_deref() {
            None => self.tls.clone(),
            Some("http") => None,
            Some("https") => Some(usual()?),
            Some(_) => return Err(wrong("a member of etcd is named by http or https")),
        };
        if !url.path.is_empty() {
            return Err(wrong("a member of etcd has no path"));
        }
        let authority = url.authority();
        let login = url.login.or_else(|| self.login.clone());
        if matches!(&login, Some(Login::User(name, _)) if name.is_empty()) {
            return Err(wrong("a user of etcd has a name"));
        }
        Ok(Member {
            authority,
            tls,
            login,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the members, with their passwords.
        f.debug_struct("Builder")
            .field("members", &self.members.len())
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Where etcd listens if nobody says otherwise.
const PORT: u16 = 2379;

/// Answers have at most so many bytes; the longest list is some of these.
const MOST_BYTES: usize = 16 << 20;

/// Calls to one member over one connection.
pub(crate) struct Session {
    channel: Channel,
    metadata: Metadata,
    pub(crate) member: String,
    patience: Duration,
}

impl Session {
    pub(crate) fn kv(&self) -> KvClient {
        KvClient::new(self.channel.clone()).with_metadata(self.metadata.clone())
    }

    pub(crate) fn watch(&self) -> WatchClient {
        WatchClient::new(self.channel.clone()).with_metadata(self.metadata.clone())
    }

    pub(crate) fn lease(&self) -> LeaseClient {
        LeaseClient::new(self.channel.clone()).with_metadata(self.metadata.clone())
    }

    /// A call that may take as long as the settings say.
    pub(crate) fn ask<T>(&self, call: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
        within(self.patience, call)
    }
}

/// A call that may take so long.
pub(crate) fn within<T>(
    time: Duration,
    call: impl FnOnce() -> Result<T, Status>,
) -> Result<T, Status> {
    maniple::timeout(time, call).unwrap_or_else(|_| Err(late("no answer in time")))
}

pub(crate) fn late(text: &str) -> Status {
    Status::new(Code::DeadlineExceeded, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_by_a_url_too_and_what_is_none_is_not_repeated() {
        for member in ["h:1", "h", "http://h:1", "http://u:p@h:1", "http://t@h:1/"] {
            assert!(Etcd::builder([member]).build().is_ok(), "{member}");
        }
        for member in [
            "ftp://u:swordfish@h:1",
            "u:swordfish@h:1",
            "http://:swordfish@h:1",
            "http://u:swordfish@h:1/v3",
        ] {
            let error = Etcd::builder([member]).build().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(!error.to_string().contains("swordfish"), "{error}");
        }
    }

    #[test]
    fn nothing_that_is_shown_has_a_password() {
        let builder = Etcd::builder(["http://u:swordfish@h:1", "http://swordfish@h:2"]);
        let builder = builder.user("u", "swordfish");
        let mut shown = format!("{builder:?}");
        shown += &format!("{:?}", builder.token("swordfish"));
        assert!(!shown.contains("swordfish"), "{shown}");
        let etcd = Etcd::builder(["http://u:swordfish@h:1"]).build().unwrap();
        let shown = format!("{etcd:?}");
        assert!(
            shown.contains("h:1") && !shown.contains("swordfish"),
            "{shown}"
        );
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_needs_a_feature_and_says_so() {
        let error = Etcd::builder(["https://h:1"]).build().unwrap_err();
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }
}
