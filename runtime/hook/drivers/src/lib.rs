//! Servers that tests of drivers start, real ones, and how such a test is run: many calls on one worker at once.

mod cut;
mod network;
mod port;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, Once},
    time::{Duration, Instant},
};

use maniple::{Runtime, spawn, timeout};

pub use cut::Cut;
pub use network::{Carries, Network};
pub use port::HeldPort;

/// How long a call takes: the server's time.
pub const CALL: Duration = Duration::from_millis(300);
/// Calls at once.
pub const CALLS: usize = 20;
/// Longer than any test takes that does not hang.
const LONG: Duration = Duration::from_secs(60);

/// Runs `test` on one worker, and bounds it.
pub fn on_one_worker<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    maniple_hook::install().unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| timeout(LONG, test).expect("it does not hang"))
}

/// Runs `call` so many times at once on one worker: all end in little more than the time of one, and the watch, which
/// would name a call that keeps the worker, is silent.
pub fn at_once(call: impl Fn(usize) + Send + Sync + 'static) {
    at_once_by(CALLS, call);
}

/// As many times as that.
pub fn at_once_by(calls: usize, call: impl Fn(usize) + Send + Sync + 'static) {
    let (took, stalls) = on_one_worker(move || {
        let call = std::sync::Arc::new(call);
        // What is made once only: patterns, names, certificates.
        call(0);
        let began = Instant::now();
        let stalls = stalls(|| {
            let all: Vec<_> = (0..calls)
                .map(|n| {
                    let call = call.clone();
                    spawn(move || call(n))
                })
                .collect();
            for one in all {
                one.join().unwrap();
            }
        });
        (began.elapsed(), stalls)
    });
    println!("{calls} calls of {CALL:?} on one worker: {took:?}");
    assert!(took >= CALL, "they took {took:?}, and waited for nothing");
    let limit = CALL * calls as u32 / 3;
    assert!(
        took < limit,
        "one after another: {took:?}, and at most {limit:?} was expected"
    );
    assert!(stalls.is_empty(), "the worker was kept: {stalls:#?}");
}

/// What the watch says meanwhile of who keeps a worker for two thirds of the time of a call.
pub fn stalls(during: impl FnOnce()) -> Vec<String> {
    listen_to_the_watch();
    let watch = maniple::inspect::watch_stalls(CALL * 2 / 3).unwrap();
    during();
    drop(watch);
    std::mem::take(&mut *STALLS.lock().unwrap())
}

static STALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn listen_to_the_watch() {
    struct Listener;
    impl log::Log for Listener {
        fn enabled(&self, of: &log::Metadata<'_>) -> bool {
            of.target() == "maniple::stall"
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                STALLS.lock().unwrap().push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_boxed_logger(Box::new(Listener)).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    STALLS.lock().unwrap().clear();
}

/// A server in a process of its own, which ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// It listens there, on the loopback address.
    pub port: u16,
    held: HeldPort,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        _ = fs::remove_dir_all(&self.folder);
    }
}

impl Server {
    /// Redis.
    pub fn redis() -> Self {
        Self::start("redis-server", |command, port, _| {
            command.args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--tcp-backlog",
                "1200",
            ]);
        })
    }

    /// memcached.
    pub fn memcached() -> Self {
        Self::start("memcached", |command, port, _| {
            command.args([
                "-l",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-U",
                "0",
                "-u",
                "root",
            ]);
        })
    }

    /// Mosquitto, a broker of MQTT.
    pub fn mosquitto() -> Self {
        Self::start("mosquitto", |command, port, folder| {
            let settings = folder.join("mosquitto.conf");
            let lines = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
            fs::write(&settings, lines).unwrap();
            command.arg("-c").arg(settings);
        })
    }

    /// NATS.
    pub fn nats() -> Self {
        Self::start("nats-server", |command, port, _| {
            command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        })
    }

    /// MariaDB, with a user `root` who has no password.
    pub fn mariadb() -> Self {
        let made = |folder: &Path| {
            let data = format!("--datadir={}", folder.display());
            let mut command = Command::new("mariadb-install-db");
            let quick = [
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ];
            run(command
                .args(quick)
                .arg(data)
                .arg(format!("--user={}", user())));
        };
        Self::start("mariadbd", move |command, port, folder| {
            made(folder);
            let in_folder =
                |option: &str, name: &str| format!("--{option}={}/{name}", folder.display());
            command
                .arg("--no-defaults")
                .args([
                    in_folder("datadir", ""),
                    in_folder("socket", "socket"),
                    in_folder("pid-file", "pid"),
                ])
                .args([format!("--port={port}"), format!("--user={}", user())])
                .args([
                    "--bind-address=127.0.0.1",
                    "--skip-name-resolve",
                    "--max-connections=1200",
                    "--back-log=1200",
                ]);
        })
    }

    /// PostgreSQL, with a user `postgres` who has no password. It refuses to be run by root.
    pub fn postgres() -> Self {
        let programs = Path::new("/usr/lib/postgresql");
        let newest = fs::read_dir(programs).expect("PostgreSQL is installed");
        let newest = newest
            .map(|entry| entry.unwrap().path())
            .max()
            .unwrap()
            .join("bin");
        let as_other = |program: &str| {
            let program = newest.join(program);
            match is_root() {
                false => Command::new(program),
                true => {
                    let mut command = Command::new("setpriv");
                    command
                        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                        .arg(program);
                    command
                }
            }
        };
        let (held, folder) = place("postgres");
        let port = held.number();
        let data = folder.join("data");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        run(as_other("initdb")
            .args(["-U", "postgres", "-A", "trust", "-N", "-D"])
            .arg(&data));
        let mut command = as_other("postgres");
        command
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
        command.args(["-k", "", "-c", "max_connections=1200", "-c", "fsync=off"]);
        let server = Self::begin(command, held, folder);
        // It listens before it lets anybody in.
        let at = ["-q", "-h", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        let until = Instant::now() + LONG;
        while !Command::new(newest.join("pg_isready"))
            .args(&at)
            .status()
            .unwrap()
            .success()
        {
            assert!(Instant::now() < until, "PostgreSQL lets nobody in");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A server of Python's: `/slow` is answered after the time of a call, with the number of the request.
    pub fn http() -> Self {
        Self::python("python3", "http", HTTP)
    }

    /// A server of mail, of aiosmtpd. It says the subject of what it has taken; for "slow@" after the time of a call.
    pub fn mail() -> Self {
        Self::python(python(), "mail", include_str!("mail.py"))
    }

    /// A server of WebSockets, of Python's websockets. It says each message again;
    /// one with "slow" after the time of a call.
    pub fn websocket() -> Self {
        Self::python(python(), "websocket", include_str!("websocket.py"))
    }

    fn python(program: impl AsRef<OsStr>, name: &str, code: &str) -> Self {
        let (held, folder) = place(name);
        let mut command = Command::new(program);
        command.args([
            "-c",
            code,
            &held.number().to_string(),
            &CALL.as_secs_f64().to_string(),
        ]);
        Self::begin(command, held, folder)
    }

    fn start(program: &str, settings: impl FnOnce(&mut Command, u16, &Path)) -> Self {
        let (held, folder) = place(program);
        let sbin = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
        let path = sbin.into_iter().find(|path| path.exists());
        let path =
            path.unwrap_or_else(|| panic!("{program} is installed: .ci/run drivers does that"));
        let mut command = Command::new(path);
        settings(&mut command, held.number(), &folder);
        Self::begin(command, held, folder)
    }

    fn begin(mut command: Command, held: HeldPort, folder: PathBuf) -> Self {
        let log = File::create(folder.join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.current_dir(&folder);
        // SAFETY: a system call alone.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self {
            process,
            port: held.number(),
            held,
            folder,
        };
        server.await_port();
        server
    }

    fn await_port(&mut self) {
        let until = Instant::now() + LONG;
        // Of one that has just ended there are no descriptors to be read.
        while !self
            .held
            .is_listened_on_by(self.process.id())
            .unwrap_or(false)
        {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("the server does not listen ({ended:?}): {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it, as a machine does that is overloaded, until that value is dropped: it takes what is sent to it, and
    /// does nothing.
    pub fn stopped(&self) -> Stopped {
        let mut stopped = Stopped(vec![self.process.id()]);
        // It may be one that has a process for each connection. Who stands still has no more of them.
        for n in 0.. {
            let Some(&process) = stopped.0.get(n) else {
                break;
            };
            signal(process, libc::SIGSTOP).unwrap();
            await_standstill(process);
            let children = format!("/proc/{process}/task/{process}/children");
            let children = fs::read_to_string(children).unwrap();
            let children = children.split_whitespace().map(|child| child.parse());
            stopped.0.extend(children.map(Result::<u32, _>::unwrap));
        }
        stopped
    }

    /// Ends it at once, as a machine does whose power is cut.
    pub fn kill(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// A server that does nothing until this is dropped.
#[derive(Debug)]
#[must_use = "it goes on when this is dropped"]
pub struct Stopped(Vec<u32>);

impl Drop for Stopped {
    fn drop(&mut self) {
        for &process in &self.0 {
            _ = signal(process, libc::SIGCONT);
        }
    }
}

/// Until each of its threads has been stopped, which is soon after its signal (proc_pid_stat(5)).
fn await_standstill(process: u32) {
    let is_stopped = |entry: io::Result<fs::DirEntry>| {
        // One that has just ended has none.
        let stat = fs::read_to_string(entry.unwrap().path().join("stat")).unwrap_or_default();
        // The name before it may have anything in it.
        let state = stat.rsplit(") ").next().unwrap_or_default();
        state.is_empty() || state.starts_with(['T', 'Z'])
    };
    let until = Instant::now() + LONG;
    while !fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .all(is_stopped)
    {
        assert!(Instant::now() < until, "{process} goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn signal(process: u32, number: i32) -> io::Result<()> {
    // SAFETY: two numbers, and no memory.
    match unsafe { libc::kill(process as i32, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A port that nobody else gets, and a folder of its own.
fn place(name: &str) -> (HeldPort, PathBuf) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let port = HeldPort::any().unwrap();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("maniple-{name}-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    (port, folder)
}

/// Python with what peers of the tests are made of.
///
/// # Panics
/// If it is not installed.
pub fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let path = root.join("target/ci-tools/drivers/bin/python");
    assert!(
        path.exists(),
        "{} is installed: .ci/run drivers does that",
        path.display()
    );
    path
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A connection's other end that answers each line after the time of a call, then with what `answer` says.
pub fn lines(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut writer = stream.try_clone()?;
                for line in BufReader::new(stream).lines() {
                    let line = line?;
                    std::thread::sleep(CALL);
                    writer.write_all(answer(&line).as_bytes())?;
                }
                io::Result::Ok(())
            });
        }
    });
    Ok(port)
}

const HTTP: &str = r#"
import http.server, itertools, sys, time
numbers = itertools.count()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(float(sys.argv[2]))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *rest):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;
