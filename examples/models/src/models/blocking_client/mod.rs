//! A thread per connection, with a client library that blocks and cannot be changed, and a
//! group of threads around it.
//!
//! The library (`legacy_client.rs`) makes one call at a time, on a connection of its own,
//! for as long as the backend takes. So each client's thread has three more, one for each
//! backend, which make the calls side by side while it watches the clock. A call that takes
//! too long is given up; it cannot be ended. Its thread is left behind until the library
//! lets go of it, and the number of threads left behind bounds what a backend that hangs
//! can cost.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::Builder,
    time::Instant,
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{
        Answer, Conversation, Gathering, Unavailable,
        backend::{COUNT, PATIENCE},
    },
};

mod legacy_client;

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    let strays = Arc::new(AtomicUsize::new(0));
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let group = Group {
                    backends: site.backends,
                    members: [const { None }; COUNT],
                    strays: Arc::clone(&strays),
                    most_strays: site.workers,
                };
                let thread = Builder::new().stack_size(STACK);
                drop(thread.spawn(move || converse(stream, group)));
            }
            Err(error) => after_failed_accept(&error),
        }
    }
}

fn converse(stream: TcpStream, mut group: Group) -> io::Result<()> {
    let mut client = Conversation::new(stream)?;
    while let Some(request) = client.request()? {
        client.answer(&request.ask.answer(|id| Ok(group.ask(id))))?;
    }
    Ok(())
}

/// The threads that call the library for one client: none before the first call.
struct Group {
    backends: [SocketAddr; COUNT],
    members: [Option<Sender<Task>>; COUNT],
    /// Threads of all groups that were left behind and are not back yet.
    strays: Arc<AtomicUsize>,
    most_strays: usize,
}

enum Task {
    Ask {
        id: u64,
        tell: Sender<(usize, Result<u64, Unavailable>)>,
    },
    /// ① The last one, for a thread that was left behind: it drops this as soon as the
    /// library lets go of it.
    Leave { _stray: Stray },
}

impl Group {
    fn ask(&mut self, id: u64) -> Answer {
        // ② While so many calls hang, one more would most likely hang too.
        if self.strays.load(Relaxed) >= self.most_strays {
            return Answer::refusal(503, "too many calls hang in the client library");
        }
        // ③ A channel for each request: what is said too late finds nobody, and is never
        // taken for another answer.
        let (tell, said) = mpsc::channel();
        for which in 0..COUNT {
            let tell = tell.clone();
            if let Err(error) = self.put(
                which,
                Task::Ask {
                    id,
                    tell: tell.clone(),
                },
            ) {
                let _ = tell.send((which, Err(Unavailable::new(which, error))));
            }
        }
        drop(tell);
        let until = Instant::now() + PATIENCE;
        let mut missing: Vec<usize> = (0..COUNT).collect();
        let mut gathering = Gathering::new(id);
        loop {
            // ④ The client's thread waits, with a limit, for those who wait without one.
            let left = until.saturating_duration_since(Instant::now());
            match said.recv_timeout(left) {
                Ok((which, said)) => {
                    missing.retain(|&other| other != which);
                    if let Some(answer) = gathering.put(which, said) {
                        return answer;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return self.give_up(&missing),
                // A call panicked, and took its end of the channel with it.
                Err(RecvTimeoutError::Disconnected) => {
                    return Answer::refusal(502, "the client library broke down");
                }
            }
        }
    }

    /// ⑤ Parts with those who have not answered: the next request gets others in their place.
    fn give_up(&mut self, missing: &[usize]) -> Answer {
        for &which in missing {
            if let Some(member) = self.members[which].take() {
                let _stray = Stray::new(&self.strays);
                let _ = member.send(Task::Leave { _stray });
            }
        }
        let why = format!("{} of the backends did not answer in time", missing.len());
        Answer::refusal(503, &why)
    }

    /// Gives a member something to do; one that is not there is started.
    fn put(&mut self, which: usize, task: Task) -> io::Result<()> {
        let task = match &self.members[which] {
            None => task,
            Some(member) => match member.send(task) {
                Ok(()) => return Ok(()),
                // It panicked in a call before.
                Err(unsent) => unsent.0,
            },
        };
        let (tasks, to_do) = mpsc::channel();
        let backend = self.backends[which];
        let thread = Builder::new().stack_size(STACK);
        // ⑥ It ends when the group is gone or has parted with it. It is never joined: that
        // could take for ever.
        thread.spawn(move || {
            for task in to_do {
                match task {
                    Task::Ask { id, tell } => drop(tell.send((which, call(which, backend, id)))),
                    Task::Leave { .. } => return,
                }
            }
        })?;
        let _ = tasks.send(task);
        self.members[which] = Some(tasks);
        Ok(())
    }
}

/// ⑦ The library's call, in this program's words.
fn call(which: usize, backend: SocketAddr, id: u64) -> Result<u64, Unavailable> {
    let host = backend.ip().to_string();
    let said = legacy_client::legacy_lookup(&host, backend.port(), &id.to_string());
    let said = said.map_err(|error| match error.code {
        // Each call uses one up, for a minute: of what can go wrong here, this is what load
        // alone brings about.
        libc::EADDRNOTAVAIL => Unavailable::new(which, "no local port is left for a connection"),
        _ => Unavailable::new(which, error.text),
    })?;
    said.parse().map_err(|error| Unavailable::new(which, error))
}

/// Counts as long as it lives.
struct Stray(Arc<AtomicUsize>);

impl Stray {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Address space for a thread's stack; memory is taken by the page, as it is used.
const STACK: usize = 256 * 1024;

/// Its lines are the wrapper's: the library is somebody else's.
pub(super) const MODEL: Model = Model {
    number: 8,
    name: "blocking-client",
    title: "Blocking client behind a thread group",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("mod.rs")],
    serve,
};
