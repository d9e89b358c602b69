//! `async`/`await`: a task per connection, and the three calls of an aggregate as three
//! futures in that task.
//!
//! The compiler turns the code of a task into a state machine that holds what it needs
//! across each `.await`; a few threads run those that can go on. A wait costs the bytes of
//! that state, no stack. Who waits must be `async`, and so must all who call it:
//! `work::Conversation` and `work::Backend`, which block, are of no use here and are
//! written anew below.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, sink},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::spawn_blocking,
    time::{sleep, timeout},
    try_join,
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, pause_after_failed_accept},
    work::{
        Answer, Ask, Gathering, Request, Unavailable,
        backend::{self, COUNT, parse_reply},
        burn,
    },
};

fn serve(site: &Site) -> io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(site.cores)
        .max_blocking_threads(site.cores)
        .enable_all()
        .build()?;
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                // ① An allocation of a few hundred bytes to a few kilobytes for each client.
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, site.backends))),
                Err(error) => {
                    if let Some(pause) = pause_after_failed_accept(&error) {
                        sleep(pause).await;
                    }
                }
            }
        }
    })
}

async fn converse(mut stream: TcpStream, backends: [SocketAddr; COUNT]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut backends: [_; COUNT] =
        std::array::from_fn(|which| Backend::new(which, backends[which]));
    let mut received = Vec::new();
    loop {
        // ② A deadline around a future: when it has passed, the future is dropped where it stands.
        let next = timeout(PATIENCE, next_request(&mut stream, &mut received));
        let Some(request) = next.await?? else {
            return Ok(());
        };
        let (closes, lingers) = (request.closes, request.is_broken());
        let answer = match request.ask {
            Ask::Aggregate(id) => {
                let gathered = ask_side_by_side(&mut backends, id).await;
                gathered.unwrap_or_else(Answer::from)
            }
            // ③ Computing on a worker would keep the tasks that wait for it; so it has
            // threads of its own.
            Ask::Cpu(time) => spawn_blocking(move || burn(time)).await?,
            Ask::Refused(answer) => answer,
        };
        let mut bytes = Vec::with_capacity(256);
        answer.write_to(closes, &mut bytes);
        timeout(PATIENCE, stream.write_all(&bytes)).await??;
        if lingers {
            // Closing a socket with unread bytes resets the connection, and the answer
            // could be lost.
            stream.shutdown().await?;
            timeout(PATIENCE, copy(&mut stream, &mut sink())).await??;
        }
        if closes {
            return Ok(());
        }
    }
}

/// The next request; `None` if there will be no more.
async fn next_request(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    loop {
        if let Some(request) = Request::take(received) {
            return Ok(Some(request));
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

/// ④ Three futures, polled by turns within this task: no task is spawned, and what it owns
/// may be lent. The first failure drops the other two where they stand, so whatever may be
/// dropped half-way must be written for that (see ⑤).
async fn ask_side_by_side(backends: &mut [Backend; COUNT], id: u64) -> Result<Answer, Unavailable> {
    let [a, b, c] = backends;
    let (a, b, c) = try_join!(a.ask(id), b.ask(id), c.ask(id))?;
    Ok(Gathering::merged(id, [a, b, c]))
}

/// [`crate::work::Backend`] once more, in the other colour.
struct Backend {
    which: usize,
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Backend {
    fn new(which: usize, address: SocketAddr) -> Self {
        Self {
            which,
            address,
            connection: None,
        }
    }

    async fn ask(&mut self, id: u64) -> Result<u64, Unavailable> {
        let kept = self.connection.is_some();
        let said = match self.exchange(id).await {
            // A connection that has ended since the last question is made anew, once.
            Err(error) if kept && error.kind() != ErrorKind::TimedOut => self.exchange(id).await,
            said => said,
        };
        said.map_err(|error| Unavailable::new(self.which, error))?
    }

    async fn exchange(&mut self, id: u64) -> io::Result<Result<u64, Unavailable>> {
        // ⑤ Taken and put back at the end: a question that is dropped half-way takes its
        // connection with it, and the late answer with that.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.write_all(format!("0 {id}\n").as_bytes()).await?;
        let mut line = String::new();
        timeout(backend::PATIENCE, connection.read_line(&mut line)).await??;
        let Some((_, said)) = parse_reply(self.which, &line) else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        self.connection = Some(connection);
        Ok(said)
    }

    async fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(BufReader::with_capacity(256, stream))
    }
}

/// How long a client may be silent, or not read.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MODEL: Model = Model {
    number: 21,
    name: "tokio",
    title: "async/await, tokio",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("tokio.rs")],
    serve,
};
