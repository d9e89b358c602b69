//! The leader with children, whose calls share connections: on each worker there is one to
//! A, one to B, one to C.
//!
//! The handler is that of the model before. Under it, a call puts its question into a
//! channel and waits for its own answer; a coroutine for each backend writes what has
//! gathered there in one go, and another one reads. So many questions cost one system call,
//! as in the event loops, and descriptors no longer grow with the clients.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    io::{self, Read, Write},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use maniple::{
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        channel::{Receiver, Sender, bounded},
        oneshot,
    },
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, pause_after_failed_accept},
    work::{
        Answer, Conversation, Gathering, Unavailable,
        backend::{COUNT, PATIENCE, Stream, parse_reply},
    },
};

fn serve(site: &Site) -> io::Result<()> {
    let runtime = maniple::Runtime::builder().workers(site.cores).build()?;
    runtime.run(|| {
        let listener = TcpListener::bind(site.listen)?;
        site.announce(listener.local_addr()?)?;
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    let backends = site.backends;
                    drop(maniple::task::spawn_least_loaded(move || {
                        converse(stream, backends)
                    }));
                }
                Err(error) => maniple::sleep(pause_after_failed_accept(&error).unwrap_or_default()),
            }
        }
        Ok(())
    })
}

fn converse(stream: TcpStream, backends: [SocketAddr; COUNT]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = Conversation::over(stream);
    loop {
        let asked = maniple::timeout(SILENCE, || client.request());
        let Some(request) = asked.map_err(io::Error::from)?? else {
            return Ok(());
        };
        client.answer(&request.ask.answer(|id| ask_side_by_side(backends, id)))?;
    }
}

fn ask_side_by_side(backends: [SocketAddr; COUNT], id: u64) -> Result<Answer, Unavailable> {
    let call = |which| ask(backends, which, id);
    let (a, b, c) = maniple::join!(call(0), call(1), call(2));
    Ok(Gathering::merged(id, [a?, b?, c?]))
}

struct Question {
    id: u64,
    answer: Answering,
}

thread_local! {
    // ① A coroutine never leaves its worker, so what belongs to a worker needs no lock: it
    // is a thread's.
    static LINES: OnceCell<[Sender<Question>; COUNT]> = const { OnceCell::new() };
}

/// Blocks until the backend has answered.
fn ask(backends: [SocketAddr; COUNT], which: usize, id: u64) -> Result<u64, Unavailable> {
    let line = LINES.with(|lines| {
        let lines =
            lines.get_or_init(|| std::array::from_fn(|which| start(which, backends[which])));
        lines[which].clone()
    });
    let (answer, mut said) = oneshot::channel();
    let lost = |_| Unavailable::new(which, "the connection is lost");
    line.send(Question { id, answer }).map_err(lost)?;
    // ② If the connection ends, so does the other half of this channel.
    let said = said.recv_timeout(PATIENCE);
    said.map_err(|error| Unavailable::new(which, error))?
}

/// Starts the coroutine that keeps the connection to a backend, for this worker.
fn start(which: usize, address: SocketAddr) -> Sender<Question> {
    let (line, questions) = bounded(QUEUE);
    drop(maniple::task::spawn_local(move || {
        keep(which, address, &questions)
    }));
    line
}

/// A connection, and who waits for an answer on it; nobody any more once it has ended.
struct Connection {
    stream: TcpStream,
    waiting: RefCell<Option<HashMap<u64, Answering>>>,
}

type Answering = oneshot::Sender<Result<u64, Unavailable>>;

/// Writes questions as they come, and connects when there is one and no connection.
fn keep(which: usize, address: SocketAddr, questions: &Receiver<Question>) {
    let mut kept: Option<Rc<Connection>> = None;
    let mut tag = 0;
    while let Ok(first) = questions.recv() {
        let alive = kept.take().filter(|kept| kept.waiting.borrow().is_some());
        let connection = match alive.map_or_else(|| connect(which, address), Ok) {
            Ok(connection) => connection,
            Err(error) => {
                // The one who asked may have given up by now.
                let _ = first.answer.send(Err(Unavailable::new(which, error)));
                continue;
            }
        };
        let mut lines = String::new();
        // ③ Whatever has gathered while others ran goes out as one write.
        for Question { id, answer } in std::iter::once(first).chain(questions.try_iter()) {
            tag += 1;
            lines.push_str(&format!("{tag} {id}\n"));
            if let Some(waiting) = connection.waiting.borrow_mut().as_mut() {
                waiting.insert(tag, answer);
            }
        }
        if (&connection.stream).write_all(lines.as_bytes()).is_err() {
            // Its reader finds the end, and with it everybody who waits.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        kept = Some(connection);
    }
}

fn connect(which: usize, address: SocketAddr) -> io::Result<Rc<Connection>> {
    let stream = <TcpStream as Stream>::connect(address)?;
    stream.set_read_timeout(None)?;
    let connection = Rc::new(Connection {
        stream,
        waiting: RefCell::new(Some(HashMap::new())),
    });
    let heard = Rc::clone(&connection);
    drop(maniple::task::spawn_local(move || {
        // It ends with an error or with the end of the stream: all the same to those who wait.
        let _ = listen(which, &heard);
        heard.waiting.take();
    }));
    Ok(connection)
}

/// ④ Hands each answer to the one who waits for it, until the connection ends.
fn listen(which: usize, connection: &Connection) -> io::Result<()> {
    let mut received = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = match (&connection.stream).read(&mut chunk)? {
            0 => return Ok(()),
            count => count,
        };
        received.extend_from_slice(&chunk[..count]);
        let whole = received
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in String::from_utf8_lossy(&received[..whole]).lines() {
            let Some((tag, said)) = parse_reply(which, line) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let who = connection
                .waiting
                .borrow_mut()
                .as_mut()
                .and_then(|waiting| waiting.remove(&tag));
            if let Some(who) = who {
                let _ = who.send(said);
            }
        }
        received.drain(..whole);
    }
}

/// Questions that wait to be written; a leader with one more waits, too.
const QUEUE: usize = 1024;

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) const MODEL: Model = Model {
    number: 24,
    name: "leader-shared",
    title: "Leader with children, shared connections",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("leader_shared.rs")],
    serve,
};
