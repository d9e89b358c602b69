//! The fan-out demo over processes: each backend has two replicas, which are killed and come back under load, and no
//! aggregate fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than any of these tests may take: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the demo, killed when it is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(flags: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        command
            .args(flags)
            .args(["--workers", "1"])
            .env("RUST_LOG", "off");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let alone = flags.contains(&"--only");
        let ready = lines.find_map(|line| {
            let line = line.unwrap();
            let is_it = alone || line.starts_with("gateway S");
            is_it.then(|| line.split("http://").nth(1).unwrap().to_owned())
        });
        let ready = ready.expect("it starts");
        let address = ready.split_whitespace().next().unwrap().parse().unwrap();
        // What it prints later has nobody to read it, and is one line.
        thread::spawn(move || lines.for_each(drop));
        Process { child, address }
    }

    fn replica(name: &str, listen: &str) -> Process {
        Process::start(&Self::flags(name, listen, &format!("--{name}")))
    }

    fn flags<'a>(name: &'a str, listen: &'a str, behaviour: &'a str) -> [&'a str; 6] {
        let quick = "latency=fixed:2ms";
        ["--only", name, "--listen", listen, behaviour, quick]
    }

    /// One at any port, which etcd is to tell of.
    fn registered(name: &str, etcd: &Registry) -> Process {
        let behaviour = format!("--{name}");
        let flags = Self::flags(name, "127.0.0.1:0", &behaviour);
        Process::start(&[&flags[..], &["--registry", &etcd.address]].concat())
    }

    /// Asks it to end, and waits until it has.
    fn ends_in_order(&mut self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        assert!(self.child.wait().unwrap().success());
    }

    /// As the kernel does it when memory runs out: without a word to anybody.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: s\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// What a gateway has been asked, and how it went.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    whole: AtomicUsize,
    failed: AtomicUsize,
}

/// Ends the load also where a test fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
    }
}

impl Load {
    fn run(&self, gateway: SocketAddr) {
        while !self.stop.load(SeqCst) {
            let (status, report) = exchange(gateway, "GET", "/aggregate/7?deadline_ms=20000", "");
            if status == 200 && report["complete"] == true {
                self.whole.fetch_add(1, SeqCst);
            } else {
                eprintln!("{status} {report}");
                self.failed.fetch_add(1, SeqCst);
            }
        }
    }

    /// Waits until so many more have been answered.
    fn wait_for(&self, more: usize) {
        let (began, wanted) = (Instant::now(), self.whole.load(SeqCst) + more);
        while self.whole.load(SeqCst) < wanted {
            assert!(began.elapsed() < PATIENCE, "no answers");
            assert_eq!(self.failed.load(SeqCst), 0, "an aggregate failed");
            #[allow(clippy::disallowed_methods, reason = "it looks whether load goes on")]
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Each replica of the gateway's, by address: `state` and how many calls it has had.
fn replicas(gateway: SocketAddr) -> Vec<(String, String, u64)> {
    let (_, state) = exchange(gateway, "GET", "/state", "");
    let backends = state.as_array().unwrap().iter();
    let all = backends.flat_map(|backend| backend["replicas"].as_array().unwrap());
    all.map(|replica| {
        let text = |name: &str| replica[name].as_str().unwrap().to_owned();
        (
            text("address"),
            text("state"),
            replica["calls"].as_u64().unwrap(),
        )
    })
    .collect()
}

fn calls_of(gateway: SocketAddr, address: &str) -> u64 {
    let all = replicas(gateway);
    let of = all.iter().find(|(of, ..)| of == address);
    of.unwrap_or_else(|| panic!("{address} is none of {all:?}"))
        .2
}

#[test]
fn processes_are_killed_and_come_back_under_load_and_no_aggregate_fails() {
    let names = ["a", "b", "c"];
    let mut all: Vec<_> = names
        .iter()
        .flat_map(|name| [(); 2].map(|()| (*name, Process::replica(name, "127.0.0.1:0"))))
        .collect();
    let flags: Vec<String> = all
        .chunks(2)
        .map(|two| format!("{}={},{}", two[0].0, two[0].1.address, two[1].1.address))
        .collect();
    let flags: Vec<&str> = flags.iter().flat_map(|flag| ["--backend", flag]).collect();
    let gateway = Process::start(&[&flags[..], &["--listen", "127.0.0.1:0"]].concat());
    let load = Load::default();
    thread::scope(|scope| {
        let stop = Stop(&load);
        for _ in 0..4 {
            scope.spawn(|| load.run(gateway.address));
        }
        load.wait_for(50);
        for (name, replica) in &mut all {
            replica.kill();
            load.wait_for(100);
            let address = replica.address.to_string();
            let before = calls_of(gateway.address, &address);
            *replica = Process::replica(name, &address);
            // It is found out that it is back.
            let began = Instant::now();
            while calls_of(gateway.address, &address) < before + 5 {
                assert!(began.elapsed() < PATIENCE, "{address} gets no calls");
                load.wait_for(20);
            }
        }
        drop(stop);
    });
    assert_eq!(load.failed.into_inner(), 0);
    assert!(load.whole.into_inner() > 600);
}

#[test]
fn an_embedded_replica_is_killed_and_started_by_its_switch_while_the_demo_runs() {
    let quick = "latency=fixed:1ms";
    let flags = ["--a", quick, "--b", quick, "--c", quick, "--replicas", "2"];
    let gateway = Process::start(&[&flags[..], &["--listen", "127.0.0.1:0"]].concat());
    let load = Load::default();
    thread::scope(|scope| {
        let stop = Stop(&load);
        scope.spawn(|| load.run(gateway.address));
        load.wait_for(20);
        let (address, ..) = replicas(gateway.address).remove(0);
        let path = format!("/power/{address}");
        let (status, off) = exchange(gateway.address, "POST", &path, r#"{"on":false}"#);
        assert_eq!((status, &off["name"]), (200, &Value::from("A")));
        load.wait_for(60);
        assert!(TcpStream::connect(&*address).is_err(), "it is gone");
        exchange(gateway.address, "POST", &path, r#"{"on":true}"#);
        let before = calls_of(gateway.address, &address);
        let began = Instant::now();
        while calls_of(gateway.address, &address) < before + 5 {
            assert!(began.elapsed() < PATIENCE, "it gets no calls");
            load.wait_for(20);
        }
        let nobody = exchange(
            gateway.address,
            "POST",
            "/power/127.0.0.1:1",
            r#"{"on":true}"#,
        );
        assert_eq!(nobody.0, 404);
        drop(stop);
    });
    assert_eq!(load.failed.into_inner(), 0);
}

/// An etcd of the test's own.
struct Registry {
    address: String,
    folder: std::path::PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
    /// So that nobody else has its ports while it is not there.
    _reserved: [(OwnedFd, SocketAddr); 2],
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

impl Registry {
    fn start() -> Registry {
        let bound = [(); 2].map(|()| reserved());
        let [address, peer] = [&bound[0].1, &bound[1].1].map(ToString::to_string);
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, SeqCst);
        let name = format!("maniple-replicas-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let flags = [
            ("data-dir", folder.join("data").to_str().unwrap().to_owned()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("default={peer}")),
        ];
        let flags = flags
            .iter()
            .map(|(name, value)| format!("--{name}={value}"));
        let mut registry = Registry {
            address,
            folder,
            flags: flags.collect(),
            child: None,
            _reserved: bound,
        };
        registry.run();
        registry
    }

    fn run(&mut self) {
        let mut command = Command::new("etcd");
        command.args(&self.flags).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(
            command
                .stderr(Stdio::null())
                .spawn()
                .expect("etcd is installed"),
        );
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
#[ignore = "it needs etcd"]
fn processes_in_etcd_die_end_and_move_under_load_and_no_aggregate_fails() {
    let mut etcd = Registry::start();
    let names = ["a", "b", "c"];
    let mut all: Vec<_> = names
        .iter()
        .flat_map(|name| [(); 2].map(|()| (*name, Process::registered(name, &etcd))))
        .collect();
    let gateway = Process::start(&["--registry", &etcd.address, "--listen", "127.0.0.1:0"]);
    let is_listed = |address: &SocketAddr| {
        let address = address.to_string();
        replicas(gateway.address)
            .iter()
            .any(|(of, ..)| *of == address)
    };
    let wait_until = |what: &str, is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "it never came about: {what}");
            thread::yield_now();
        }
    };
    for (_, replica) in &all {
        wait_until("it is listed", &|| is_listed(&replica.address));
    }
    let load = Load::default();
    thread::scope(|scope| {
        let stop = Stop(&load);
        for _ in 0..4 {
            scope.spawn(|| load.run(gateway.address));
        }
        load.wait_for(50);
        for (round, (name, replica)) in all.iter_mut().enumerate() {
            let before = replica.address;
            // In turn without a word, and in order.
            match round % 2 {
                0 => replica.kill(),
                _ => replica.ends_in_order(),
            }
            load.wait_for(50);
            // It comes back at another place, which etcd alone knows.
            *replica = Process::registered(name, &etcd);
            wait_until("it is listed", &|| is_listed(&replica.address));
            wait_until("it is listed no more", &|| !is_listed(&before));
            wait_until("it is called", &|| {
                calls_of(gateway.address, &replica.address.to_string()) > 0
            });
            if round == 2 {
                // Those that are there go on being called.
                etcd.kill();
                load.wait_for(200);
                etcd.run();
            }
        }
        load.wait_for(50);
        drop(stop);
    });
    assert_eq!(load.failed.into_inner(), 0);
    assert!(load.whole.into_inner() > 500);
}

#[test]
#[ignore = "it needs etcd"]
fn what_the_book_says_of_etcd_is_what_happens() {
    let book = include_str!("../../docs/src/fanout.md");
    let (_, block) = book.split_once("```sh\netcd &\n").expect("the book has it");
    let (block, _) = block.split_once("```").unwrap();
    let etcd = Registry::start();
    let (mut processes, mut asked, mut listed) = (Vec::new(), false, false);
    for line in block.lines() {
        let line = line.replace("127.0.0.1:2379", &etcd.address);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.split_first() {
            Some((&"fanout", flags)) => {
                let flags = flags.strip_suffix(&["&"]).expect("it goes on running");
                let is_gateway = !flags.contains(&"--only");
                let listen = ["--listen", "127.0.0.1:0"];
                let listen = if is_gateway { &listen[..] } else { &[] };
                processes.push(Process::start(&[flags, listen].concat()));
            }
            Some((&"curl", [url])) => {
                let gateway = processes.last().unwrap().address;
                let path = url.trim_matches('\'').strip_prefix("http://127.0.0.1:8080");
                let began = Instant::now();
                while replicas(gateway).len() < processes.len() - 1 {
                    assert!(began.elapsed() < PATIENCE, "{:?}", replicas(gateway));
                }
                let (status, report) = exchange(gateway, "GET", path.unwrap(), "");
                assert_eq!((status, &report["complete"]), (200, &Value::from(true)));
                let (_, state) = exchange(gateway, "GET", "/state", "");
                assert_eq!(state[0]["breaker"], "closed");
                assert_eq!(state[0]["replicas"][0]["weight"], 1);
                assert!(state[0]["retries_left"].as_u64() > Some(0));
                asked = true;
            }
            Some((&"etcdctl", args)) => {
                let mut command = Command::new("etcdctl");
                command
                    .env("ETCDCTL_API", "3")
                    .args(["--endpoints", &etcd.address]);
                let said = command.args(args).output().unwrap();
                let said = String::from_utf8(said.stdout).unwrap();
                assert_eq!(said.matches("/fanout/A/127.0.0.1:").count(), 2, "{said}");
                listed = true;
            }
            _ => panic!("{line:?} is nothing that this test knows"),
        }
    }
    assert!(asked && listed && processes.len() == 5);
}

#[test]
fn a_backend_that_fails_is_left_alone_and_the_page_is_told() {
    let quick = "latency=fixed:1ms";
    let flags = ["--a", "outage=fail", "--b", quick, "--c", quick];
    let gateway = Process::start(&[&flags[..], &["--listen", "127.0.0.1:0"]].concat());
    let breaker = |name: &str| {
        let (_, state) = exchange(gateway.address, "GET", "/state", "");
        (state[0][name].clone(), state[1][name].clone())
    };
    let began = Instant::now();
    while breaker("breaker_refused").0.as_u64() == Some(0) {
        assert!(began.elapsed() < PATIENCE, "it never opens");
        let (status, report) = exchange(gateway.address, "GET", "/aggregate/7?mode=partial", "");
        assert_eq!(
            (status, &report["calls"][0]["outcome"]),
            (200, &Value::from("failed"))
        );
    }
    assert!(breaker("breaker_opened").0.as_u64() > Some(0));
    assert_eq!(breaker("breaker").1, "closed", "that of another backend");
    let well = r#"{"outage":"off","latency":"fixed:1ms"}"#;
    exchange(gateway.address, "POST", "/control/A", well);
    let began = Instant::now();
    while exchange(gateway.address, "GET", "/aggregate/7", "").0 != 200 {
        assert!(began.elapsed() < PATIENCE, "it stays open");
        thread::yield_now();
    }
    assert_eq!(breaker("breaker").0, "closed");
}
