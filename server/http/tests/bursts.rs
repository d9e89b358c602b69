//! More connections than there can be coroutines, or than there are descriptors for: the server goes on, and a signal
//! drains it.

use std::{
    env,
    fs::File,
    io::{
        ErrorKind::{ConnectionReset, QuotaExceeded},
        Read, Write,
    },
    net::{SocketAddr, TcpStream},
    os::unix::fs::FileExt,
    process::Command,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use maniple::Runtime;
use maniple_server::{Request, Router, Server};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a burst is of; each half is sent by a thread.
const CONNECTIONS: usize = 1_200;
const BURSTS: usize = 4;

/// Asks once on each of many connections; how many were answered, and how many ended without an answer.
fn burst(address: SocketAddr) -> (usize, usize) {
    let (mut answered, mut ended) = (0, 0);
    let streams: Vec<_> = (0..CONNECTIONS / 2)
        .filter_map(|_| TcpStream::connect(address).ok())
        .collect();
    for mut stream in &streams {
        // One that was closed already says so in the read.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    }
    for mut stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Ok(_) if answer.ends_with("hello") => answered += 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("stands still"),
            _ => ended += 1,
        }
    }
    (answered, ended)
}

/// Serves bursts on a runtime, and ends in an orderly way at SIGTERM.
fn serve_bursts(runtime: Runtime) {
    let router = Router::new().get("/", |_: &mut Request| {
        maniple::sleep(Duration::from_millis(1));
        "hello"
    });
    let server = Server::builder(router)
        .handle_signals(true)
        .bind("127.0.0.1:0")
        .unwrap();
    let (address, handle) = (server.local_addr(), server.handle());
    let serving = runtime.spawn(move || server.serve());
    let mut answered = 0;
    for _ in 0..BURSTS {
        let halves = [(); 2].map(|()| thread::spawn(move || burst(address)));
        for half in halves {
            answered += half.join().unwrap().0;
        }
    }
    assert!(answered > 0, "some got a coroutine");
    assert!(handle.refused() > 0, "some did not");
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    let report = serving.join().unwrap().unwrap();
    assert_eq!((handle.connections(), report.cancelled), (0, 0));
    assert!(runtime.shutdown().is_clean());
}

/// Runs this test again in a process of its own, under a limit of the shell's, where it does `child`.
fn in_a_process(test: &str, limit: &str, child: impl FnOnce()) {
    const INSIDE: &str = "MANIPLE_BURSTS_CHILD";
    if env::var_os(INSIDE).is_some() {
        return child();
    }
    let mut process = Command::new("sh")
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .spawn()
        .unwrap();
    let id = process.id();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(process.wait().unwrap()));
    match end.recv_timeout(2 * PATIENCE) {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            panic!("{test} stands still");
        }
    }
}

#[test]
fn beyond_max_coroutines_connections_are_closed_and_a_signal_drains() {
    let name = "beyond_max_coroutines_connections_are_closed_and_a_signal_drains";
    in_a_process(name, "-n 4096", || {
        let builder = Runtime::builder().workers(2).max_coroutines(50);
        serve_bursts(builder.build().unwrap());
    });
}

#[test]
fn beyond_the_address_space_connections_are_closed_and_a_signal_drains() {
    let name = "beyond_the_address_space_connections_are_closed_and_a_signal_drains";
    // Of stacks of 1 MiB, some hundreds.
    in_a_process(name, "-v 700000", || {
        let builder = Runtime::builder().workers(2).stack_size(1024 * 1024);
        serve_bursts(builder.build().unwrap());
    });
}

/// Counts warnings.
struct Warnings;

static WARNED: AtomicUsize = AtomicUsize::new(0);
static WARNING: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            *WARNING.lock().unwrap() = record.args().to_string();
            WARNED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

fn ask(mut stream: TcpStream) {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer:?}");
}

/// Processor time that this process has used, in hundredths of a second (proc(5)).
fn processor_time(stat: &File) -> u64 {
    let mut bytes = [0; 1024];
    let count = stat.read_at(&mut bytes, 0).unwrap();
    let stat = String::from_utf8_lossy(&bytes[..count]);
    let behind_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<_> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    let name = "without_descriptors_accepting_pauses_and_goes_on_when_there_are_some";
    in_a_process(name, "-n 200", || {
        log::set_logger(&Warnings).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let router = Router::new().get("/", |_: &mut Request| "hello");
        let server = Server::builder(router).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = runtime.spawn(move || server.serve());
        ask(TcpStream::connect(address).unwrap());
        let stat = File::open("/proc/self/stat").unwrap();
        // Their other ends have descriptors here too, but not all.
        let waiting: Vec<_> = (0..150)
            .map_while(|_| TcpStream::connect(address).ok())
            .collect();
        let until = Instant::now() + PATIENCE;
        while WARNED.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < until, "{} connected", waiting.len());
            thread::yield_now();
        }
        let (began, used) = (Instant::now(), processor_time(&stat));
        thread::park_timeout(Duration::from_secs(1));
        let share = (processor_time(&stat) - used) as f64 / began.elapsed().as_secs_f64() / 100.0;
        assert!(share < 0.5, "{share} of a core");
        assert_eq!(WARNED.load(Ordering::Relaxed), 1, "lines in the log");
        let warning = WARNING.lock().unwrap().clone();
        let hint = "; raise `ulimit -n` (200), or set max_connections below it";
        assert!(warning.ends_with(hint), "{warning}");
        drop(waiting);
        // It may take those that were given back until it finds that their peers are gone.
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            thread::yield_now();
        };
        ask(stream);
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn workers_that_find_no_descriptor_to_accept_with_wait_for_one() {
    let name = "workers_that_find_no_descriptor_to_accept_with_wait_for_one";
    in_a_process(name, "-n 200", || {
        log::set_logger(&Warnings).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let router = Router::new().get("/", |_: &mut Request| "hello");
        let server = Server::builder(router).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        // What the workers need themselves they have.
        runtime.run(|| maniple::sleep(Duration::from_millis(1)));
        let all: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let serving = runtime.spawn(move || server.serve());
        let until = Instant::now() + PATIENCE;
        while WARNED.load(Ordering::Relaxed) == 0 {
            assert!(!handle.is_draining(), "it has given up");
            assert!(Instant::now() < until);
            thread::yield_now();
        }
        drop(all);
        ask(TcpStream::connect(address).unwrap());
        assert!(!handle.is_draining());
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn a_server_goes_on_where_a_worker_got_no_stack_to_accept_with() {
    // Either of two workers, by chance.
    for _ in 0..10 {
        // The server, and two more: what watches for refusals, and what accepts on the workers, are three.
        let runtime = Runtime::builder().workers(2).max_coroutines(3).build();
        let runtime = runtime.unwrap();
        let server = Server::builder(Router::new()).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = runtime.spawn(move || server.serve());
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let ended = stream.read(&mut [0]);
            assert!(
                matches!(ended, Ok(0)) || ended.is_err_and(|error| error.kind() == ConnectionReset)
            );
        }
        assert!(!serving.is_finished());
        handle.drain();
        serving.join().unwrap().unwrap();
    }
}

#[test]
fn a_server_fails_where_no_worker_has_a_stack_to_accept_with() {
    let runtime = Runtime::builder().workers(2).max_coroutines(1).build();
    let runtime = runtime.unwrap();
    let server = Server::builder(Router::new()).bind("127.0.0.1:0").unwrap();
    let serving = runtime.spawn(move || server.serve());
    let error = serving.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), QuotaExceeded, "{error}");
}

/// Whether their clients are there is asked in one round, which is longer than a turn on the worker may be.
#[test]
fn clients_that_all_end_their_sending_are_answered_and_so_are_those_that_come_and_go_meanwhile() {
    let name = "clients_that_all_end_their_sending_are_answered_and_so_are_those_that_come_and_go_meanwhile";
    in_a_process(name, "-n 4096", || {
        static PANICS: AtomicUsize = AtomicUsize::new(0);
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tell(panic);
        }));
        let (gate, opened) = maniple::sync::channel::unbounded::<()>();
        let router = Router::new().get("/", |_: &mut Request| "hello").get(
            "/wait",
            move |_: &mut Request| {
                assert!(opened.recv().is_err());
                "waited"
            },
        );
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let server = Server::builder(router).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = runtime.spawn(move || server.serve());

        let waiting: Vec<TcpStream> = (0..CONNECTIONS / 2)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let request = b"GET /wait HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
                stream.write_all(request).unwrap();
                stream
            })
            .collect();
        for stream in &waiting {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut asked = vec![false; waiting.len()];
        let until = Instant::now() + PATIENCE;
        while asked.contains(&false) {
            assert!(Instant::now() < until, "some are not asked");
            assert!(burst(address).0 > 0);
            for (stream, asked) in waiting.iter().zip(&mut asked) {
                stream.set_nonblocking(true).unwrap();
                *asked |= stream.peek(&mut [0]).is_ok();
                stream.set_nonblocking(false).unwrap();
            }
        }
        drop(gate);
        for mut stream in waiting {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "));
            assert!(answer.ends_with("waited"), "{answer}");
        }
        handle.drain();
        assert!(serving.join().unwrap().unwrap().is_clean());
        assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    });
}
