//! Who is stalled: from samples of the queues, and from what the server knows of its requests.
//!
//! A queue that is not empty tells nothing by itself; one from which nothing was taken for a while does. So
//! the watch remembers, for each socket and direction, how much had been taken when that last grew.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use maniple_examples::sockdiag::{Socket, State};

use crate::server::Owed;

/// One connection at one moment.
#[derive(Debug)]
pub struct Row {
    pub socket: Socket,
    /// How long nothing has moved that could have: bytes in a queue, or a request begun.
    pub since: Option<Duration>,
    pub stall: Option<Stall>,
}

/// Who holds a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Send-Q stays and the peer's window is closed: its kernel answers, its process does not read.
    PeerDoesNotRead,
    /// Send-Q stays and is sent again and again: the peer's host or the way there is gone.
    PeerDoesNotAnswer,
    /// Both queues are empty amid a request, and nothing comes: the peer does not send the rest.
    PeerDoesNotSend,
    /// Recv-Q stays: we do not read.
    WeDoNotRead,
    /// Recv-Q is empty, and a request that is complete has no answer: we compute, or wait for others.
    WeDoNotAnswer,
    /// Recv-Q of the listening socket is never empty: we do not accept, or not fast enough.
    WeDoNotAccept,
}

/// Remembers each socket's last progress, by its cookie.
#[derive(Debug)]
pub struct Watch {
    stalled_after: Duration,
    seen: HashMap<u64, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    acked: Moved,
    received: Moved,
    read: Moved,
}

/// How many bytes had moved, and when that was first seen.
#[derive(Clone, Copy, Debug)]
struct Moved {
    bytes: u64,
    at: Instant,
}

impl Watch {
    pub fn new(stalled_after: Duration) -> Watch {
        let seen = HashMap::new();
        Watch {
            stalled_after,
            seen,
        }
    }

    /// Judges one sample: a row for each socket, the listening one first. `owed` tells what the server knows of its
    /// connection.
    pub fn judge(
        &mut self,
        now: Instant,
        mut sockets: Vec<Socket>,
        owed: impl Fn(&Socket) -> Option<Owed>,
    ) -> Vec<Row> {
        sockets.sort_by_key(|socket| (socket.state != State::LISTEN, socket.peer));
        let mut seen = HashMap::with_capacity(sockets.len());
        let rows = sockets
            .into_iter()
            .map(|socket| {
                let latest = self.progress(&socket, now);
                seen.insert(socket.cookie, latest);
                self.row(socket, latest, now, &owed)
            })
            .collect();
        // Those that were not in the sample are gone.
        self.seen = seen;
        rows
    }

    fn progress(&self, socket: &Socket, now: Instant) -> Seen {
        let info = socket.info.unwrap_or_default();
        let waiting = u64::from(socket.recv_queue);
        // A listening socket does not count what was accepted: only an empty queue shows that all was.
        let read = match socket.state {
            State::LISTEN => u64::from(waiting == 0),
            _ => info.bytes_received.saturating_sub(waiting),
        };
        let before = self.seen.get(&socket.cookie);
        let moved = |bytes, before: Option<Moved>| match before {
            Some(before) if before.bytes == bytes => before,
            _ => Moved { bytes, at: now },
        };
        Seen {
            acked: moved(info.bytes_acked, before.map(|seen| seen.acked)),
            received: moved(info.bytes_received, before.map(|seen| seen.received)),
            read: moved(read, before.map(|seen| seen.read)),
        }
    }

    fn row(
        &self,
        socket: Socket,
        seen: Seen,
        now: Instant,
        owed: impl Fn(&Socket) -> Option<Owed>,
    ) -> Row {
        let info = socket.info.unwrap_or_default();
        // A server that cannot write does not read either: Send-Q is the cause, so it is asked first.
        let (since, stall) = if socket.state == State::LISTEN {
            // Its Send-Q is the backlog's bound.
            let waiting = socket.recv_queue > 0;
            (waiting.then_some(seen.read.at), Stall::WeDoNotAccept)
        } else if socket.send_queue > 0 {
            let again = info.retransmits > 0 && info.peer_window != Some(0);
            let stall = match again {
                true => Stall::PeerDoesNotAnswer,
                false => Stall::PeerDoesNotRead,
            };
            (Some(seen.acked.at), stall)
        } else if socket.recv_queue > 0 {
            (Some(seen.read.at), Stall::WeDoNotRead)
        } else {
            match owed(&socket) {
                // Slow, but it sends.
                Some(Owed::Request(begun)) => {
                    (Some(begun.max(seen.received.at)), Stall::PeerDoesNotSend)
                }
                Some(Owed::Answer(begun)) => (Some(begun), Stall::WeDoNotAnswer),
                None => (None, Stall::PeerDoesNotSend),
            }
        };
        let since = since.map(|since| now.saturating_duration_since(since));
        Row {
            socket,
            since,
            stall: since
                .filter(|&since| since >= self.stalled_after)
                .map(|_| stall),
        }
    }
}

impl fmt::Display for Row {
    /// The line that names who is stalled, or that nobody is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, since) = (self.socket.peer, self.since.unwrap_or_default());
        let (send, receive) = (self.socket.send_queue, self.socket.recv_queue);
        let since = format_args!("for {:.1} s", since.as_secs_f64());
        match self.stall {
            None => write!(f, "{peer} is not stalled"),
            Some(Stall::PeerDoesNotRead) => write!(
                f,
                "STALLED: peer {peer} has not read {since}: {send} bytes wait here, its window is {}",
                self.socket
                    .info
                    .and_then(|info| info.peer_window)
                    .map_or("unknown".to_owned(), |window| window.to_string())
            ),
            Some(Stall::PeerDoesNotAnswer) => write!(
                f,
                "STALLED: peer {peer} has acknowledged nothing {since}: {send} bytes are sent again and again"
            ),
            Some(Stall::PeerDoesNotSend) => write!(
                f,
                "STALLED: peer {peer} has not sent the rest of its request {since}: both queues are empty"
            ),
            Some(Stall::WeDoNotRead) => write!(
                f,
                "STALLED: this server has not read from {peer} {since}: {receive} bytes wait here"
            ),
            Some(Stall::WeDoNotAnswer) => write!(
                f,
                "STALLED: this server has not answered {peer} {since}: both queues are empty"
            ),
            Some(Stall::WeDoNotAccept) => write!(
                f,
                "STALLED: this server has not accepted all at {} {since}: {receive} connections wait, the backlog is {send}",
                self.socket.local
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maniple_examples::sockdiag::Info;

    const AFTER: Duration = Duration::from_secs(1);

    fn socket(recv_queue: u32, send_queue: u32, info: Info) -> Socket {
        Socket {
            state: State::ESTABLISHED,
            local: ([127, 0, 0, 1], 80).into(),
            peer: ([127, 0, 0, 1], 4711).into(),
            recv_queue,
            send_queue,
            uid: 0,
            inode: 1,
            cookie: 1,
            info: Some(info),
        }
    }

    /// What the watch says of `second` when it sees it `later` than `first`.
    fn stall(first: Socket, second: Socket, later: Duration) -> Option<Stall> {
        let mut watch = Watch::new(AFTER);
        let start = Instant::now();
        assert_eq!(watch.judge(start, vec![first], |_| None)[0].stall, None);
        watch.judge(start + later, vec![second], |_| None)[0].stall
    }

    #[test]
    fn a_queue_that_stays_is_a_stall_and_one_that_moves_is_none() {
        let acked = |bytes_acked| Info {
            bytes_acked,
            ..Info::default()
        };
        let full = |bytes| socket(0, 1000, acked(bytes));
        assert_eq!(stall(full(5), full(5), AFTER), Some(Stall::PeerDoesNotRead));
        assert_eq!(stall(full(5), full(5), AFTER / 2), None);
        assert_eq!(stall(full(5), full(6), AFTER), None);
        assert_eq!(stall(full(5), socket(0, 0, acked(5)), AFTER), None);
    }

    #[test]
    fn what_is_sent_again_into_an_open_window_is_not_the_readers_fault() {
        let info = |peer_window| Info {
            retransmits: 3,
            peer_window: Some(peer_window),
            ..Info::default()
        };
        let silent = socket(0, 1000, info(65536));
        assert_eq!(
            stall(silent.clone(), silent, AFTER),
            Some(Stall::PeerDoesNotAnswer)
        );
        let closed = socket(0, 1000, info(0));
        assert_eq!(
            stall(closed.clone(), closed, AFTER),
            Some(Stall::PeerDoesNotRead)
        );
    }

    #[test]
    fn bytes_that_come_do_not_hide_that_none_are_read() {
        let info = |bytes_received| Info {
            bytes_received,
            ..Info::default()
        };
        let (first, grown) = (socket(10, 0, info(30)), socket(20, 0, info(40)));
        assert_eq!(stall(first.clone(), grown, AFTER), Some(Stall::WeDoNotRead));
        assert_eq!(stall(first, socket(10, 0, info(40)), AFTER), None);
    }

    #[test]
    fn a_listening_socket_stalls_while_its_queue_is_never_empty() {
        let listening = |waiting| Socket {
            state: State::LISTEN,
            ..socket(waiting, 128, Info::default())
        };
        assert_eq!(stall(listening(0), listening(0), AFTER), None);
        assert_eq!(stall(listening(0), listening(2), AFTER), None);
        let more = stall(listening(1), listening(2), AFTER);
        assert_eq!(more, Some(Stall::WeDoNotAccept));
    }

    #[test]
    fn empty_queues_stall_only_amid_a_request() {
        let idle = || vec![socket(0, 0, Info::default())];
        let start = Instant::now();
        let mut watch = Watch::new(AFTER);
        assert_eq!(watch.judge(start + AFTER, idle(), |_| None)[0].since, None);
        let owed = |_: &Socket| Some(Owed::Request(start));
        assert_eq!(watch.judge(start + AFTER, idle(), owed)[0].stall, None);
        let rows = watch.judge(start + 2 * AFTER, idle(), owed);
        assert_eq!(rows[0].stall, Some(Stall::PeerDoesNotSend));
        assert!(
            rows[0].to_string().contains("127.0.0.1:4711"),
            "{}",
            rows[0]
        );
    }

    #[test]
    fn a_peer_that_sends_slowly_is_not_stalled() {
        let start = Instant::now();
        let mut watch = Watch::new(AFTER);
        for byte in 0..10 {
            let bytes_received = byte.into();
            let info = Info {
                bytes_received,
                ..Info::default()
            };
            let now = start + AFTER * byte / 2;
            let owed = |_: &Socket| Some(Owed::Request(start));
            let rows = watch.judge(now, vec![socket(0, 0, info)], owed);
            assert_eq!(rows[0].stall, None, "byte {byte}");
        }
    }

    #[test]
    fn a_server_that_owes_an_answer_is_stalled_itself() {
        let start = Instant::now();
        let mut watch = Watch::new(AFTER);
        let thinking = vec![socket(0, 0, Info::default())];
        let rows = watch.judge(start + AFTER, thinking, |_| Some(Owed::Answer(start)));
        assert_eq!(rows[0].stall, Some(Stall::WeDoNotAnswer));
    }
}
