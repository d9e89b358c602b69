//! tokio's tasks on its current-thread runtime.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ::tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    spawn,
    sync::{Notify, Semaphore},
    task::{JoinHandle, yield_now},
    time::{sleep, timeout},
};
use anyhow::Result;

use super::{LONG, Measured, Operation, Point, Stopwatch};

pub(super) fn run(point: &Point) -> Result<Measured> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let point = *point;
    runtime.block_on(async move { spawn(measure(point)).await? })
}

async fn measure(point: Point) -> Result<Measured> {
    let rounds = point.rounds();
    let each = 0..point.count;
    match point.operation {
        Operation::Yield => {
            let works = each.map(|_| async move {
                for _ in 0..rounds {
                    yield_now().await;
                }
            });
            timed(&point, works).await
        }
        Operation::TimerFire => {
            let pause = point.pause();
            let works = each.map(|_| async move {
                for _ in 0..rounds {
                    sleep(pause).await;
                }
            });
            timed(&point, works).await
        }
        Operation::Permit => permits(&point, false).await,
        Operation::TimerCancel => permits(&point, true).await,
        Operation::Connection => connections(&point).await,
    }
}

/// Where all wait for each other, and one waits for all.
#[derive(Debug)]
struct Meeting {
    size: u64,
    arrived: AtomicU64,
    complete: Notify,
    gate: Semaphore,
}

impl Meeting {
    fn of(size: u64) -> Arc<Self> {
        Arc::new(Self {
            size,
            arrived: AtomicU64::new(0),
            complete: Notify::new(),
            gate: Semaphore::new(0),
        })
    }

    fn arrive(&self) {
        if (self.arrived.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(self.size) {
            self.complete.notify_one();
        }
    }

    async fn meet(&self) {
        self.arrive();
        // Closed, not granted.
        let _ = self.gate.acquire().await;
    }
}

/// Each task does its work; the clock runs while all are there.
async fn timed<F>(point: &Point, works: impl Iterator<Item = F>) -> Result<Measured>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (start, end) = (Meeting::of(point.count), Meeting::of(point.count));
    let mut handles = Vec::new();
    for work in works {
        let (start, end) = (Arc::clone(&start), Arc::clone(&end));
        handles.push(spawn(async move {
            start.meet().await;
            work.await;
            end.meet().await;
        }));
    }
    start.complete.notified().await;
    let clock = Stopwatch::start()?;
    start.gate.close();
    end.complete.notified().await;
    let measured = clock.per(point.operations())?;
    end.gate.close();
    join(handles).await?;
    Ok(measured)
}

/// All wait, with a timeout or without; then all are granted what they wait for.
async fn permits(point: &Point, with_timeout: bool) -> Result<Measured> {
    let rounds = point.rounds();
    let armed = Meeting::of(point.count);
    let mut handles = Vec::new();
    for _ in 0..point.count {
        let armed = Arc::clone(&armed);
        handles.push(spawn(async move {
            for _ in 0..rounds {
                armed.arrive();
                let permit = match with_timeout {
                    true => timeout(LONG, armed.gate.acquire()).await.expect("in time"),
                    false => armed.gate.acquire().await,
                };
                permit.expect("granted").forget();
            }
            armed.arrive();
        }));
    }
    let all = usize::try_from(point.count)?;
    armed.complete.notified().await;
    let clock = Stopwatch::start()?;
    for _ in 0..rounds {
        armed.gate.add_permits(all);
        armed.complete.notified().await;
    }
    let measured = clock.per(point.operations())?;
    join(handles).await?;
    Ok(measured)
}

async fn connections(point: &Point) -> Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let rounds = point.rounds();
    let mut streams = Vec::new();
    for _ in 0..point.count {
        let stream = TcpStream::connect(address).await?;
        let (mut peer, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        peer.set_nodelay(true)?;
        streams.push(stream);
        // Ends, detached, when its client does.
        spawn(async move {
            let mut message = [0; 8];
            while peer.read_exact(&mut message).await.is_ok() {
                if peer.write_all(&message).await.is_err() {
                    break;
                }
            }
        });
    }
    let works = streams.into_iter().map(|mut stream| async move {
        for _ in 0..rounds {
            let mut message = [7; 8];
            stream.write_all(&message).await.expect("sent");
            stream.read_exact(&mut message).await.expect("received");
        }
    });
    timed(point, works).await
}

async fn join(handles: Vec<JoinHandle<()>>) -> Result<()> {
    for handle in handles {
        handle.await?;
    }
    Ok(())
}
