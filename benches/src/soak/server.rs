//! The server of a soak: short times, low limits, and handlers that are slow, large, wrong.

use std::{
    io::{self, BufRead, Read, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Result;
use maniple::{Runtime, inspect};
use maniple_server::{
    Body, BodyError, Files, Request, Response, Router, Server, ServerHandle, StatusCode,
    middleware::{Middleware, Next},
};
use serde::{Deserialize, Serialize};

/// Bytes of `/stream`.
pub(super) const STREAMED: usize = 200_000;

/// Bytes of `/file` and of `/huge`, which is more than buffers hold.
pub(super) const FILE: u64 = 3 << 20;
pub(super) const HUGE: u64 = 64 << 20;

pub(super) const MOST_BODY: u64 = 1 << 20;

/// Time limits of the server, of which no conversation takes more than a few.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// What the server is at.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Figures {
    connections: usize,
    /// Handlers that have begun and not ended.
    handlers: i64,
    offloaded: usize,
}

impl Figures {
    pub(super) fn is_idle(&self) -> bool {
        (self.connections, self.handlers, self.offloaded) == (0, 0, 0)
    }
}

/// How it ended.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct End {
    pub(super) is_clean: bool,
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

pub(crate) fn run() -> Result<()> {
    // Panics are meant here, and nobody reads of them.
    std::panic::set_hook(Box::new(|_| {}));
    let folder = std::env::temp_dir().join(format!("maniple-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    for (name, length) in [("file", FILE), ("huge", HUGE)] {
        std::fs::File::create(folder.join(name))?.set_len(length)?;
    }
    let router = routes(Files::new(&folder));
    let runtime = Runtime::builder().workers(2).build()?;
    let end = runtime.run(|| -> Result<End> {
        let before = inspect::snapshot().coroutines().count();
        let server = Server::builder(router)
            .header_timeout(LIMIT)
            .body_timeout(LIMIT)
            .idle_timeout(LIMIT)
            .max_body_bytes(MOST_BODY)
            .max_connections_per_peer(4096)
            .bind("127.0.0.1:0")?;
        println!("{}", server.local_addr());
        let handle = server.handle();
        std::thread::spawn(move || obey(&handle));
        let report = server.serve()?;
        // Couriers and the like stay for a moment.
        let until = Instant::now() + 10 * LIMIT;
        while inspect::snapshot().coroutines().count() > before && Instant::now() < until {
            maniple::sleep(Duration::from_millis(20));
        }
        let snapshot = inspect::snapshot();
        let left = snapshot.coroutines().map(|one| format!("{one:?}"));
        let left: Vec<String> = left.collect();
        Ok(End {
            is_clean: report.is_clean(),
            left: match left.len() > before {
                true => left,
                false => Vec::new(),
            },
        })
    })?;
    std::fs::remove_dir_all(&folder)?;
    println!("{}", serde_json::to_string(&end)?);
    // It is killed once that is read.
    maniple::sleep(Duration::from_secs(60));
    Ok(())
}

/// Does what it is told, line by line; a parent that is gone wants the end.
fn obey(server: &ServerHandle) {
    for line in io::stdin().lock().lines() {
        match line.as_deref() {
            Ok("figures") => {
                let ended = ENDED.load(Relaxed) as i64;
                let figures = Figures {
                    connections: server.connections(),
                    handlers: BEGUN.load(Relaxed) as i64 - ended,
                    offloaded: inspect::snapshot().offload_queued(),
                };
                match serde_json::to_string(&figures) {
                    Ok(text) => println!("{text}"),
                    Err(_) => break,
                }
            }
            Ok("drain") => return server.drain(),
            _ => break,
        }
    }
    std::process::exit(1);
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
        .post("/ignore", |_: &mut Request| StatusCode::ACCEPTED)
        .post(
            "/echo",
            |request: &mut Request| -> Result<Vec<u8>, BodyError> {
                Ok(request.read_body()?.to_vec())
            },
        )
        .files("/files", files)
}
