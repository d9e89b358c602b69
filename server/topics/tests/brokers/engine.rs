//! Redis and NATS themselves, in processes of the tests' own.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use maniple_tls::ClientConfig;
use maniple_topics::{Builder, SharedHub};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::authority::Authority;

/// Longer than anything here may take: only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came about: {what}");
        maniple::sleep(Duration::from_millis(5));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Redis,
    Nats,
}

/// A broker, which ends with this.
pub struct Broker {
    kind: Kind,
    pub address: String,
    folder: PathBuf,
    command: Vec<String>,
    child: Option<Child>,
    /// So that nobody else has its address while it is not there.
    _reserved: OwnedFd,
}

/// An address that nobody is given who asks for any, and at which processes may follow each other.
fn reserved() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, sockopt};
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let bound = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&bound).unwrap().try_into().unwrap();
    (bound, address)
}

impl Broker {
    pub fn start(kind: Kind) -> Broker {
        Self::start_with(kind, "", None)
    }

    /// One that speaks TLS alone.
    pub fn start_secured(kind: Kind, authority: &Authority) -> Broker {
        Self::start_with(kind, "", Some(authority))
    }

    /// One with such lines among its settings, which come first.
    pub fn start_with(kind: Kind, settings: &str, authority: Option<&Authority>) -> Broker {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("maniple-broker-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (reserved, address) = reserved();
        let file = folder.join("config");
        let config = file.to_str().unwrap().to_owned();
        let port = address.port();
        if let Some(authority) = authority {
            authority.write(&folder, "server");
        }
        let is_secured = authority.is_some();
        // `limited` may have topics that begin with "open" alone.
        let (text, command) = match kind {
            Kind::Redis => {
                let listen = match is_secured {
                    true => format!(
                        "port 0\ntls-port {port}\ntls-cert-file server.pem\n\
                         tls-key-file server-key.pem\ntls-ca-cert-file ca.pem\ntls-auth-clients no"
                    ),
                    false => format!("port {port}"),
                };
                (
                    format!(
                        "{settings}\n{listen}\nbind 127.0.0.1\nsave \"\"\nappendonly no\n\
                         user limited on >secret resetchannels &open* +@all\n"
                    ),
                    vec!["redis-server".to_owned(), config],
                )
            }
            Kind::Nats => {
                let tls = match is_secured {
                    true => "tls { cert_file: server.pem, key_file: server-key.pem }",
                    false => "",
                };
                let users = "no_auth_user: anybody\nauthorization { users = [\n\
                     { user: anybody, password: x }\n\
                     { user: limited, password: secret, permissions: \
                     { publish: \"open.>\", subscribe: \"open.>\" } }\n] }";
                // Who may come is told once.
                let users = match settings.contains("authorization") {
                    true => "",
                    false => users,
                };
                (
                    format!("{settings}\nlisten: 127.0.0.1:{port}\n{tls}\n{users}\n"),
                    vec!["nats-server".to_owned(), "-c".to_owned(), config],
                )
            }
        };
        fs::write(&file, text).unwrap();
        let mut broker = Broker {
            kind,
            address: address.to_string(),
            folder,
            command,
            child: None,
            _reserved: reserved,
        };
        broker.run();
        broker
    }

    /// A hub over it, with little patience.
    pub fn builder(&self) -> Builder {
        self.builder_at(&self.address)
    }

    /// The same by such a URL.
    pub fn builder_at(&self, url: &str) -> Builder {
        let short = Duration::from_secs(1);
        let builder = match self.kind {
            Kind::Redis => SharedHub::redis("rooms", [url]),
            Kind::Nats => SharedHub::nats("rooms", [url]),
        };
        builder.patience(short * 4).silence(short * 2).queue(64)
    }

    /// The same by TLS, as somebody.
    pub fn builder_by_tls(&self, login: &str, tls: ClientConfig) -> Builder {
        let scheme = match self.kind {
            Kind::Redis => "rediss",
            Kind::Nats => "tls",
        };
        self.builder_at(&format!("{scheme}://{login}@{}", self.address))
            .tls(tls)
    }

    pub fn hub(&self) -> SharedHub {
        self.builder().build().unwrap()
    }

    pub fn run(&mut self) {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).current_dir(&self.folder);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().expect("it is installed"));
        eventually("it listens", || TcpStream::connect(&self.address).is_ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn id(&self) -> Pid {
        let id = self.child.as_ref().expect("it runs").id();
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// It stands still: its connections are there, and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // All its threads do, then.
        waitpid(Some(self.id()), WaitOptions::UNTRACED).unwrap();
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
