//! A server under many thousands of clients at once that idle, dawdle and reset, beside a few that ask, and a verdict.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use fastrand::Rng;
use maniple::{Runtime, cancel::CancelToken, net::TcpStream, sleep};
use maniple_server::{BodyError, Request, Router, Server};

use crate::{
    memory::Memory,
    process::{self, Child, Core, raise_descriptor_limit},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Connections that are there at once.
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    #[arg(value_parser = clap::value_parser!(u16).range(100..))]
    connections: u16,
    /// How long they stay once they are there.
    #[arg(long, default_value = "60", value_parser = seconds)]
    seconds: f64,
    /// What the clients do follows from it; if not given, another one each time.
    #[arg(long)]
    seed: Option<u64>,
}

/// What a connection may cost the server: a coroutine with what it has touched of its stack, and buffers that are lent to it.
const MOST_BYTES_EACH: u64 = 32 * 1024;

/// What the server may grow by beside that: stacks and buffers that it keeps for the next, and a fragmented heap.
const SLACK_BYTES: u64 = 64 << 20;

/// Between two requests of those that ask.
const PACE: Duration = Duration::from_millis(10);

/// How long an answer may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the clients may take to connect.
const THERE_WITHIN: Duration = Duration::from_secs(60);

/// How long the server may take to notice that all have gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of `/long`, more than a client's kernel takes in.
const LONG: usize = 1 << 20;

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Asks once, and then nothing.
    Idle,
    /// Sends a head by the byte.
    SlowHead,
    /// Sends a body by the byte.
    SlowBody,
    /// Asks for much and takes little.
    SlowReader,
    /// Sends some of a request, resets, and comes again.
    Resets,
}

const KINDS: [Kind; 5] = [
    Kind::Idle,
    Kind::SlowHead,
    Kind::SlowBody,
    Kind::SlowReader,
    Kind::Resets,
];

/// What has happened.
#[derive(Default)]
struct Tally {
    connected: AtomicU64,
    /// Connections that the server ended, or that failed.
    ended: AtomicU64,
    resets: AtomicU64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(u64::from(options.connections) + 512)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!(
        "siege of {} s by {} connections, --seed {seed}",
        options.seconds, options.connections
    );
    let mut server = Child::start(["serve-siege"])?;
    let address: SocketAddr = server.line(PATIENCE)?.parse()?;
    let runtime = Runtime::builder().workers(1).build()?;
    let tally = Tally::default();
    let idle = Figures::of(server.id())?;
    let (waits, most) = runtime.run(|| besiege(options, seed, address, server.id(), &tally))?;
    let gone = until_gone(server.id(), &idle)?;
    let complaints = judge(options, &waits, &idle, &most, gone);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{} connected, {} ended by the server, {} reset; at most {} descriptors and {:.1} MiB resident, {:.1} before",
        tally.connected.load(Relaxed),
        tally.ended.load(Relaxed),
        tally.resets.load(Relaxed),
        most.descriptors,
        mib(most.resident),
        mib(idle.resident)
    );
    println!(
        "{} others were answered: half within {:?}, p99 {:?}, at most {:?}",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    if let Some(gone) = gone {
        println!("the last descriptor was closed {gone:?} after the clients had gone");
    }
    for complaint in &complaints {
        println!("complaint: {complaint}");
    }
    ensure!(complaints.is_empty(), "not sound, --seed {seed}");
    println!("verdict: sound");
    server.stop()
}

/// The server: its defaults, three routes, one worker.
pub(crate) fn serve() -> Result<()> {
    process::settle(Core::First)?;
    raise_descriptor_limit(1024)?;
    // One for all: what handlers make is theirs to bound.
    let long: &'static [u8] = vec![b'l'; LONG].leak();
    let router = Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/long", move |_: &mut Request| long)
        .post("/", |request: &mut Request| -> Result<String, BodyError> {
            Ok(format!("{} bytes", request.read_body()?.len()))
        });
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let server = Server::builder(router).bind("127.0.0.1:0")?;
        println!("{}", server.local_addr());
        server.serve()
    })?;
    Ok(())
}

/// What a process holds.
struct Figures {
    resident: u64,
    descriptors: usize,
}

impl Figures {
    fn of(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}/fd");
        let all = std::fs::read_dir(&folder).context("the server is not there any more")?;
        Ok(Self {
            resident: Memory::of(&[process])?.resident,
            descriptors: all.count(),
        })
    }
}

/// How long others waited, shortest first, and the most that the server held.
fn besiege(
    options: &Options,
    seed: u64,
    address: SocketAddr,
    server: u32,
    tally: &Tally,
) -> Result<(Vec<Duration>, Figures)> {
    let over = CancelToken::new();
    maniple::group(|group| {
        for nth in 0..u64::from(options.connections) {
            let over = over.clone();
            group.spawn(move || {
                let mut rng = Rng::with_seed(seed ^ nth.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let kind = KINDS[nth as usize % KINDS.len()];
                // All of them come within a tenth of the time.
                let start = rng.f64() * options.seconds / 10.0;
                let _ = over.run(|| {
                    sleep(Duration::from_secs_f64(start));
                    loop {
                        let _ = converse(kind, address, &mut rng, tally);
                        if maniple::cancel::check().is_err() {
                            return;
                        }
                        tally.ended.fetch_add(1, Relaxed);
                        sleep(Duration::from_millis(rng.u64(100..1000)));
                    }
                });
            });
        }
        let watched = watch(options, address, server);
        over.cancel();
        watched
    })
}

fn watch(options: &Options, address: SocketAddr, server: u32) -> Result<(Vec<Duration>, Figures)> {
    // Or what is measured would be how fast they connect, on a machine that does much else.
    let began = Instant::now();
    while Figures::of(server)?.descriptors < at_least(options) && began.elapsed() < THERE_WITHIN {
        sleep(Duration::from_millis(100));
    }
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let mut most = Figures::of(server)?;
    let mut waits = Vec::new();
    let mut looked = Instant::now();
    let mut kept = TcpStream::connect(address)?;
    while Instant::now() < until {
        waits.push(ask(&mut kept).context("one that was connected was not answered")?);
        let began = Instant::now();
        let mut new = TcpStream::connect(address).context("one that is new was not connected")?;
        ask(&mut new).context("one that is new was not answered")?;
        waits.push(began.elapsed());
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            let now = Figures::of(server)?;
            most.resident = most.resident.max(now.resident);
            most.descriptors = most.descriptors.max(now.descriptors);
            progress(&format!("{} descriptors", now.descriptors));
        }
        sleep(PACE);
    }
    progress("");
    waits.sort_unstable();
    Ok((waits, most))
}

fn ask(stream: &mut TcpStream) -> Result<Duration> {
    let began = Instant::now();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: siege\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut some = [0; 512];
    while !answer.ends_with(b"\r\n\r\nhello") {
        match stream.read(&mut some)? {
            0 => bail!("an end behind {:?}", String::from_utf8_lossy(&answer)),
            count => answer.extend_from_slice(&some[..count]),
        }
    }
    Ok(began.elapsed())
}

/// Until the server ends it.
fn converse(kind: Kind, address: SocketAddr, rng: &mut Rng, tally: &Tally) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    tally.connected.fetch_add(1, Relaxed);
    let mut byte = [0];
    match kind {
        Kind::Idle => {
            ask(&mut stream)?;
            stream.set_read_timeout(None)?;
            stream.read_exact(&mut byte)?;
        }
        Kind::SlowHead => dawdle(&mut stream, b"GET / HTTP/1.1\r\nHost: ", rng)?,
        Kind::SlowBody => {
            let head = b"POST / HTTP/1.1\r\nHost: siege\r\nContent-Length: 4096\r\n\r\n";
            dawdle(&mut stream, head, rng)?;
        }
        Kind::SlowReader => {
            stream.write_all(b"GET /long HTTP/1.1\r\nHost: siege\r\n\r\n")?;
            while stream.read(&mut [0; 256])? > 0 {
                sleep(Duration::from_millis(rng.u64(1000..3000)));
            }
        }
        Kind::Resets => loop {
            let most = b"GET / HTTP/1.1\r\nHost: siege\r\n\r\n";
            stream.write_all(&most[..rng.usize(0..=most.len())])?;
            sleep(Duration::from_millis(rng.u64(200..2000)));
            stream.set_linger(Some(Duration::ZERO))?;
            drop(stream);
            tally.resets.fetch_add(1, Relaxed);
            stream = TcpStream::connect(address)?;
            tally.connected.fetch_add(1, Relaxed);
        },
    }
    Ok(())
}

/// Sends this, and then a byte now and then.
fn dawdle(stream: &mut TcpStream, head: &[u8], rng: &mut Rng) -> Result<()> {
    stream.write_all(head)?;
    loop {
        sleep(Duration::from_millis(rng.u64(1000..3000)));
        stream.write_all(b"x")?;
    }
}

/// How long it took until the server had no more descriptors than before; `None` if it took too long.
fn until_gone(server: u32, before: &Figures) -> Result<Option<Duration>> {
    let began = Instant::now();
    while Figures::of(server)?.descriptors > before.descriptors + 8 {
        if began.elapsed() > GONE_WITHIN {
            return Ok(None);
        }
        maniple::sleep(Duration::from_millis(50));
    }
    Ok(Some(began.elapsed()))
}

fn judge(
    options: &Options,
    waits: &[Duration],
    before: &Figures,
    most: &Figures,
    gone: Option<Duration>,
) -> Vec<anyhow::Error> {
    let connections = u64::from(options.connections);
    let bound = before.resident + SLACK_BYTES + connections * MOST_BYTES_EACH;
    let mut complaints = Vec::new();
    if most.resident > bound {
        let (resident, bound) = (mib(most.resident), mib(bound));
        complaints.push(anyhow!("{resident:.1} MiB resident, and not {bound:.1}"));
    }
    if most.descriptors < at_least(options) {
        complaints.push(anyhow!("only {} descriptors at a time", most.descriptors));
    }
    if waits.len() < 2 {
        complaints.push(anyhow!("nobody else was served"));
    }
    if gone.is_none() {
        complaints.push(anyhow!(
            "connections were left {GONE_WITHIN:?} after their clients"
        ));
    }
    complaints
}

/// How many connections there are at a time: some are always between two.
fn at_least(options: &Options) -> usize {
    usize::from(options.connections) * 8 / 10
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
