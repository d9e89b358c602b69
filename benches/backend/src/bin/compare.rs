//! Both services under `wrk`, in turns: requests for each second of their processor's time, latency, lines of code.
//! `cargo run --release --bin compare`, in `benches/backend`, with PostgreSQL, Redis and wrk of Debian.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use maniple_backend::Told;
use maniple_drivers::{HeldPort, Server};

const ROUNDS: usize = 5;
const SECONDS: u64 = 6;
const CLIENTS: u32 = 64;
const ITEMS: i32 = 1000;

fn main() {
    let servers = [Server::postgres(), Server::redis()];
    let database = format!("postgres://postgres@127.0.0.1:{}/postgres", servers[0].port);
    let cache = format!("redis://127.0.0.1:{}/", servers[1].port);
    fill(&database, &cache);
    // Nobody else gets them between now and when a service listens there.
    let ports = [(); 2].map(|()| HeldPort::any().expect("a port"));
    let [quotes, own] = ports.each_ref().map(at);
    let _quotes = start("quotes", &[("OWN", &quotes)]);
    wait_for(&quotes);

    let services = ["ours", "peer"];
    let mut seen: [Vec<Seen>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (service, seen) in services.iter().zip(&mut seen) {
            let places = [
                ("OWN", &own),
                ("DATABASE", &database),
                ("CACHE", &cache),
                ("QUOTES", &format!("http://{quotes}")),
            ];
            let process = start(service, &places);
            wait_for(&own);
            check(&own);
            // Connections are made, and what is compiled or cached once.
            load(&own, 1);
            let before = used(process.0.id());
            let mut now = load(&own, SECONDS);
            now.used = used(process.0.id()) - before;
            seen.push(now);
        }
    }
    println!("| | maniple | axum |\n|---|--:|--:|");
    row(
        "requests for each second of the service's processor time",
        &seen,
        |seen| seen.requests as f64 / seen.used.as_secs_f64(),
    );
    row(
        "requests a second, on a machine that all share",
        &seen,
        |seen| seen.requests as f64 / SECONDS as f64,
    );
    row("median latency, ms", &seen, |seen| seen.median);
    row("p99, ms", &seen, |seen| seen.p99);
    let lines = services.map(lines);
    println!("| lines of code | {} | {} |", lines[0], lines[1]);
    let per_second = |at: usize| {
        middle(&seen[at], |seen| {
            seen.requests as f64 / seen.used.as_secs_f64()
        })
    };
    println!(
        "\n{:.2} times as many requests for each second of processor time",
        per_second(0) / per_second(1)
    );
}

struct Seen {
    requests: u64,
    used: Duration,
    median: f64,
    p99: f64,
}

fn row(name: &str, seen: &[Vec<Seen>; 2], of: impl Fn(&Seen) -> f64 + Copy) {
    println!(
        "| {name} | {:.1} | {:.1} |",
        middle(&seen[0], of),
        middle(&seen[1], of)
    );
}

/// The median.
fn middle(seen: &[Seen], of: impl Fn(&Seen) -> f64) -> f64 {
    let mut all: Vec<f64> = seen.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn fill(database: &str, cache: &str) {
    let mut database = PgConnection::establish(database).expect("a database");
    let table = format!(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL); \
         INSERT INTO items SELECT n, 'item ' || n, n * 3 FROM generate_series(1, {ITEMS}) AS n; ANALYZE items"
    );
    database.batch_execute(&table).expect("a table");
    let mut cache = redis::Client::open(cache)
        .and_then(|client| client.get_connection())
        .expect("a cache");
    for id in 1..=ITEMS {
        redis::cmd("SET")
            .arg(format!("stock:{id}"))
            .arg(id % 100)
            .exec(&mut cache)
            .expect("it is kept");
    }
}

/// Where the holder of that port listens.
fn at(port: &HeldPort) -> String {
    format!("127.0.0.1:{}", port.number())
}

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn start(name: &str, places: &[(&str, &String)]) -> Process {
    let program = std::env::current_exe()
        .expect("a path")
        .with_file_name(name);
    let mut command = Command::new(&program);
    command.envs(places.iter().copied()).stdin(Stdio::null());
    Process(command.spawn().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; cargo build --release builds it",
            program.display()
        )
    }))
}

fn wait_for(address: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "nobody listens at {address}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// It answers what it should.
fn check(address: &str) {
    let client = maniple_server::Client::new();
    let told: Told = client
        .get(&format!("http://{address}/items/42"))
        .and_then(|told| told.json())
        .expect("an answer");
    let right = Told {
        name: "item 42".into(),
        price: 126,
        stock: 42,
        quote: "a word on 42".into(),
    };
    assert_eq!(told, right);
}

fn load(address: &str, seconds: u64) -> Seen {
    let url = format!("http://{address}/items/42");
    let duration = format!("-d{seconds}s");
    let clients = format!("-c{CLIENTS}");
    let output = Command::new("wrk")
        .args(["-t1", &clients, &duration, "--latency", &url])
        .output()
        .expect("wrk");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!told.contains("Non-2xx"), "{told}");
    let behind = |word: &str| {
        let line = told
            .lines()
            .find(|line| line.trim_start().starts_with(word));
        line.unwrap_or_else(|| panic!("{word}: {told}"))
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    let requests = told
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let requests = requests
        .and_then(|(n, _)| n.parse().ok())
        .unwrap_or_else(|| panic!("{told}"));
    Seen {
        requests,
        used: Duration::ZERO,
        median: millis(&behind("50%")),
        p99: millis(&behind("99%")),
    }
}

fn millis(time: &str) -> f64 {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    let found = units
        .iter()
        .find_map(|(unit, factor)| Some(time.strip_suffix(unit)?.parse::<f64>().ok()? * factor));
    found.unwrap_or_else(|| panic!("{time} is no time"))
}

/// The processor's time of a process.
fn used(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // SAFETY: asks for a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Duration::from_secs_f64((fields[11] + fields[12]) as f64 / ticks)
}

/// Lines of a service that are neither empty nor comments.
fn lines(service: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/bin")
        .join(service)
        .with_extension("rs");
    let text = fs::read_to_string(path).expect("the source");
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}
