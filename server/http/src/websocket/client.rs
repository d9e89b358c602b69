//! WebSockets to other services.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    time::Duration,
};

use http::{Method, StatusCode};
use maniple::net::ToSocketAddrs;

use super::{
    error::Error,
    handshake::{confirm, key_of},
    settings::Settings,
    socket::{PROTOCOL, WebSocket},
};
use crate::{
    client::url::Url,
    http1::{
        conversation::MAX_HEAD,
        reply::{Reply, Search},
    },
    server::upgrade::Upgraded,
    transport::{Peer, Transport, memory},
};

/// Connects to a `ws` URL with the default [`Settings`].
///
/// The caller's deadline holds for the handshake. `wss` is not spoken yet.
///
/// # Errors
/// If the URL is none, the connection fails, or the server does not switch to WebSocket.
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
        let http = http_url(url)?;
        let parts = parse(url, &http)?;
        let host = match parts.port_is_named {
            true => parts.authority.to_owned(),
            false => format!("{}:80", parts.authority),
        };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in host.to_socket_addrs()? {
            match Transport::connect_tcp(&address, CONNECT_TIMEOUT) {
                Ok(transport) => {
                    transport.set_nodelay();
                    return self.open(transport, Peer::Tcp(address), url, &parts);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    /// Opens a WebSocket over a connection within the process; nothing is connected to the host that the URL names.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn connect_over(&self, stream: memory::Stream, url: &str) -> Result<WebSocket, Error> {
        let http = http_url(url)?;
        let parts = parse(url, &http)?;
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
        let halves = [random.hash_one(0), random.hash_one(1)];
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
        request.extend_from_slice(b"\r\n");
        let (reply, ahead) = exchange(&transport, &request, url)?;
        if reply.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(url, &format!("the answer is {}", reply.status)));
        }
        let protocol = confirm(&reply.headers, &key, &self.protocols);
        let protocol = protocol.map_err(|reason| refused(url, reason))?;
        let connection = Upgraded::over(transport, peer, PROTOCOL, ahead);
        WebSocket::new(connection, self, protocol, false)
    }
}

/// How long one address of the host may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request and reads the head of the answer; also what came behind it.
fn exchange(transport: &Transport, request: &[u8], url: &str) -> Result<(Reply, Vec<u8>), Error> {
    let mut sent = 0;
    while sent < request.len() {
        match transport.write(&request[sent..])? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            count => sent += count,
        }
    }
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
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => Ok(format!("http://{rest}")),
        _ => Err(refused(
            url,
            "only ws is spoken here, expected ws://HOST[:PORT]/PATH",
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
