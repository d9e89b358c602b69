//! WebSockets to other services.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::LazyLock,
};

use http::{Method, StatusCode};

use super::{
    error::Error,
    handshake::{confirm, key_of},
    settings::Settings,
    socket::{PROTOCOL, WebSocket},
};
use crate::{
    client::{Client, ClientError, reach::Speaks, url::Url},
    http1::{
        conversation::MAX_HEAD,
        reply::{Reply, Search},
    },
    server::upgrade::Upgraded,
    transport::{Peer, Transport, memory},
};

/// Connects to a `ws` URL, or with the feature `tls` to a `wss` URL, with the default [`Settings`].
///
/// The caller's deadline holds for connecting and for the handshakes.
///
/// # Errors
/// If the URL is none, the connection fails, the server has no certificate that holds, or does not switch to WebSocket. An
/// error of connecting has the [`ClientError`] in it.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), maniple_server::websocket::Error> {
/// let mut socket = maniple_server::websocket::connect("ws://127.0.0.1:8080/echo")?;
/// socket.send("hello")?;
/// println!("{:?}", socket.receive()?);
/// socket.close(1000, "")
/// # }
/// ```
pub fn connect(url: &str) -> Result<WebSocket, Error> {
    Settings::new().connect(url)
}

impl Settings {
    /// Connects to a `ws` URL, as [`connect`] does, with these settings.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn connect(&self, url: &str) -> Result<WebSocket, Error> {
        /// For those who have set none.
        static CLIENT: LazyLock<Client> = LazyLock::new(Client::new);
        let http = http_url(url)?;
        let parts = parse(url, &http)?;
        let client = self.client.as_ref().unwrap_or(&CLIENT);
        let reached = client.shared.reach(&parts, Speaks::Other);
        let (transport, _) = reached.map_err(|error| match error {
            ClientError::Url { reason, .. } => refused(url, &reason),
            error => io::Error::from(error).into(),
        })?;
        let peer = transport.peer()?;
        self.open(transport, peer, url, &parts)
    }

    /// Opens a WebSocket over a connection within the process; nothing is connected to the host that the URL names.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn connect_over(&self, stream: memory::Stream, url: &str) -> Result<WebSocket, Error> {
        let http = http_url(url)?;
        let parts = parse(url, &http)?;
        if parts.is_secure {
            return Err(refused(url, "there is no TLS within the process"));
        }
        self.open(Transport::Memory(stream), Peer::Memory, url, &parts)
    }

    fn open(
        &self,
        transport: Transport,
        peer: Peer,
        url: &str,
        parts: &Url<'_>,
    ) -> Result<WebSocket, Error> {
        let random = RandomState::new();
        let halves =
            [0, 1].map(|nth| maniple::sim::random().unwrap_or_else(|| random.hash_one(nth)));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&halves[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&halves[1].to_ne_bytes());
        let key = key_of(bytes);
        let mut request = b"GET ".to_vec();
        parts.write_target(&mut request);
        write!(
            request,
            " HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n",
            parts.authority
        )?;
        if !self.protocols.is_empty() {
            let protocols = self.protocols.join(", ");
            if !protocols.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(refused(url, "a subprotocol that is no token"));
            }
            write!(request, "sec-websocket-protocol: {protocols}\r\n")?;
        }
        for (name, value) in &self.headers {
            write!(request, "{name}: ")?;
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let (reply, ahead) = exchange(&transport, &request, url)?;
        if reply.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(url, &format!("the answer is {}", reply.status)));
        }
        let protocol = confirm(&reply.headers, &key, &self.protocols);
        let protocol = protocol.map_err(|reason| refused(url, reason))?;
        // Those of a client were for the handshake.
        transport.set_read_timeout(None)?;
        transport.set_write_timeout(None)?;
        let connection = Upgraded::over(transport, peer, PROTOCOL, ahead);
        WebSocket::new(connection, self, protocol, false)
    }
}

/// Sends a request and reads the head of the answer; also what came behind it.
fn exchange(transport: &Transport, request: &[u8], url: &str) -> Result<(Reply, Vec<u8>), Error> {
    let mut sent = 0;
    while sent < request.len() {
        match transport.write(&request[sent..])? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            count => sent += count,
        }
    }
    transport.flush()?;
    let (mut bytes, mut search) = (Vec::new(), Search::default());
    let mut room = [0; 1024];
    loop {
        while let Some(length) = search.find(&bytes).map_err(|text| refused(url, text))? {
            let reply = Reply::parse(&bytes[..length], &Method::GET);
            let reply = reply.map_err(|text| refused(url, &text))?;
            bytes.drain(..length);
            let switches = reply.status == StatusCode::SWITCHING_PROTOCOLS;
            if switches || !reply.status.is_informational() {
                return Ok((reply, bytes));
            }
            search = Search::default();
        }
        if bytes.len() > MAX_HEAD {
            return Err(refused(url, "head too large"));
        }
        match transport.read(&mut room)? {
            0 => return Err(refused(url, "the connection ended before the answer")),
            count => bytes.extend_from_slice(&room[..count]),
        }
    }
}

fn http_url(url: &str) -> Result<String, Error> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Ok(format!("http://{rest}")),
        "wss" => Ok(format!("https://{rest}")),
        _ => Err(refused(
            url,
            "only ws and wss are spoken here, expected ws://HOST[:PORT]/PATH",
        )),
    }
}

fn parse<'u>(url: &str, http: &'u str) -> Result<Url<'u>, Error> {
    Url::parse(http).map_err(|error| refused(url, &error.to_string()))
}

#[cold]
fn refused(url: &str, reason: &str) -> Error {
    Error::Refused {
        url: url.to_owned(),
        reason: reason.to_owned(),
    }
}
