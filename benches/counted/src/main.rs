//! The hot paths, each done a given number of times, for `maniple-bench count` to count what that takes.

use std::{
    env,
    hint::black_box,
    io::{Read, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow};
use maniple::{
    JoinError, group,
    net::TcpStream,
    sleep, spawn,
    sync::{
        Mutex,
        broadcast::{self, Lag, RecvTimeoutError},
        channel::bounded,
    },
    yield_now,
};
use maniple_counted::Path;
use maniple_server::{
    Client, Request, Router, Server,
    middleware::{ConcurrencyLimit, Metrics, RequestId, Timeout},
    sse::{self, Event, Next},
    websocket,
};

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["build"] => {
            print!("{BUILD}");
            Ok(())
        }
        [path, times] => parsed(path, times).and_then(|(path, times)| perform(path, times)),
        _ => Err(anyhow!(
            "to be called with `build`, or a path and how often"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maniple-counted: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A line each: the compiler, what it compiled for, its flags beside the profile's.
const BUILD: &str = concat!(
    env!("BENCH_RUSTC_VERSION"),
    "\n",
    env!("BENCH_TARGET"),
    "\n",
    env!("BENCH_RUSTFLAGS"),
    "\n"
);

fn parsed(path: &str, times: &str) -> Result<(Path, u64)> {
    Ok((
        path.parse().map_err(Error::msg)?,
        times.parse().context("how often")?,
    ))
}

/// Does it so many times on one worker.
fn perform(path: Path, times: u64) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| match path {
        Path::Yield2 => yields(2, times),
        Path::Yield1000 => yields(1_000, times),
        Path::SpawnJoin => Ok((0..times).try_for_each(|_| spawn(|| ()).join())?),
        Path::Group3 => Ok((0..times).try_for_each(|_| group_of_three())?),
        Path::Join3 => {
            for _ in 0..times {
                black_box(maniple::join!(black_box(1), black_box(2), black_box(3)));
            }
            Ok(())
        }
        Path::PingPong => ping_pong(times, None),
        Path::Timer => ping_pong(times, Some(Duration::from_secs(3600))),
        Path::Mutex => {
            let mutex = Mutex::new(0u64);
            (0..times).for_each(|_| *black_box(&mutex).lock() += 1);
            Ok(())
        }
        Path::Sleep => {
            (0..times).for_each(|_| sleep(Duration::from_millis(1)));
            Ok(())
        }
        Path::Http => http(hello(), times, 1),
        Path::HttpChain => http(behind_a_chain(hello()), times, 1),
        Path::Client => client(times),
        Path::HttpPipelined => http(hello(), times, 16),
        Path::Events16 => events(times, 16),
        Path::Websocket => websocket(times),
    })
}

fn yields(coroutines: u64, times: u64) -> Result<()> {
    let each = times / coroutines;
    let tasks: Vec<_> = (0..coroutines)
        .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
        .collect();
    Ok(tasks.into_iter().try_for_each(|task| task.join())?)
}

fn group_of_three() -> Result<(), JoinError> {
    let numbers = [1, 2, 3];
    let sum = group(|g| {
        let [one, two, three] = numbers
            .each_ref()
            .map(|number| g.spawn(move || *black_box(number)));
        Ok::<_, JoinError>(one.join()? + two.join()? + three.join()?)
    })?;
    black_box(sum);
    Ok(())
}

fn ping_pong(times: u64, timeout: Option<Duration>) -> Result<()> {
    let (ping, pinged) = bounded(1);
    let (pong, ponged) = bounded(1);
    let echo = spawn(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    for message in 0..times {
        ping.send(message)?;
        black_box(match timeout {
            None => ponged.recv()?,
            Some(timeout) => ponged.recv_timeout(timeout)?,
        });
    }
    drop(ping);
    Ok(echo.join()?)
}

const BODY: &str = "Hello, World!";

fn hello() -> Router {
    Router::new().get("/", |_: &mut Request| BODY)
}

fn behind_a_chain(router: Router) -> Router {
    router
        .with(Metrics::new())
        .with(RequestId::new())
        .with(ConcurrencyLimit::new(10_000))
        .with(Timeout::new(Duration::from_secs(30)))
}

/// The client beside the server, on the same worker.
fn client(times: u64) -> Result<()> {
    let server = Server::builder(hello()).bind("127.0.0.1:0")?;
    let (url, handle) = (format!("http://{}/", server.local_addr()), server.handle());
    let serving = spawn(move || server.serve());
    let client = Client::new();
    for _ in 0..times {
        black_box(client.get(&url)?.bytes()?);
    }
    drop(client);
    handle.drain();
    serving.join()??;
    Ok(())
}

/// The server as it comes, and a client on the same worker: so that one thing happens after the other.
fn http(router: Router, times: u64, pipelined: usize) -> Result<()> {
    let server = Server::builder(router).bind("127.0.0.1:0")?;
    let (address, handle) = (server.local_addr(), server.handle());
    let serving = spawn(move || server.serve());
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut answer = [0; 4096];
    stream.write_all(request.as_bytes())?;
    let length = stream.read(&mut answer)?;
    let whole = answer[..length].ends_with(BODY.as_bytes());
    whole
        .then_some(())
        .context("the first answer came in pieces")?;
    // All answers are as long: the date has a fixed width.
    let batch = request.repeat(pipelined);
    for _ in 0..times / pipelined as u64 {
        stream.write_all(batch.as_bytes())?;
        stream.read_exact(&mut answer[..length * pipelined])?;
    }
    drop(stream);
    handle.drain();
    serving.join()??;
    Ok(())
}

/// What is published goes to each subscriber, and the next once all have it.
fn events(times: u64, subscribers: usize) -> Result<()> {
    let (publisher, _) = broadcast::channel::<Arc<Event>>(4, Lag::DropOldest);
    let subscribed = publisher.clone();
    let router = Router::new().get("/", move |request: &mut Request| {
        let mut published = subscribed.subscribe();
        sse::stream(request, move |events| {
            events.forward(|within| match published.recv_timeout(within) {
                Ok(event) => Next::Event(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Lagged(_)) => Next::Nothing,
                Err(_) => Next::End,
            })
        })
    });
    let server = Server::builder(router).bind("127.0.0.1:0")?;
    let (address, handle) = (server.local_addr(), server.handle());
    let serving = spawn(move || server.serve());
    let mut answer = [0; 4096];
    let mut streams = Vec::new();
    for _ in 0..subscribers {
        let mut stream = TcpStream::connect(address)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let length = stream.read(&mut answer)?;
        let is_head = answer[..length].ends_with(b"\r\n\r\n");
        is_head.then_some(()).context("no head by itself")?;
        streams.push(stream);
    }
    let event = Arc::new(Event::data("forty bytes that a subscriber may want #"));
    // In a chunk: its size in four digits, and two ends of lines.
    let length = event.as_str().len() + 8;
    for _ in 0..times / subscribers as u64 {
        publisher.send(event.clone())?;
        for stream in &mut streams {
            stream.read_exact(&mut answer[..length])?;
        }
    }
    let is_event = answer[..length].ends_with(b"#\n\n\r\n");
    is_event.then_some(()).context("no event")?;
    drop(streams);
    handle.drain();
    serving.join()??;
    Ok(())
}

/// Echoes of short messages, one after the other.
fn websocket(times: u64) -> Result<()> {
    let router = Router::new().get("/", |request: &mut Request| {
        websocket::upgrade(request, |socket| {
            while let Some(message) = socket.receive()? {
                socket.send(message)?;
            }
            Ok(())
        })
    });
    let server = Server::builder(router).bind("127.0.0.1:0")?;
    let (address, handle) = (server.local_addr(), server.handle());
    let serving = spawn(move || server.serve());
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer)?;
    let is_head = answer[..length].ends_with(b"\r\n\r\n");
    is_head.then_some(()).context("no head by itself")?;
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![0x82, 0x80 | 64];
    frame.extend(mask);
    frame.extend(
        (0..64)
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    for _ in 0..times {
        stream.write_all(&frame)?;
        stream.read_exact(&mut answer[..66])?;
    }
    let is_echo = answer[..3] == [0x82, 64, 0];
    is_echo.then_some(()).context("no echo")?;
    drop(stream);
    handle.drain();
    serving.join()??;
    Ok(())
}
