//! What clients of a soak do, right and wrong, and how that may end.

use std::time::Duration;

use fastrand::Rng;

use super::{
    client::{Client, Ended, Site, chunked, get, length, post, status_of, with_field},
    server::{EVENTS, FILE, HUGE, LIMIT, MOST_BODY, STREAMED},
};

/// A kind of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// None: requests one after the other.
    None,
    Pipelined,
    Uploads,
    Streams,
    Files,
    SlowReader,
    StopsReading,
    ResetInHead,
    ResetInAnswer,
    LeavesInUpload,
    HalfClose,
    StallInHead,
    StallInBody,
    Oversize,
    Garbage,
    Panic,
    PanicInBody,
    Idle,
    Events,
    LeavesEvents,
    Socket,
    LeavesSocket,
    PlainHttp,
    StallInHandshake,
    ResetInHandshake,
}

const ALL: [Fault; 22] = [
    Fault::None,
    Fault::Pipelined,
    Fault::Uploads,
    Fault::Streams,
    Fault::Files,
    Fault::SlowReader,
    Fault::StopsReading,
    Fault::ResetInHead,
    Fault::ResetInAnswer,
    Fault::LeavesInUpload,
    Fault::HalfClose,
    Fault::StallInHead,
    Fault::StallInBody,
    Fault::Oversize,
    Fault::Garbage,
    Fault::Panic,
    Fault::PanicInBody,
    Fault::Idle,
    Fault::Events,
    Fault::LeavesEvents,
    Fault::Socket,
    Fault::LeavesSocket,
];

/// Of a server that speaks TLS, besides.
const OF_TLS: [Fault; 3] = [
    Fault::PlainHttp,
    Fault::StallInHandshake,
    Fault::ResetInHandshake,
];

/// Where this client has had other things to do for so long that the server could not know of it any more.
const LATE: &str = "closed on a client that came late";

/// Where a server that is replaced has closed the connection, in place of what was still to come.
const HANDED_OVER: &str = "answered, and closed by a server that ends";

impl Fault {
    pub(super) fn any(random: &mut Rng, site: &Site) -> Self {
        let of_tls = if site.speaks_tls() { &OF_TLS[..] } else { &[] };
        let index = random.usize(..ALL.len() + of_tls.len());
        ALL.iter()
            .chain(of_tls)
            .copied()
            .nth(index)
            .unwrap_or(Fault::None)
    }

    pub(super) fn converse(self, site: &Site, random: &mut Rng) -> Ended {
        let mut client = match OF_TLS.contains(&self) {
            true => site.connect_plainly()?,
            false => match site.connect()? {
                Some(client) => client,
                None => return Ok(LATE),
            },
        };
        match self.talk(&mut client, random) {
            Err(_) if client.came_late() => Ok(LATE),
            ended => ended,
        }
    }

    fn talk(self, client: &mut Client, random: &mut Rng) -> Ended {
        match self {
            Fault::None => {
                for _ in 0..random.usize(1..20) {
                    client.say(&get("/hello"))?;
                    client.expect(200, |body| body == b"hello")?;
                    if client.is_closing {
                        return client.ends(HANDED_OVER);
                    }
                }
                Ok("answered")
            }
            Fault::Pipelined => {
                client.say(&get("/hello").repeat(16))?;
                for _ in 0..16 {
                    client.expect(200, |body| body == b"hello")?;
                    if client.is_closing {
                        // The others were not begun.
                        return client.ends_or_is_reset(HANDED_OVER);
                    }
                }
                Ok("answered")
            }
            Fault::Uploads => {
                for _ in 0..random.usize(1..5) {
                    let body = vec![b'u'; random.usize(1..100_000)];
                    let request = match random.bool() {
                        true => post("/echo", body.len(), &body),
                        false => chunked(&body, random),
                    };
                    client.say(&request)?;
                    client.expect(200, |echoed| echoed == body)?;
                    if client.is_closing {
                        return client.ends(HANDED_OVER);
                    }
                }
                client.say(&post("/ignore", 1000, &[b'i'; 1000]))?;
                client.expect(202, <[u8]>::is_empty)?;
                Ok("answered")
            }
            Fault::Streams => {
                client.say(&get("/stream"))?;
                client.expect(200, |body| body.len() == STREAMED)?;
                Ok("answered")
            }
            Fault::Files => {
                client.say(&get("/files/file"))?;
                client.expect(200, |body| body.len() as u64 == FILE)?;
                if client.is_closing {
                    return client.ends(HANDED_OVER);
                }
                let from = random.u64(..FILE);
                let range = format!("Range: bytes={from}-");
                client.say(&with_field("GET", "/files/file", &range))?;
                client.expect(206, |body| body.len() as u64 == FILE - from)?;
                Ok("answered")
            }
            Fault::SlowReader => {
                client.say(&get("/files/file"))?;
                let head = client.head()?;
                let mut left = length(&head)?.saturating_sub(client.ahead.len());
                let mut buffer = vec![0; 128 * 1024];
                while left > 0 {
                    match client.read(&mut buffer) {
                        Ok(count @ 1..) => left -= count,
                        other => return Err(format!("{other:?} with {left} bytes to come")),
                    }
                    maniple::sleep(Duration::from_millis(2));
                }
                Ok("answered")
            }
            Fault::StopsReading => {
                client.say(&get("/files/huge"))?;
                maniple::sleep(LIMIT * 4);
                let head = client.head()?;
                let whole = length(&head)?;
                let (rest, _) = client.until_the_end();
                // All was on its way before the limit on a machine that is slow, or the client is cut off.
                match rest as u64 {
                    ..HUGE if whole as u64 == HUGE => Ok("cut off"),
                    _ => Err(format!("{rest} of {whole} bytes came")),
                }
            }
            Fault::ResetInHead => {
                let request = get("/hello");
                client.say(&request[..random.usize(1..request.len() - 1)])?;
                client.reset();
                Ok("reset by the client")
            }
            Fault::ResetInAnswer => {
                let path = ["/files/huge", "/stream", "/slow"][random.usize(..3)];
                client.say(&get(path))?;
                let mut some = vec![0; random.usize(1..10_000)];
                let _ = client.read(&mut some);
                client.reset();
                Ok("reset by the client")
            }
            Fault::LeavesInUpload => {
                let path = ["/echo", "/ignore"][random.usize(..2)];
                client.say(&post(path, 100_000, &[b'l'; 10_000]))?;
                if random.bool() {
                    client.reset();
                }
                Ok("left by the client")
            }
            Fault::HalfClose => {
                client.say(&get(["/slow", "/files/file"][random.usize(..2)]))?;
                client.half_close()?;
                client.expect(200, |body| !body.is_empty())?;
                client.ends("answered")
            }
            Fault::StallInHead => {
                client.say(b"GET /hello HTTP/1.1\r\nHo")?;
                client.expect_end_of(&[408])
            }
            Fault::StallInBody => {
                client.say(&post("/echo", 1000, b"only this"))?;
                client.expect_end_of(&[408])
            }
            Fault::Oversize => {
                let long = "x".repeat(50_000);
                let (request, status) = match random.u8(..4) {
                    0 => (get(&format!("/{long}")), 414),
                    1 => (with_field("GET", "/hello", &format!("X: {long}")), 431),
                    2 => (post("/echo", MOST_BODY as usize + 1, b""), 413),
                    _ => {
                        let head = with_field("POST", "/echo", "Transfer-Encoding: chunked");
                        ([&head[..], b"ffffffff\r\n"].concat(), 413)
                    }
                };
                client.say(&request)?;
                client.expect_end_of(&[status])
            }
            Fault::Garbage => {
                let junk: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
                let _ = client.say(&[&junk[..], b"\r\n\r\n"].concat());
                client.expect_end_of(&[400, 505, 414, 431])
            }
            Fault::Panic => {
                client.say(&get("/panic"))?;
                client.expect_end_of(&[500])
            }
            Fault::PanicInBody => {
                client.say(&get("/broken"))?;
                let head = client.head()?;
                let (_, end) = client.until_the_end();
                match head.contains("chunked") && !end.ends_with(b"0\r\n\r\n") {
                    true => Ok("cut off"),
                    false => Err(format!("it looks complete: {head}")),
                }
            }
            Fault::Idle => {
                if random.bool() {
                    client.say(&get("/hello"))?;
                    client.expect(200, |body| body == b"hello")?;
                }
                client.ends("closed by the server")
            }
            Fault::Events => {
                client.say(&get("/events"))?;
                let mut whole = false;
                client.expect(200, |body| {
                    let text = String::from_utf8_lossy(body);
                    whole = text.matches("data: event ").count() == EVENTS;
                    whole != text.ends_with("event: bye\ndata: bye\n\n")
                })?;
                Ok(if whole { "answered" } else { HANDED_OVER })
            }
            Fault::LeavesEvents => {
                client.say(&get("/events"))?;
                client.head()?;
                for _ in 0..random.usize(..10) {
                    client
                        .more()
                        .map_err(|error| format!("{error} in events"))?;
                }
                if random.bool() {
                    client.reset();
                }
                Ok("left by the client")
            }
            Fault::Socket => {
                open_socket(client)?;
                for _ in 0..random.usize(1..20) {
                    let text = vec![b'w'; random.usize(..2000)];
                    client.say(&masked(0x81, &text))?;
                    if !socket_echoes(client, &text)? {
                        client.say(&masked(0x88, &GOING_AWAY))?;
                        return client.ends(HANDED_OVER);
                    }
                }
                client.say(&masked(0x88, &NORMAL))?;
                match socket_frame(client)? {
                    (0x88, _) => client.ends("answered"),
                    other => Err(format!("{other:?} in place of a Close")),
                }
            }
            Fault::LeavesSocket => {
                open_socket(client)?;
                let frame = masked(0x81, &[b'l'; 500]);
                client.say(&frame[..random.usize(1..=frame.len())])?;
                if random.bool() {
                    client.reset();
                }
                Ok("left by the client")
            }
            Fault::PlainHttp => {
                client.say(&get("/hello"))?;
                client.expect_end_of(&[400])
            }
            Fault::StallInHandshake => {
                client.say(&HELLO_BEGINS)?;
                let (count, _) = client.until_the_end();
                match count {
                    ..100 => Ok("closed by the server"),
                    count => Err(format!("{count} bytes in place of the end")),
                }
            }
            Fault::ResetInHandshake => {
                client.say(&HELLO_BEGINS[..random.usize(1..HELLO_BEGINS.len())])?;
                client.reset();
                Ok("reset by the client")
            }
        }
    }
}

/// How a ClientHello begins, of 256 bytes in all.
const HELLO_BEGINS: [u8; 12] = [0x16, 3, 1, 1, 0, 1, 0, 0, 0xFC, 3, 3, 7];

/// Codes of Close frames.
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

fn open_socket(client: &mut Client) -> Result<(), String> {
    let fields = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    client.say(&with_field("GET", "/socket", fields))?;
    let head = client.head()?;
    match status_of(&head) {
        Some(101) => Ok(()),
        _ => Err(format!("in place of a WebSocket: {head}")),
    }
}

/// A short frame of a client's, with a mask that changes nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ ..126) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The first byte of a frame, and its payload.
fn socket_frame(client: &mut Client) -> Result<(u8, Vec<u8>), String> {
    let head = client.take(2)?;
    let length = match head[1] {
        126 => {
            let length = client.take(2)?;
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        length => usize::from(length),
    };
    Ok((head[0], client.take(length)?))
}

/// Whether the message comes back, and no Close of a server that ends.
fn socket_echoes(client: &mut Client, text: &[u8]) -> Result<bool, String> {
    match socket_frame(client)? {
        (0x81, echoed) if echoed == text => Ok(true),
        // What was on its way is still answered.
        (0x88, reason) if reason.starts_with(&GOING_AWAY) => Ok(false),
        other => Err(format!("{other:?} in place of {} bytes", text.len())),
    }
}
