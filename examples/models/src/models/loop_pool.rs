//! One loop per thread and a pool that computes: loops never do what takes long, so that
//! nobody waits behind it.
//!
//! A loop does input and output for its clients, as in one loop per thread. What computes
//! goes to a queue, from which a fixed number of other threads takes it; the result comes
//! back through the inbox of the loop that asked. The queue is bounded: who comes when it
//! is full is told so at once, with a 503.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::TcpStream,
    os::fd::BorrowedFd,
    process,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::Builder,
    time::Duration,
};

use super::{
    Client, Model, Service,
    multiplex::{
        Host, LISTENER, Sessions,
        epoll::{EVENTS_AT_ONCE, Epoll},
        inbox::Inbox,
    },
};
use crate::{
    site::{Site, after_failed_accept},
    work::{Answer, burn},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    let pool = Pool::start(site.cores, site.workers)?;
    let loops = (0..site.cores)
        .map(|_| start(site, Arc::clone(&pool)))
        .collect::<io::Result<Vec<_>>>()?;
    for inbox in loops.iter().cycle() {
        match listener.accept() {
            Ok((stream, _)) => inbox.put(Message::Client(stream)),
            Err(error) => after_failed_accept(&error),
        }
    }
    unreachable!("there is at least one core, and no end to a circle")
}

/// What comes to a loop from other threads.
enum Message {
    Client(TcpStream),
    Computed(u64, Answer),
}

fn start(site: &Site, pool: Arc<Pool>) -> io::Result<Arc<Inbox<Message>>> {
    let inbox = Arc::new(Inbox::new()?);
    let host = Loop {
        epoll: Epoll::new(&*inbox)?,
        inbox: Arc::clone(&inbox),
        pool,
    };
    let sessions = Sessions::new(site.backends, host);
    Builder::new().spawn(move || {
        let Err(error) = run(sessions);
        eprintln!("a loop has ended: {error}");
        process::exit(1);
    })?;
    Ok(inbox)
}

fn run(mut sessions: Sessions<Loop>) -> io::Result<Infallible> {
    let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        let more = sessions.turn();
        sessions.host.epoll.wait(&mut ready, more)?;
        for event in ready.drain(..) {
            match event.data.u64() {
                LISTENER => {
                    for message in sessions.host.inbox.take() {
                        match message {
                            Message::Client(stream) => sessions.take(stream),
                            // ① Back on the thread to which the client belongs: still no
                            // lock around a session.
                            Message::Computed(client, answer) => sessions.answer(client, &answer),
                        }
                    }
                }
                whose => sessions.on_event(whose),
            }
        }
    }
}

struct Loop {
    epoll: Epoll,
    inbox: Arc<Inbox<Message>>,
    pool: Arc<Pool>,
}

impl Host for Loop {
    fn watch(&mut self, connection: BorrowedFd<'_>, whose: u64) -> io::Result<()> {
        self.epoll.watch(connection, whose)
    }

    /// ② A loop hands over what takes long and goes on; where that is not possible, it says
    /// so at once.
    fn compute(&mut self, client: u64, time: Duration) -> Option<Answer> {
        let job = Job {
            time,
            client,
            answer_to: Arc::clone(&self.inbox),
        };
        let refused = || Answer::refusal(503, "too much is being computed already");
        self.pool.offer(job).err().map(|Full| refused())
    }
}

/// ③ As many threads as cores: more of them would compute no more, and only take turns.
struct Pool {
    queue: Mutex<VecDeque<Job>>,
    has_jobs: Condvar,
    bound: usize,
}

struct Job {
    time: Duration,
    client: u64,
    answer_to: Arc<Inbox<Message>>,
}

/// The queue is as long as it may be.
struct Full;

impl Pool {
    fn start(threads: usize, bound: usize) -> io::Result<Arc<Self>> {
        let pool = Arc::new(Self {
            queue: Mutex::default(),
            has_jobs: Condvar::new(),
            bound,
        });
        for _ in 0..threads {
            let pool = Arc::clone(&pool);
            Builder::new().spawn(move || pool.compute())?;
        }
        Ok(pool)
    }

    /// ④ Never waits: a loop that waited for the pool would be as bad as one that computes.
    fn offer(&self, job: Job) -> Result<(), Full> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == self.bound {
            return Err(Full);
        }
        queue.push_back(job);
        drop(queue);
        self.has_jobs.notify_one();
        Ok(())
    }

    fn compute(&self) -> ! {
        loop {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.has_jobs.wait_while(queue, |queue| queue.is_empty());
            let job = waited.unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(job) = job {
                let answer = burn(job.time);
                job.answer_to.put(Message::Computed(job.client, answer));
            }
        }
    }
}

pub(super) const MODEL: Model = Model {
    number: 18,
    name: "loop-pool",
    title: "One loop per thread, and a pool that computes",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[
        include_str!("loop_pool.rs"),
        include_str!("multiplex/mod.rs"),
        include_str!("multiplex/epoll.rs"),
        include_str!("multiplex/inbox.rs"),
    ],
    serve,
};
