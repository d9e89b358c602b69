//! A client: the crate `h2`, polled by coroutines.

use std::{future::Future, net::SocketAddr, pin::pin, rc::Rc, sync::mpsc};

use h2::{
    RecvStream, SendStream,
    client::{Connection, SendRequest},
};
use http::{HeaderMap, Request, Response, StatusCode};
use maniple::{JoinHandle, block_on, future::Poller, sync::oneshot};
use maniple_server::{
    Bytes,
    transport::{Dialed, Polled},
};

/// A connection of a client's.
#[derive(Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    _driving: Rc<JoinHandle<()>>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let (ready, shaken) = oneshot::channel();
        let driving = maniple::spawn_local(move || {
            let dialed = Dialed::tcp(&address.to_string()).unwrap();
            let (wire, poller) = (Polled::new(dialed), Poller::new());
            let mut handshake = pin!(h2::client::handshake(wire.clone()));
            let interest = || wire.interest();
            let shaken =
                poller.wait_beside(None, interest, |context| handshake.as_mut().poll(context));
            let (send, connection): (_, Connection<_, _>) = shaken.unwrap().unwrap();
            ready.send(send).map_err(drop).unwrap();
            let mut connection = pin!(connection);
            let _ = poller.wait_beside(None, interest, |context| connection.as_mut().poll(context));
        });
        Self {
            send: shaken.recv().unwrap(),
            _driving: Rc::new(driving),
        }
    }

    /// Sends the head of a request; what is to come, and where its body goes.
    pub(crate) fn begin(
        &self,
        request: Request<()>,
        is_all: bool,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut send = block_on(self.send.clone().ready())?;
        send.send_request(request, is_all)
    }

    pub(crate) fn ask(&self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (answer, _) = self.begin(request, true)?;
        read(block_on(answer)?)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(get(path)).unwrap()
    }

    pub(crate) fn send(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (answer, mut out) = self.begin(request, false)?;
        send_all(&mut out, body)?;
        out.send_data(Bytes::new(), true)?;
        read(block_on(answer)?)
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).unwrap()
}

pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}"))
        .body(())
        .unwrap()
}

/// Sends bytes as there is room for them.
pub(crate) fn send_all(out: &mut SendStream<Bytes>, mut body: &[u8]) -> Result<(), h2::Error> {
    while !body.is_empty() {
        out.reserve_capacity(body.len());
        let room = block_on(std::future::poll_fn(|context| out.poll_capacity(context)));
        let room = room.unwrap_or(Ok(0))?;
        let (now, later) = body.split_at(room.min(body.len()));
        out.send_data(Bytes::copy_from_slice(now), false)?;
        body = later;
    }
    Ok(())
}

/// Reads an answer to its end.
pub(crate) fn read(answer: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = block_on(body.data()) {
        let piece = piece?;
        bytes.extend_from_slice(&piece);
        _ = body.flow_control().release_capacity(piece.len());
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(bytes).unwrap(),
        trailers: block_on(body.trailers())?,
    })
}

/// Waits for the next piece of a body.
pub(crate) fn next_piece(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = block_on(body.data())?;
    if let Ok(piece) = &piece {
        _ = body.flow_control().release_capacity(piece.len());
    }
    Some(piece)
}

/// What tells one who hears by [`told`].
pub(crate) type Tell<T> = mpsc::SyncSender<T>;

/// What a handler says of itself, to a test.
pub(crate) fn told<T>() -> (Tell<T>, impl Fn() -> T) {
    let (tell, told) = mpsc::sync_channel(64);
    let hear = move || loop {
        match told.try_recv() {
            Ok(value) => break value,
            Err(mpsc::TryRecvError::Empty) => maniple::sleep(std::time::Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    };
    (tell, hear)
}
