//! A TLS session: what has come and is to go, and the rustls connection between. It never waits and knows no transport.
//!
//! ```text
//!   received ──► inbox ──► rustls ──► plain ──► read
//!   sent    ◄── outbox ◄── rustls ◄────────── written
//! ```
//!
//! rustls keeps no bytes itself ("unbuffered"): records are decrypted where they were received and encrypted to where
//! they are sent from, and the three buffers are the worker's again as soon as they are empty. This file alone knows the
//! interface of rustls's connections.

use std::{io::IoSlice, sync::Arc};

use rustls::{
    HandshakeKind, ProtocolVersion,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
    },
};

use crate::{
    buffers::{Buffer, SIZE},
    error::Error,
    info::Info,
    names::asked_name,
};

/// One side's session.
pub(crate) struct Session {
    side: Side,
    inbox: Buffer,
    plain: Buffer,
    outbox: Buffer,
    /// What is in the outbox may leave with what is written next: tickets, where the peer has asked already.
    may_wait: bool,
    server_name: Option<Box<str>>,
    established: bool,
    /// The peer has said that it writes no more.
    peer_closed: bool,
    /// So have we.
    closed: bool,
    /// The transport has ended.
    ended: bool,
    expects_end: bool,
    failed: Option<Error>,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes were read; 0 at the end, or for no room.
    Read(usize),
    /// More has to be received first.
    Receive,
}

/// What to do once all has been processed that was received.
enum Job<'a> {
    /// Nothing; and stop before that if there is something to read into this.
    Read(&'a mut [u8]),
    Encrypt(&'a [IoSlice<'a>]),
    Close,
}

/// Plaintext of the longest record.
pub(crate) const RECORD: usize = 16 * 1024;

/// Encrypted at a time; with what is around the records it fits a buffer.
const MOST_AT_ONCE: usize = 2 * RECORD;

/// What is around the plaintext of a record, at most.
const OVERHEAD: usize = 64;

/// What plain HTTP begins with.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
];

/// Received of a handshake that has not come to an end: rustls takes messages of 64 KiB.
const MOST_UNFINISHED: usize = 128 * 1024;

impl Session {
    pub(crate) fn server(config: Arc<rustls::ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config).map_err(Error::Handshake)?;
        Ok(Self::new(Side::Server(connection)))
    }

    pub(crate) fn client(
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(Error::Handshake)?;
        Ok(Self::new(Side::Client(connection)))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            inbox: Buffer::new(),
            plain: Buffer::new(),
            outbox: Buffer::new(),
            may_wait: false,
            server_name: None,
            established: false,
            peer_closed: false,
            closed: false,
            ended: false,
            expects_end: false,
            failed: None,
        }
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.side, Side::Server(_))
    }

    /// Whether anything was received that has not been read.
    pub(crate) fn holds_input(&self) -> bool {
        !self.plain.is_empty() || !self.inbox.is_empty()
    }

    /// How much may be received at once, to fit a buffer with what is there.
    #[inline]
    pub(crate) fn wants(&self) -> usize {
        SIZE.saturating_sub(self.inbox.len()).max(SIZE / 2)
    }

    /// Takes in what was received.
    #[inline]
    pub(crate) fn receive(&mut self, received: &mut Buffer) {
        self.inbox.take_over(received);
    }

    /// What is to be sent, in the order in which it is.
    #[inline]
    pub(crate) fn take_outgoing(&mut self, sending: &mut Buffer) {
        if !self.outbox.is_empty() {
            self.may_wait = false;
            sending.take_over(&mut self.outbox);
        }
    }

    /// Whether there is something to be sent now.
    #[inline]
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty() && !self.may_wait
    }

    /// Whether there is something that leaves with what is written next, or before the peer is waited for.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.may_wait
    }

    /// How much there is to be sent now.
    pub(crate) fn outgoing(&self) -> usize {
        match self.may_wait {
            true => 0,
            false => self.outbox.len(),
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether the transport has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Nothing goes any more.
    #[cold]
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.failed.get_or_insert(error).clone()
    }

    /// Goes on with the handshake as far as what was received takes it; whether it is done.
    pub(crate) fn shake_hands(&mut self) -> Result<bool, Error> {
        if !self.established && self.is_server() {
            self.look_at_first()?;
        }
        self.process(Job::Read(&mut []))?;
        // In TLS 1.3 a server sends nothing but tickets behind its peer's last message. Before that, the peer may wait for it.
        self.may_wait = self.established
            && self.is_server()
            && self.holds_input()
            && !self.outbox.is_empty()
            && self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3);
        Ok(self.established)
    }

    /// A client that has not heard of TLS should be told so, rather than get an alert.
    fn look_at_first(&mut self) -> Result<(), Error> {
        let input = self.inbox.unread();
        let Some(&first) = input.first() else {
            return Ok(());
        };
        let is_http = |method: &&[u8]| input.starts_with(&method[..method.len().min(input.len())]);
        match first {
            // The types of records.
            20..=24 => Ok(()),
            _ if METHODS.iter().any(is_http) => Err(self.fail(Error::PlainHttp)),
            first => Err(self.fail(Error::NotTls(first))),
        }
    }

    /// Nothing more will be received.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// This end reads no more than what has come: an end after that is expected.
    pub(crate) fn expect_end(&mut self) {
        self.expects_end = true;
    }

    /// What a read gets that finds nothing.
    #[inline]
    fn at_end(&self) -> Result<Step, Error> {
        match (self.established, self.ended) {
            _ if self.peer_closed => Ok(Step::Read(0)),
            (_, false) => Ok(Step::Receive),
            (false, true) => Err(Error::EndedInHandshake),
            (true, true) if self.expects_end => Ok(Step::Read(0)),
            (true, true) => Err(Error::Truncated),
        }
    }

    /// Reads what was received, as far as it goes.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Step, Error> {
        if buffer.is_empty() {
            return Ok(Step::Read(0));
        }
        if !self.plain.is_empty() {
            return Ok(Step::Read(self.plain.read(buffer)));
        }
        if !self.inbox.is_empty() || self.failed.is_some() {
            let count = self.process(Job::Read(buffer))?;
            if count > 0 {
                return Ok(Step::Read(count));
            }
        }
        self.at_end()
    }

    /// Copies what [`read`](Self::read) would take, and leaves it there.
    #[inline]
    pub(crate) fn peek(&mut self, buffer: &mut [u8]) -> Result<Step, Error> {
        if self.plain.is_empty() && (!self.inbox.is_empty() || self.failed.is_some()) {
            self.process(Job::Read(&mut []))?;
        }
        match self.plain.is_empty() {
            true => self.at_end(),
            false => Ok(Step::Read(self.plain.copy(buffer))),
        }
    }

    /// Encrypts as much as goes at once; how much it was.
    #[inline]
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        self.process(Job::Encrypt(slices))
    }

    /// Says that nothing more will be written; once.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if self.closed || !self.established {
            return Ok(());
        }
        self.closed = true;
        self.may_wait = false;
        self.process(Job::Close).map(drop)
    }

    #[inline]
    fn process(&mut self, job: Job<'_>) -> Result<usize, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let buffers = (&mut self.inbox, &mut self.plain, &mut self.outbox);
        let processed = match &mut self.side {
            Side::Server(connection) => process(connection, buffers, &mut self.peer_closed, job),
            Side::Client(connection) => process(connection, buffers, &mut self.peer_closed, job),
        };
        if !self.established {
            self.look_whether_established();
        }
        processed.map_err(|error| {
            self.fail(match self.established {
                true => Error::Session(error),
                false => Error::Handshake(error),
            })
        })
    }

    #[inline(never)]
    fn look_whether_established(&mut self) {
        self.server_name = asked_name().or(self.server_name.take());
        self.established = match &self.side {
            Side::Server(connection) => !connection.is_handshaking(),
            Side::Client(connection) => !connection.is_handshaking(),
        };
        if !self.established && self.inbox.len() > MOST_UNFINISHED {
            self.failed = Some(Error::Handshake(rustls::Error::General(
                "more than 128 KiB without an end of the handshake".to_owned(),
            )));
        }
    }

    fn common(&self) -> &rustls::CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// What the handshake came to.
    pub(crate) fn info(&self) -> Info {
        let common = self.common();
        Info {
            version: common.protocol_version(),
            cipher_suite: common.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: common.alpn_protocol().map(Into::into),
            server_name: self.server_name.clone(),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            certificates: common.peer_certificates().unwrap_or_default().into(),
        }
    }
}

/// A connection of either side.
trait Connection: std::ops::DerefMut {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn wants_write(&self) -> bool;
}

macro_rules! connections {
    ($($connection:ty, $data:ty;)*) => {$(
        impl Connection for $connection {
            type Data = $data;

            #[inline]
            fn process<'c, 'i>(
                &'c mut self,
                input: &'i mut [u8],
            ) -> UnbufferedStatus<'c, 'i, Self::Data> {
                self.process_tls_records(input)
            }

            fn wants_write(&self) -> bool {
                rustls::CommonState::wants_write(self)
            }
        }
    )*};
}

connections! {
    UnbufferedServerConnection, ServerConnectionData;
    UnbufferedClientConnection, ClientConnectionData;
}

/// Processes what was received, one record after the other, and then does the job; for reads and writes how much it
/// has moved.
fn process<C: Connection>(
    connection: &mut C,
    (inbox, plain, outbox): (&mut Buffer, &mut Buffer, &mut Buffer),
    peer_closed: &mut bool,
    mut job: Job<'_>,
) -> Result<usize, rustls::Error> {
    let mut read = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = connection.process(inbox.unread_mut());
        let mut done = false;
        let mut result = Ok(0);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    let mut payload = record.payload;
                    if let Job::Read(buffer) = &mut job {
                        let count = payload.len().min(buffer.len() - read);
                        buffer[read..read + count].copy_from_slice(&payload[..count]);
                        read += count;
                        payload = &payload[count..];
                        done = true;
                    }
                    plain.append(payload);
                }
                result = Ok(read);
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outbox),
            // It is on its way, in order.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => *peer_closed = true,
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                done = true;
                result = match job {
                    Job::Read(_) => Ok(read),
                    Job::Encrypt(slices) => encrypt(&mut traffic, slices, outbox),
                    Job::Close => close(&mut traffic, outbox),
                };
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => done = true,
            Ok(_) => {
                let text = "early data, which was not offered";
                result = Err(rustls::Error::General(text.to_owned()));
            }
            Err(error) => result = Err(error),
        }
        inbox.consume(discard);
        if let Err(error) = result {
            // What it says to the peer about it.
            while connection.wants_write() {
                match connection.process(inbox.unread_mut()).state {
                    Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outbox),
                    _ => break,
                }
            }
            return Err(error);
        }
        if done {
            return result;
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outbox: &mut Buffer) {
    let mut size = 0;
    loop {
        match data.encode(outbox.room(size)) {
            Ok(count) => return outbox.fill(count),
            Err(EncodeError::InsufficientSize(needs)) if needs.required_size > size => {
                size = needs.required_size;
            }
            Err(_) => return outbox.fill(0),
        }
    }
}

/// A record for what goes into one, however many pieces it is in.
fn encrypt<D>(
    traffic: &mut WriteTraffic<'_, D>,
    slices: &[IoSlice<'_>],
    outbox: &mut Buffer,
) -> Result<usize, rustls::Error> {
    if let [only] = slices {
        let piece = &only[..only.len().min(MOST_AT_ONCE)];
        encrypt_piece(traffic, piece, outbox)?;
        return Ok(piece.len());
    }
    let mut taken = 0;
    let mut gathered = Buffer::new();
    let mut slices = slices.iter().map(|slice| &slice[..]).peekable();
    while let Some(slice) = slices.next() {
        let slice = &slice[..slice.len().min(MOST_AT_ONCE - taken - gathered.len())];
        let is_last =
            slices.peek().is_none() || taken + gathered.len() + slice.len() == MOST_AT_ONCE;
        let to_fill = (RECORD - gathered.len()).min(slice.len());
        let (first, rest) = match gathered.is_empty() {
            true => (&[][..], slice),
            false => slice.split_at(to_fill),
        };
        gathered.append(first);
        if gathered.len() == RECORD {
            encrypt_piece(traffic, gathered.unread(), outbox)?;
            taken += RECORD;
            gathered.clear();
        }
        let whole = match is_last && gathered.is_empty() {
            true => rest.len(),
            false => rest.len() / RECORD * RECORD,
        };
        if whole > 0 {
            encrypt_piece(traffic, &rest[..whole], outbox)?;
            taken += whole;
        }
        gathered.append(&rest[whole..]);
        if taken + gathered.len() == MOST_AT_ONCE {
            break;
        }
    }
    encrypt_piece(traffic, gathered.unread(), outbox)?;
    Ok(taken + gathered.len())
}

fn encrypt_piece<D>(
    traffic: &mut WriteTraffic<'_, D>,
    piece: &[u8],
    outbox: &mut Buffer,
) -> Result<(), rustls::Error> {
    if piece.is_empty() {
        return Ok(());
    }
    let mut size = piece.len() + piece.len().div_ceil(RECORD) * OVERHEAD;
    put(outbox, |room| traffic.encrypt(piece, room), &mut size)
}

fn close<D>(
    traffic: &mut WriteTraffic<'_, D>,
    outbox: &mut Buffer,
) -> Result<usize, rustls::Error> {
    let mut size = OVERHEAD;
    put(outbox, |room| traffic.queue_close_notify(room), &mut size).map(|()| 0)
}

/// Has something be written behind what is to be sent, in as much room as it takes.
fn put(
    outbox: &mut Buffer,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    size: &mut usize,
) -> Result<(), rustls::Error> {
    loop {
        match write(outbox.room(*size)) {
            Ok(count) => {
                outbox.fill(count);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(needs)) if needs.required_size > *size => {
                *size = needs.required_size;
            }
            Err(error) => {
                outbox.fill(0);
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}
