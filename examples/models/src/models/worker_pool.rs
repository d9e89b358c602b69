//! A worker pool, as the Go texts have it: clients hand jobs to a bounded queue, a
//! dispatcher gives each to a worker that is free, over that worker's own channel.
//!
//! A connection has a coroutine that reads, submits and writes; the work itself is done by
//! workers that were started ahead. Their number is how many requests are worked on at a
//! time, and with that how many questions the backends get. What is beyond waits in the
//! queue, and what is beyond that in its connection, which reads no more meanwhile.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use maniple::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use maniple_parts::pool::{Pool, WhenFull};

use super::{Client, Model, Service};
use crate::{
    site::{Site, pause_after_failed_accept},
    work::{Answer, Ask, Backends, Conversation, backend::COUNT},
};

fn serve(site: &Site) -> io::Result<()> {
    let runtime = maniple::Runtime::builder().workers(site.cores).build()?;
    runtime.run(|| {
        let work = Arc::new(Work {
            // ① Everything has a number: workers, and jobs that wait for one.
            pool: Pool::builder("requests")
                .workers(site.workers)
                .queue(QUEUE)
                .when_full(WhenFull::Wait)
                .build()?,
            addresses: site.backends,
            idle: Mutex::default(),
        });
        let listener = TcpListener::bind(site.listen)?;
        site.announce(listener.local_addr()?)?;
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Without a descriptor it would fail at once, again and again, and
                    // never let others run.
                    maniple::sleep(pause_after_failed_accept(&error).unwrap_or_default());
                    continue;
                }
            };
            let work = Arc::clone(&work);
            drop(maniple::task::spawn_least_loaded(move || {
                converse(stream, &work)
            }));
        }
        Ok(())
    })
}

fn converse(stream: TcpStream, work: &Arc<Work>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = Conversation::over(stream);
    loop {
        // A silent client holds its coroutine and no worker: only whole requests become jobs.
        let asked = maniple::timeout(PATIENCE, || client.request());
        let Some(request) = asked.map_err(io::Error::from)?? else {
            return Ok(());
        };
        client.answer(&work.done_by_a_worker(request.ask))?;
    }
}

/// The pool, and what its workers use: connections to the backends, of which there are
/// never more than workers.
struct Work {
    pool: Pool,
    addresses: [SocketAddr; COUNT],
    idle: Mutex<Vec<Backends<TcpStream>>>,
}

impl Work {
    fn done_by_a_worker(self: &Arc<Self>, ask: Ask) -> Answer {
        let work = Arc::clone(self);
        // ② Waits here while the queue is full: this client's next bytes stay in the
        // kernel, and in the end with the client.
        let ticket = match self.pool.submit(move || work.answer(ask)) {
            Ok(ticket) => ticket,
            Err(refused) => return Answer::refusal(503, &refused.to_string()),
        };
        // ③ A job that panics costs its own request: the worker goes on with the next.
        let done = ticket.join();
        done.unwrap_or_else(|error| Answer::refusal(500, &error.to_string()))
    }

    /// ④ The job, in a worker: it blocks for as long as A, then B, then C take.
    fn answer(&self, ask: Ask) -> Answer {
        let kept = self.idle.lock().pop();
        let mut backends = kept.unwrap_or_else(|| Backends::new(self.addresses));
        let answer = ask.answer_in_turn(&mut backends);
        self.idle.lock().push(backends);
        answer
    }
}

/// Jobs that wait while all workers are busy.
const QUEUE: usize = 256;

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MODEL: Model = Model {
    number: 26,
    name: "worker-pool",
    title: "Worker pool with a dispatcher",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("worker_pool.rs")],
    serve,
};
