//! The proactor's connections to the backends: the same operations and the same dispatcher
//! as for clients.

use std::{collections::HashMap, io, net::SocketAddr, os::fd::OwnedFd, rc::Rc};

use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketFlags, SocketType, shutdown, socket_with, sockopt,
};

use super::{
    Proactor, Whose,
    ring::{Done, Verb},
};
use crate::work::{Unavailable, backend::parse_reply};

/// One backend. Its connection has up to two operations under way: one that receives, one
/// that connects or sends.
pub(super) struct Backend {
    address: SocketAddr,
    socket: Option<Rc<OwnedFd>>,
    /// Connecting, or sending.
    busy: bool,
    unsent: Vec<u8>,
    received: Vec<u8>,
    /// Which client waits for the answer with which tag.
    waiting: HashMap<u64, u64>,
    last_tag: u64,
}

impl Backend {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            socket: None,
            busy: false,
            unsent: Vec::new(),
            received: Vec::new(),
            waiting: HashMap::new(),
            last_tag: 0,
        }
    }

    pub(super) fn has(&self, socket: &Rc<OwnedFd>) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|mine| Rc::ptr_eq(mine, socket))
    }
}

impl Proactor {
    pub(super) fn ask_backend(&mut self, which: usize, id: u64, client: u64) {
        let backend = &mut self.backends[which];
        backend.last_tag += 1;
        let question = format!("{} {id}\n", backend.last_tag);
        backend.unsent.extend_from_slice(question.as_bytes());
        backend.waiting.insert(backend.last_tag, client);
        if backend.socket.is_none()
            && let Err(error) = self.connect(which)
        {
            return self.lose_backend(which, &error);
        }
        self.send_questions(which);
    }

    /// ⑥ Even connecting is started and left alone; the questions wait for its completion.
    fn connect(&mut self, which: usize) -> io::Result<()> {
        let backend = &mut self.backends[which];
        let family = match backend.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let socket = Rc::new(socket);
        backend.socket = Some(socket.clone());
        backend.busy = true;
        let connect = Verb::Connect(Rc::new(SocketAddrAny::from(backend.address)));
        self.ring.start(Whose::Backend(which), socket, connect);
        Ok(())
    }

    /// Sends what has been asked since the last time, unless that is still under way.
    fn send_questions(&mut self, which: usize) {
        let backend = &mut self.backends[which];
        if let Some(socket) = &backend.socket
            && !backend.busy
            && !backend.unsent.is_empty()
        {
            backend.busy = true;
            let questions = Verb::Send(std::mem::take(&mut backend.unsent));
            self.ring
                .start(Whose::Backend(which), socket.clone(), questions);
        }
    }

    fn listen_to(&mut self, which: usize) {
        if let Some(socket) = &self.backends[which].socket {
            let buffer = Verb::Receive(vec![0; 4096]);
            self.ring
                .start(Whose::Backend(which), socket.clone(), buffer);
        }
    }

    /// The completion handler of backends. An error ends the connection.
    pub(super) fn backend_went_on(&mut self, which: usize, done: Done) -> io::Result<()> {
        let backend = &mut self.backends[which];
        match done {
            Done::Connected(connected) => {
                connected?;
                backend.busy = false;
                self.listen_to(which);
                self.send_questions(which);
            }
            Done::Sent(rest) => {
                // What the kernel did not take goes before what was asked meanwhile.
                backend.unsent.splice(..0, rest?);
                backend.busy = false;
                self.send_questions(which);
            }
            Done::Received(bytes) => {
                let bytes = bytes?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                backend.received.extend_from_slice(&bytes);
                self.listen_to(which);
                self.hand_out(which);
            }
            Done::Accepted(_) => {}
        }
        Ok(())
    }

    /// Gives each answer that has come in to the client that waits for it.
    fn hand_out(&mut self, which: usize) {
        let backend = &mut self.backends[which];
        let whole = backend.received.iter().rposition(|&byte| byte == b'\n');
        let lines: Vec<u8> = backend
            .received
            .drain(..whole.map_or(0, |end| end + 1))
            .collect();
        for line in String::from_utf8_lossy(&lines).lines() {
            if let Some((tag, said)) = parse_reply(which, line)
                && let Some(client) = self.backends[which].waiting.remove(&tag)
            {
                self.gather(client, which, said);
            }
        }
    }

    /// Everybody who waits for it has a failure, and the next question makes a new connection.
    pub(super) fn lose_backend(&mut self, which: usize, error: &io::Error) {
        let backend = &mut self.backends[which];
        if let Some(socket) = backend.socket.take() {
            // ⑦ Dropping it closes nothing while an operation holds it: this ends what is
            // still under way.
            let _ = shutdown(&socket, Shutdown::Both);
        }
        backend.busy = false;
        backend.unsent.clear();
        backend.received.clear();
        let failed = Unavailable::new(which, error);
        for (_, client) in std::mem::take(&mut backend.waiting) {
            self.gather(client, which, Err(failed.clone()));
        }
    }
}
