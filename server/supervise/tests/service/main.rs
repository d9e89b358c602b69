//! A service of several processes, as those see it who start it, ask it, and end it.
//!
//! The service is this test program: it is started with the name of one of its tests, which is ignored otherwise.

mod crashes;
mod ends;
mod reloads;
mod systemd;

use std::{
    collections::BTreeSet,
    env, fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use maniple_server::{Request as Asked, Response, Router, Server, server::Health};
use maniple_supervise::{
    End, Supervisor, Worker,
    ctl::{self, Request},
};

/// Longer than anything here takes: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

/// Waits for what comes by itself.
#[track_caller]
fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let over = Instant::now() + LONG;
    loop {
        if let Some(it) = there() {
            return it;
        }
        assert!(Instant::now() < over, "{what} did not come");
        std::thread::yield_now();
    }
}

/// A folder for one service, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (own, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(format!("maniple-supervise-{own}-{count}"));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A service that runs, ended when it is dropped.
struct Service {
    process: Child,
    folder: Folder,
}

impl Service {
    /// Of two workers.
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(settings: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new();
        let mut command = service(&folder);
        settings(&mut command);
        Self {
            process: command.spawn().unwrap(),
            folder,
        }
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control")
    }

    fn ctl(&self, request: Request) -> io::Result<String> {
        ctl::ask(&self.control(), request)
    }

    fn status(&self) -> String {
        self.ctl(Request::Status).unwrap_or_default()
    }

    /// Waits until all workers serve, and says where.
    #[track_caller]
    fn address(&mut self) -> SocketAddr {
        let status = until("a service that is ready", || {
            assert_eq!(self.process.try_wait().unwrap(), None, "it has ended");
            let status = self.status();
            status.starts_with("serving: ").then_some(status)
        });
        let said = status.split_whitespace().find_map(|word| word.parse().ok());
        said.unwrap_or_else(|| until("an address", || self.said_address()))
    }

    /// What the workers say, whose word may come behind the one that they are ready.
    fn said_address(&self) -> Option<SocketAddr> {
        let status = self.status();
        status.split_whitespace().find_map(|word| word.parse().ok())
    }

    /// Waits until `ctl status` has that text.
    #[track_caller]
    fn until_status(&self, text: &str) -> String {
        until(text, || {
            let status = self.status();
            status.contains(text).then_some(status)
        })
    }

    fn signal(&self, signal: &str) {
        signal_to(self.process.id(), signal);
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        until("the end", || self.process.try_wait().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Its workers end with it, but for one that hangs.
        for worker in pids(&self.status()) {
            let kill = format!("kill -9 {worker}");
            let _ = Command::new("sh").args(["-c", &kill]).status();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that starts the service, whose supervisor is that process.
fn service(folder: &Folder) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "the_service", "--ignored", "--nocapture"])
        .env("SERVICE", &folder.0)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn signal_to(pid: u32, signal: &str) {
    let kill = format!("kill -{signal} {pid}");
    let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(sent.success(), "{kill}");
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

/// The body of the answer, over a connection of its own.
fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(answer)),
    }
}

/// The workers' processes, as `ctl status` lists them.
fn pids(status: &str) -> BTreeSet<u32> {
    let rows = status.lines().skip(2);
    let second = rows.filter_map(|row| row.split_whitespace().nth(1));
    second.filter_map(|pid| pid.parse().ok()).collect()
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    // Under another name first: a program that runs cannot be written to.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
#[ignore = "the service that the other tests start"]
fn the_service() {
    let Some(folder) = env::var_os("SERVICE").map(PathBuf::from) else {
        return;
    };
    let setting = |name: &str| env::var(name).ok();
    let number = |name: &str| setting(name).and_then(|text| text.parse::<u64>().ok());
    let mut supervisor = Supervisor::new()
        .workers(number("WORKERS").unwrap_or(2) as usize)
        .control(folder.join("control"))
        .restart_pause(Duration::from_millis(50), Duration::from_millis(400))
        .adopt_orphans(true);
    if let Some(millis) = number("WATCHDOG") {
        supervisor = supervisor.watchdog(Duration::from_millis(millis));
    }
    if let Some(program) = setting("PROGRAM") {
        supervisor = supervisor.program(program);
    }
    let address = setting("ADDRESS").unwrap_or("127.0.0.1:0".to_owned());
    let supervisor = supervisor.listen("http", &address).unwrap();
    let worker = match supervisor.run() {
        Ok(Some(worker)) => worker,
        Ok(None) => return,
        Err(error) => {
            fs::write(folder.join("error"), error.to_string()).unwrap();
            std::process::exit(1);
        }
    };
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| serve(worker)).unwrap();
}

fn serve(mut worker: Worker) -> io::Result<()> {
    if env::var_os("REFUSES").is_some() {
        return Err(io::Error::other("it does not want to"));
    }
    let (health, generation) = (Health::new(), worker.generation());
    let server = Server::builder(routes(&health, generation))
        .health(&health)
        .listener(worker.take("http")?)?;
    let handle = server.handle();
    worker.say(&format!("{} at {}", std::process::id(), server.address()))?;
    worker.ready(move |why| match why {
        End::Replaced => handle.hand_over(),
        End::Stopped => handle.drain(),
    })?;
    server.serve().map(drop)
}

fn routes(health: &Health, generation: u64) -> Router {
    Router::new()
        .get("/", |_: &mut Asked| "hello")
        .get("/readyz", health.ready())
        .get("/generation", move |_: &mut Asked| generation.to_string())
        .get("/pid", |_: &mut Asked| std::process::id().to_string())
        .get("/mark", |_: &mut Asked| {
            env::var("MARK").unwrap_or("none".into())
        })
        .get("/slow", |_: &mut Asked| {
            maniple::sleep(Duration::from_millis(500));
            "slow"
        })
        .get("/crash", |_: &mut Asked| -> Response {
            std::process::abort()
        })
        .get("/hang", |_: &mut Asked| -> Response {
            fs::write(
                PathBuf::from(env::var_os("SERVICE").unwrap()).join("hanging"),
                "",
            )
            .unwrap();
            loop {
                std::hint::spin_loop();
            }
        })
        .get("/stdin", |_: &mut Asked| {
            fs::read_link("/proc/self/fd/0")
                .unwrap()
                .display()
                .to_string()
        })
        .get("/orphan", |_: &mut Asked| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 0.2 >/dev/null & echo $!"]);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        })
}
