//! The server of a soak: short times, low limits, and handlers that are slow, large, wrong.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use maniple::{Runtime, inspect};
use maniple_server::{
    Body, BodyError, Files, Request, Response, Router, Server, ServerHandle, StatusCode,
    middleware::{Middleware, Next},
    sse,
    tls::{Certificate, ServerConfig},
    transport::Listener,
    websocket,
};
use maniple_supervise::{End, Supervisor, Worker};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where files are that are served, and `chain.pem` and `key.pem`.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    tls: bool,
    #[arg(long)]
    supervised: bool,
}

/// Bytes of `/stream`.
pub(super) const STREAMED: usize = 200_000;

/// Bytes of `/file` and of `/huge`, which is more than buffers hold.
pub(super) const FILE: u64 = 3 << 20;
pub(super) const HUGE: u64 = 64 << 20;

pub(super) const MOST_BODY: u64 = 1 << 20;

/// Events of `/events`.
pub(super) const EVENTS: usize = 100;

/// How often it looks whether its certificate is another one.
const RELOAD: Duration = Duration::from_millis(500);

/// Time limits of the server, of which no conversation takes more than a few.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// For how long a worker that ends waits for its conversations: longer than any of them.
const GRACE: Duration = Duration::from_secs(40);

/// How long it waits before it ends for good until all that was left behind is gone: more than its longest time limit.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

/// What a process says, in a line each.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Word {
    /// It serves.
    Ready {
        address: String,
        generation: u64,
    },
    Ended(Ended),
}

/// What the server is at.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Figures {
    connections: usize,
    /// Handlers that have begun and not ended.
    handlers: i64,
    offloaded: usize,
}

impl Figures {
    fn of(server: &ServerHandle) -> Self {
        let ended = ENDED.load(Relaxed) as i64;
        Self {
            connections: server.connections(),
            handlers: BEGUN.load(Relaxed) as i64 - ended,
            offloaded: inspect::snapshot().offload_queued(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        (self.connections, self.handlers, self.offloaded) == (0, 0, 0)
    }
}

/// How a process ended.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Ended {
    /// What there was when all clients had gone; nothing of one that was replaced before.
    pub(super) figures: Option<Figures>,
    pub(super) is_clean: bool,
    /// Requests that came to a handler.
    pub(super) handled: u64,
    /// Handshakes that were done, and that failed.
    pub(super) handshakes: (u64, u64),
    /// Coroutines, by where they wait.
    pub(super) left: Vec<String>,
}

static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Counts handlers, however they end.
struct Counted;

impl Middleware for Counted {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        struct Ended;
        impl Drop for Ended {
            fn drop(&mut self) {
                ENDED.fetch_add(1, Relaxed);
            }
        }
        BEGUN.fetch_add(1, Relaxed);
        let _ended = Ended;
        next.run(request)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let supervisor = Supervisor::new()
        .listen("http", "127.0.0.1:0")?
        .workers(if options.supervised { 2 } else { 0 })
        .end_timeout(IDLE_WITHIN + GRACE * 2);
    let Some(worker) = supervisor.run()? else {
        return Ok(());
    };
    // Panics are meant here, and nobody reads of them.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = if worker.is_supervised() { 1 } else { 2 };
    let runtime = Runtime::builder().workers(threads).build()?;
    let ended = runtime.run(|| serve(worker, options))?;
    say(&Word::Ended(ended))
}

fn say(word: &Word) -> Result<()> {
    // In one write, since others may be writing to the same pipe.
    let line = serde_json::to_string(word)? + "\n";
    Ok(io::stdout().lock().write_all(line.as_bytes())?)
}

fn serve(mut worker: Worker, options: &Options) -> Result<Ended> {
    // What the server's keeper needs has begun with it, and ends with it.
    let before = inspect::snapshot().coroutines().count();
    let mut listener = Listener::try_from(worker.take("http")?)?;
    let config = match options.tls {
        true => Some(secure(options)?),
        false => None,
    };
    let reloading = config
        .as_ref()
        .map(|config| config.reload_on_change(RELOAD));
    let reloading = reloading.transpose()?;
    if let Some(config) = &config {
        listener = listener.tls(config.clone());
    }
    let server = Server::builder(routes(Files::new(&options.folder)))
        .header_timeout(LIMIT)
        .body_timeout(LIMIT)
        .idle_timeout(LIMIT)
        .max_body_bytes(MOST_BODY)
        .max_connections_per_peer(4096)
        .drain_grace(GRACE)
        .listener(listener)?;
    let word = Word::Ready {
        address: server.local_addr().to_string(),
        generation: worker.generation(),
    };
    let handle = server.handle();
    let (figures, of_the_end) = std::sync::mpsc::channel();
    worker.ready(move |why| match why {
        End::Replaced => handle.hand_over(),
        End::Stopped => {
            std::thread::spawn(move || {
                // Before a drain, which would end what is idle.
                let _ = figures.send(once_idle(&handle));
                handle.drain();
            });
        }
    })?;
    say(&word)?;
    let report = server.serve()?;
    drop(reloading);
    let handshakes = config.map(|config| config.handshakes());
    // Couriers and the like stay for a moment.
    let until = Instant::now() + 10 * LIMIT;
    let left = loop {
        let snapshot = inspect::snapshot();
        // Those wait for signals and the supervisor, and end with the process.
        let of_worker = |name: &str| name.starts_with("worker ");
        let others = snapshot.coroutines();
        let others = others.filter(|one| !one.name().is_some_and(of_worker));
        let left: Vec<String> = others.map(|one| format!("{one:?}")).collect();
        match left.len() {
            count if count <= before => break Vec::new(),
            _ if Instant::now() > until => break left,
            _ => maniple::sleep(Duration::from_millis(20)),
        }
    };
    Ok(Ended {
        figures: of_the_end.try_recv().ok(),
        is_clean: report.is_clean(),
        handled: BEGUN.load(Relaxed),
        handshakes: handshakes.map_or((0, 0), |all| (all.full + all.resumed, all.failed)),
        left,
    })
}
fn secure(options: &Options) -> Result<ServerConfig> {
    let file = |name: &str| options.folder.join(name);
    let certificate = Certificate::files(file("chain.pem"), file("key.pem"));
    let config = ServerConfig::builder()
        .certificate(certificate)
        .handshake_timeout(LIMIT);
    Ok(config.build()?)
}

/// What there is once nothing is, or still after a time.
fn once_idle(server: &ServerHandle) -> Figures {
    let until = Instant::now() + IDLE_WITHIN;
    loop {
        let figures = Figures::of(server);
        if figures.is_idle() || Instant::now() > until {
            return figures;
        }
        maniple::sleep(Duration::from_millis(50));
    }
}

/// Events until the client goes or the server ends.
fn events(request: &mut Request) -> Response {
    let settings = sse::Settings::new().last_event(sse::Event::named("bye").with_data("bye"));
    settings.stream(request, |events| {
        for count in 0..EVENTS {
            if !events.wait(Duration::from_millis(5)) {
                break;
            }
            events.send(&sse::Event::data(format!("event {count}")))?;
        }
        Ok(())
    })
}

fn socket(request: &mut Request) -> Response {
    websocket::upgrade(request, |socket| {
        while let Some(message) = socket.receive()? {
            socket.send(message)?;
        }
        Ok(())
    })
}

fn routes(files: Files) -> Router {
    Router::new()
        .with(Counted)
        .get("/hello", |_: &mut Request| "hello")
        .get("/slow", |_: &mut Request| {
            maniple::sleep(Duration::from_millis(30));
            "slow"
        })
        .get("/panic", |_: &mut Request| -> &'static str {
            panic!("meant")
        })
        .get("/stream", |_: &mut Request| {
            Response::text(Body::from_reader(io::repeat(b's').take(STREAMED as u64)))
        })
        .get("/broken", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                out.write_all(&[b'b'; 50_000])?;
                panic!("meant, too")
            }))
        })
        .get("/events", events)
        .get("/socket", socket)
        .post("/ignore", |_: &mut Request| StatusCode::ACCEPTED)
        .post(
            "/echo",
            |request: &mut Request| -> Result<Vec<u8>, BodyError> {
                Ok(request.read_body()?.to_vec())
            },
        )
        .files("/files", files)
}
