//! maniple's coroutines.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use maniple::{
    JoinHandle, Runtime,
    net::{TcpListener, TcpStream},
    sleep, spawn,
    sync::{AcquireError, Notify, Semaphore, SemaphorePermit},
    task::Builder,
    yield_now,
};

use super::{LONG, Measured, Operation, Point, SLOT, Stopwatch};

pub(super) fn run(point: &Point) -> Result<Measured> {
    let coroutines = usize::try_from(point.coroutines())?;
    let runtime = Runtime::builder()
        .workers(1)
        .stack_size(SLOT)
        .max_coroutines(coroutines.saturating_add(1024))
        .build()?;
    runtime.run(|| match point.operation {
        Operation::Yield => crowd(point, yield_now),
        Operation::TimerFire => {
            let pause = point.pause();
            crowd(point, move || sleep(pause))
        }
        Operation::Permit => permits(point, |gate| gate.acquire()),
        Operation::TimerCancel => permits(point, |gate| gate.acquire_timeout(LONG)),
        Operation::Connection => connections(point),
    })
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

    fn meet(&self) {
        self.arrive();
        // Closed, not granted.
        let _ = self.gate.acquire();
    }
}

/// Each does the operation; the clock runs while all are there.
fn crowd(point: &Point, operation: impl Fn() + Clone + Send + 'static) -> Result<Measured> {
    let works = (0..point.count).map(|_| operation.clone());
    timed(point, works)
}

fn timed(
    point: &Point,
    works: impl Iterator<Item = impl FnMut() + Send + 'static>,
) -> Result<Measured> {
    let rounds = point.rounds();
    let (start, end) = (Meeting::of(point.count), Meeting::of(point.count));
    let mut handles = Vec::new();
    for mut work in works {
        let (start, end) = (Arc::clone(&start), Arc::clone(&end));
        handles.push(Builder::new().spawn(move || {
            start.meet();
            (0..rounds).for_each(|_| work());
            end.meet();
        })?);
    }
    start.complete.notified();
    let clock = Stopwatch::start()?;
    start.gate.close();
    end.complete.notified();
    let measured = clock.per(point.operations())?;
    end.gate.close();
    join(handles)?;
    Ok(measured)
}

type Acquired<'a> = Result<SemaphorePermit<'a>, AcquireError>;

/// All wait, as `acquire` does; then all are granted what they wait for.
fn permits(point: &Point, acquire: fn(&Semaphore) -> Acquired<'_>) -> Result<Measured> {
    let rounds = point.rounds();
    let armed = Meeting::of(point.count);
    let mut handles = Vec::new();
    for _ in 0..point.count {
        let armed = Arc::clone(&armed);
        handles.push(Builder::new().spawn(move || {
            for _ in 0..rounds {
                armed.arrive();
                acquire(&armed.gate).expect("granted in time").forget();
            }
            armed.arrive();
        })?);
    }
    let all = usize::try_from(point.count)?;
    armed.complete.notified();
    let clock = Stopwatch::start()?;
    for _ in 0..rounds {
        armed.gate.add_permits(all);
        armed.complete.notified();
    }
    let measured = clock.per(point.operations())?;
    join(handles)?;
    Ok(measured)
}

fn connections(point: &Point) -> Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut streams = Vec::new();
    for _ in 0..point.count {
        let stream = TcpStream::connect(address)?;
        let (mut peer, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        peer.set_nodelay(true)?;
        streams.push(stream);
        // Ends, detached, when its client does.
        spawn(move || {
            let mut message = [0; 8];
            while peer
                .read_exact(&mut message)
                .and_then(|()| peer.write_all(&message))
                .is_ok()
            {}
        });
    }
    let works = streams.into_iter().map(|mut stream| {
        move || {
            let mut message = [7; 8];
            stream.write_all(&message).expect("sent");
            stream.read_exact(&mut message).expect("received");
        }
    });
    timed(point, works)
}

fn join(handles: Vec<JoinHandle<()>>) -> Result<()> {
    Ok(handles.into_iter().try_for_each(JoinHandle::join)?)
}
