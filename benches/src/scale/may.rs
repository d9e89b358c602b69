//! may's coroutines.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ::may::{
    coroutine::{Coroutine, JoinHandle, park, sleep, yield_now},
    go,
    net::{TcpListener, TcpStream},
    sync::Semphore,
};
use anyhow::{Result, anyhow};

use super::{LONG, Measured, Operation, Point, SLOT, Stopwatch};

pub(super) fn run(point: &Point) -> Result<Measured> {
    ::may::config()
        .set_workers(1)
        .set_pool_capacity(1)
        .set_stack_size(SLOT / size_of::<usize>());
    let point = *point;
    let main = go!(move || match point.operation {
        Operation::Yield => crowd(&point, yield_now),
        Operation::TimerFire => {
            let pause = point.pause();
            crowd(&point, move || sleep(pause))
        }
        Operation::Permit => permits(&point, |gate| {
            gate.wait();
            true
        }),
        Operation::TimerCancel => permits(&point, |gate| gate.wait_timeout(LONG)),
        Operation::Connection => connections(&point),
    });
    main.join().map_err(|_| anyhow!("a coroutine panicked"))?
}

/// Where all wait for each other, and the one who made it waits for all.
struct Meeting {
    size: u64,
    arrived: AtomicU64,
    complete: Semphore,
    open: AtomicBool,
}

impl Meeting {
    fn of(size: u64) -> Arc<Self> {
        Arc::new(Self {
            size,
            arrived: AtomicU64::new(0),
            complete: Semphore::new(0),
            open: AtomicBool::new(false),
        })
    }

    fn arrive(&self) {
        if (self.arrived.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(self.size) {
            self.complete.post();
        }
    }

    fn meet(&self) {
        self.arrive();
        while !self.open.load(Ordering::SeqCst) {
            park();
        }
    }

    fn open(&self, members: &[Coroutine]) {
        self.open.store(true, Ordering::SeqCst);
        members.iter().for_each(Coroutine::unpark);
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
        handles.push(go!(move || {
            start.meet();
            (0..rounds).for_each(|_| work());
            end.meet();
        }));
    }
    let members: Vec<Coroutine> = handles
        .iter()
        .map(|handle| handle.coroutine().clone())
        .collect();
    start.complete.wait();
    let clock = Stopwatch::start()?;
    start.open(&members);
    end.complete.wait();
    let measured = clock.per(point.operations())?;
    end.open(&members);
    join(handles)?;
    Ok(measured)
}

/// All wait with a timeout; then all are granted what they wait for.
fn permits(point: &Point, wait: fn(&Semphore) -> bool) -> Result<Measured> {
    let rounds = point.rounds();
    let armed = Meeting::of(point.count);
    let gate = Arc::new(Semphore::new(0));
    let mut handles = Vec::new();
    for _ in 0..point.count {
        let (armed, gate) = (Arc::clone(&armed), Arc::clone(&gate));
        handles.push(go!(move || {
            for _ in 0..rounds {
                armed.arrive();
                assert!(wait(&gate), "granted in time");
            }
            armed.arrive();
        }));
    }
    armed.complete.wait();
    let clock = Stopwatch::start()?;
    for _ in 0..rounds {
        (0..point.count).for_each(|_| gate.post());
        armed.complete.wait();
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
        go!(move || {
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
    let mut joined = handles.into_iter().map(JoinHandle::join);
    joined.try_for_each(|end| end.map_err(|_| anyhow!("a coroutine panicked")))
}
