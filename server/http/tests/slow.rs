//! A server under a thousand clients that are slow on purpose, by `slowhttptest`: others are served meanwhile. `.ci/run slow`
//! installs it and runs this.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use maniple::Runtime;
use maniple_server::{BodyError, Files, Request, Router, Server, ServerHandle};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Longer than any request may take: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

const SLOW: usize = 1000;

/// How many of them come in a second: at once they would be a burst of downloads, which is another matter.
const RATE: &str = "200";

/// For how long they are there.
const SECONDS: &str = "15";

/// Between requests of who is not slow.
const PACE: Duration = Duration::from_millis(4);

struct Service {
    handle: ServerHandle,
    folder: std::path::PathBuf,
    _runtime: Runtime,
}

impl Service {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("maniple-slow-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("large"), vec![b'l'; 1 << 20]).unwrap();
        let router = Router::new()
            .get("/", |_: &mut Request| "hello\n")
            .post("/", |request: &mut Request| -> Result<String, BodyError> {
                Ok(format!("{} bytes\n", request.read_body()?.len()))
            })
            .files("/files", Files::new(&folder));
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = Server::builder(router);
        let server = runtime.run(|| server.bind("127.0.0.1:0")).unwrap();
        let handle = server.handle();
        drop(runtime.spawn(move || server.serve()));
        Self {
            handle,
            folder,
            _runtime: runtime,
        }
    }

    /// How long others wait for answers, until `done`, the longest last; and the most connections that there were.
    fn serves_others(&self, mut done: impl FnMut() -> bool) -> (Vec<Duration>, usize) {
        let address = self.handle.local_addr();
        let (mut waits, mut most) = (Vec::new(), 0);
        let mut kept = connect(address);
        while !done() {
            waits.push(ask(&mut kept));
            // One that is new as well.
            let began = Instant::now();
            let mut new = connect(address);
            ask(&mut new);
            waits.push(began.elapsed());
            most = most.max(self.handle.connections());
            maniple::sleep(PACE);
        }
        waits.sort_unstable();
        (waits, most)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.handle.drain();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

fn ask(stream: &mut BufReader<TcpStream>) -> Duration {
    let began = Instant::now();
    let request = b"GET / HTTP/1.1\r\nHost: slow\r\n\r\n";
    stream.get_mut().write_all(request).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200 "), "{line:?}");
    while line != "hello\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the end");
    }
    began.elapsed()
}

fn share(waits: &[Duration], share: f64) -> Duration {
    waits[((waits.len() - 1) as f64 * share) as usize]
}

#[test]
#[ignore = "needs what .ci/run slow installs"]
fn others_are_served_beside_a_thousand_slow_clients() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let service = Service::start();
    let until = Instant::now() + Duration::from_secs(5);
    let (before, _) = service.serves_others(|| Instant::now() > until);
    let alone = share(&before, 0.99);
    println!(
        "alone:         p50 {:?}, p99 {alone:?}",
        share(&before, 0.5)
    );
    for (mode, path, more) in [
        ("-H", "/", &[][..]),
        ("-B", "/", &["-s", "100000"]),
        (
            "-X",
            "/files/large",
            &["-w", "512", "-y", "1024", "-z", "32"],
        ),
        ("-R", "/files/large", &["-a", "5", "-b", "3000"]),
    ] {
        let url = format!("http://{}{path}", service.handle.local_addr());
        let slow = SLOW.to_string();
        let mut slow = Command::new("slowhttptest")
            .args([
                mode, "-c", &slow, "-r", RATE, "-i", "3", "-l", SECONDS, "-u", &url,
            ])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (waits, most) = service.serves_others(|| slow.try_wait().unwrap().is_some());
        let p99 = share(&waits, 0.99);
        let times = p99.as_secs_f64() / alone.as_secs_f64();
        println!(
            "slowhttptest {mode}: p50 {:?}, p99 {p99:?}, {times:.1} times that of before; {} requests, up to {most} connections",
            share(&waits, 0.5),
            waits.len()
        );
        // The ranges of the last one are answered at once.
        assert!(
            most > SLOW / 2 || mode == "-R",
            "{mode}: {most} connections"
        );
        assert!(waits.len() > 100, "{mode}: {} requests", waits.len());
    }
    let _ = std::io::stdout().lock().flush();
    let mut rest = String::new();
    let mut last = connect(service.handle.local_addr());
    ask(&mut last);
    last.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    last.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
