//! etcd itself, in processes of the tests' own, and its command.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::authority::Authority;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Longer than anything here may take: only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came about: {what}");
        maniple::sleep(Duration::from_millis(10));
    }
}

/// A cluster, which ends with this.
pub struct Cluster {
    folder: PathBuf,
    pub members: Vec<Member>,
    /// So that nobody else has their ports while they are not there.
    _reserved: Vec<OwnedFd>,
    /// What `etcdctl` is told of TLS.
    tls: Vec<String>,
}

pub struct Member {
    pub address: String,
    flags: Vec<String>,
    child: Option<Child>,
}

/// A port that nobody is given who asks for any, and at which processes may follow each other.
fn reserved() -> (OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, sockopt};
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let bound = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&bound).unwrap()).unwrap();
    (bound, address.port())
}

impl Cluster {
    /// One of so many members, which has a leader.
    pub fn start(count: usize) -> Cluster {
        Self::start_with(count, None)
    }

    /// One that speaks TLS, with those alone who show a certificate of this authority.
    pub fn start_secured(authority: &Authority) -> Cluster {
        Self::start_with(1, Some(authority))
    }

    fn start_with(count: usize, authority: Option<&Authority>) -> Cluster {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("maniple-etcd-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (mut tls_flags, mut tls) = (Vec::new(), Vec::new());
        if let Some(authority) = authority {
            authority.write(&folder, "server");
            authority.write(&folder, "root");
            let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
            tls_flags = vec![
                ("cert-file", at("server.pem")),
                ("key-file", at("server-key.pem")),
                ("trusted-ca-file", at("ca.pem")),
                ("client-cert-auth", "true".to_owned()),
            ];
            tls = vec![
                format!("--cacert={}", at("ca.pem")),
                format!("--cert={}", at("root.pem")),
                format!("--key={}", at("root-key.pem")),
            ];
        }
        let scheme = if tls.is_empty() { "http" } else { "https" };
        let (reserved, ports): (_, Vec<_>) = (0..2 * count).map(|_| reserved()).unzip();
        let peers: Vec<_> = (0..count)
            .map(|at| format!("m{at}=http://127.0.0.1:{}", ports[count + at]))
            .collect();
        let members = (0..count).map(|at| {
            let client = format!("{scheme}://127.0.0.1:{}", ports[at]);
            let peer = format!("http://127.0.0.1:{}", ports[count + at]);
            let data = folder.join(format!("m{at}"));
            let flags = [
                ("name", format!("m{at}")),
                ("data-dir", data.to_str().unwrap().to_owned()),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer),
                ("initial-cluster", peers.join(",")),
                ("heartbeat-interval", "50".to_owned()),
                ("election-timeout", "500".to_owned()),
            ];
            let mut member = Member {
                address: format!("127.0.0.1:{}", ports[at]),
                flags: flags
                    .iter()
                    .chain(&tls_flags)
                    .map(|(name, value)| format!("--{name}={value}"))
                    .collect(),
                child: None,
            };
            member.start(&folder);
            member
        });
        let members = members.collect();
        let cluster = Cluster {
            folder,
            members,
            _reserved: reserved,
            tls,
        };
        cluster.is_up();
        cluster
    }

    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|m| m.address.clone()).collect()
    }

    /// Waits until it answers.
    pub fn is_up(&self) {
        eventually("etcd is up", || self.try_ctl(&["get", "nothing"]).is_ok());
    }

    pub fn restart(&mut self, member: usize) {
        let Cluster {
            folder, members, ..
        } = self;
        members[member].start(folder);
    }

    /// What `etcdctl` says.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> String {
        let said = self.try_ctl(args);
        said.unwrap_or_else(|error| panic!("etcdctl {args:?}: {error}"))
    }

    /// Whether a command succeeds at one member.
    pub fn try_at(&self, member: usize, args: &[&str]) -> bool {
        self.command(&self.members[member].address, args).is_ok()
    }

    fn try_ctl(&self, args: &[&str]) -> Result<String, String> {
        // By those that run: it would wait for the first.
        let there = self.members.iter().filter(|member| member.child.is_some());
        let there: Vec<_> = there.map(|member| &*member.address).collect();
        self.command(&there.join(","), args)
    }

    fn command(&self, members: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", members, "--dial-timeout=2s"]);
        command.args(&self.tls);
        command.arg("--command-timeout=2s").args(args);
        let output = command.output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A token of a user's, as etcd gives it to who asks by HTTP.
    pub fn token(&self, name: &str, password: &str) -> String {
        let mut stream = TcpStream::connect(&self.members[0].address).unwrap();
        let body = format!(r#"{{"name":"{name}","password":"{password}"}}"#);
        let length = body.len();
        let head = "POST /v3/auth/authenticate HTTP/1.0\r\ncontent-type: application/json";
        let request = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let behind = answer.split(r#""token":""#).nth(1).expect("a token");
        behind.split('"').next().unwrap().to_owned()
    }

    /// The values of all keys with a prefix.
    pub fn values(&self, prefix: &str) -> Vec<String> {
        let said = self.ctl(&["get", "--prefix", "--print-value-only", prefix]);
        said.lines().map(str::to_owned).collect()
    }

    /// Which of the members leads.
    pub fn leader(&self) -> usize {
        let said = self.ctl(&["endpoint", "status", "--write-out=json"]);
        // Each member's identity, and its leader's.
        let number = |text: &str, name: &str| {
            let behind = text.split(&format!("\"{name}\":")).nth(1)?;
            let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        };
        let mut parts = said.split("\"Endpoint\":").skip(1);
        let leads = |part: &&str| number(part, "member_id") == number(part, "leader");
        let part = parts.find(leads).expect("there is a leader");
        let address = part.trim_start_matches('"').split('"').next().unwrap();
        let of = |member: &Member| member.address == address;
        self.members.iter().position(of).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(Member::kill);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Member {
    fn start(&mut self, folder: &Path) {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join("log"))
            .unwrap();
        let mut command = Command::new("etcd");
        command.args(&self.flags).current_dir(folder);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("etcd is installed"));
    }

    /// Without a word to anybody.
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
