//! The lookout: sees that a client has gone while a handler works for it, and has the handler's waits cut short.
//!
//! Requests that are answered soon cost some instructions and no call of the kernel: who serves a connection says in
//! [`Busy`], which lies in the connection's way out, which turn it is at. A coroutine on each worker, the *lookout*, comes
//! by every [`TICK`] while connections are busy. One that has been at the same turn for a whole tick it has the kernel
//! watch from then on ([`Hangups`]), once for as long as a coroutine serves it, and hears of its end at once.
//!
//! ```text
//!   handler begins ──► a tick passes ──► watched ──┬─ reset ──────────────────────────────► gone
//!                                                  └─ end of its sending ──► asked ──┬─ reset ─► gone
//!                                                                                    └─ takes it: it listens
//! ```
//!
//! # Gone, or half-closed
//! `close` and `shutdown(SHUT_WR)` send the same FIN. They differ in what becomes of bytes that are sent there: a socket that
//! was closed answers with RST (RFC 9293, 3.10.7.1), one that is half closed takes them. So the lookout sends bytes that
//! no client of HTTP/1.1 minds: one `100 Continue` (RFC 9110, 15.2: a client must be able to take interim answers to
//! what it asked, and 100 is the one that the fewest stumble over). Only a client that has sent its FIN is ever sent it. Where
//! some byte of the answer has left, or the client speaks HTTP/1.0, nothing can be asked, and it passes for half-closed. Over
//! Unix-domain sockets and in memory the two look different, and nobody is asked.
//!
//! Bytes that nobody has read, of requests that were pipelined, do not hide the FIN: `EPOLLRDHUP` tells of it when it comes.
//!
//! All of this is one thread's: a connection's coroutine, its way out and the lookout stay on one worker.

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use maniple::{net::Hangups, sync::Notify, time::coarse_now};

use super::{
    out::{NOBODY, Out},
    state::Connection,
};
use crate::http1::response::CONTINUE;

/// What counts as a client that has gone, so that the waits of its handler are cut short.
///
/// A handler that is cut finds its scope cancelled, as by its `JoinHandle`:
/// [`cancel::cause`](maniple::cancel::cause) is [`Disconnected`](maniple::cancel::Cause::Disconnected). What must not be cut
/// it does in [`cancel::shield`](maniple::cancel::shield).
///
/// It takes up to 100 ms until a handler is watched over. From then on it is cut at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnects {
    /// Nothing: handlers go on to their end.
    Ignored,
    /// A connection that was reset, or is closed in a way that the transport tells from a half-close.
    Reset,
    /// Also one whose client has ended its sending, once it has been asked whether it still listens: it is sent a
    /// `100 Continue`, if it speaks HTTP/1.1 and no byte of the answer has left, and one that was closed resets then.
    #[default]
    Asked,
    /// Also one whose client has ended its sending. Clients that half-close get no answers that take long.
    End,
}

/// A served connection's place at its worker's lookout.
#[derive(Debug)]
pub(super) struct Post {
    index: u32,
}

/// How often the lookout comes by.
const TICK: Duration = Duration::from_millis(50);

/// Ticks without a busy connection, after which it waits to be called.
const IDLE_TICKS: u32 = 2;

/// How long a lookout stays that nobody calls.
const STAY: Duration = Duration::from_secs(1);

thread_local! {
    static LOOKOUT: Rc<Lookout> = Rc::new(Lookout::default());
    /// Whether it comes by without being called.
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
}

impl Post {
    /// The calling worker's, for a connection that it serves from now on.
    pub(super) fn take(connection: &Arc<Connection>, disconnects: Disconnects) -> Self {
        let index = match disconnects {
            Disconnects::Ignored => NOBODY,
            _ => LOOKOUT.with(|lookout| lookout.give_post(connection, disconnects)),
        };
        Self { index }
    }

    /// The connection is busy, with that way out, until that is cleared.
    #[inline]
    pub(super) fn begin(&self, out: &Out) {
        out.busy.post.set(self.index);
        if !IS_LOOKING.get() && self.index != NOBODY {
            LOOKOUT.with(Lookout::call);
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if self.index != NOBODY {
            // The thread may be ending, and the lookout gone.
            let _ = LOOKOUT.try_with(|lookout| lookout.take_back(self.index));
        }
    }
}

/// Has the lookout of this worker see who uses it.
pub(super) fn enlist(out: &Rc<Out>) {
    LOOKOUT.with(|lookout| {
        let mut seen = lookout.seen.borrow_mut();
        if seen.len() == seen.capacity() {
            // The lookout does so too, but it may have got no stack.
            seen.retain(|seen| seen.out.strong_count() > 0);
        }
        seen.push(Seen {
            out: Rc::downgrade(out),
            post: NOBODY,
            turn: 0,
            asked: None,
        });
    });
}

/// A worker's lookout.
#[derive(Default)]
struct Lookout {
    posts: RefCell<Vec<Occupied>>,
    free: RefCell<Vec<u32>>,
    seen: RefCell<Vec<Seen>>,
    /// There once somebody is watched; none if there was no descriptor for it.
    hangups: OnceCell<Option<Hangups>>,
    news: Notify,
    attended: Cell<bool>,
}

/// What is known of a connection.
#[derive(Default)]
struct Occupied {
    connection: Option<Arc<Connection>>,
    disconnects: Disconnects,
    /// Tells what is heard of this connection from what is of the post's former one.
    generation: u32,
    is_watched: bool,
    end: Option<End>,
    is_cut: bool,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing more comes.
    OfSending,
    /// Nothing can be sent any more.
    Whole,
}

/// A way out, and what the connection that uses it was at when the lookout came by.
struct Seen {
    out: Weak<Out>,
    post: u32,
    turn: u32,
    /// The turn at which the client was asked whether it is there.
    asked: Option<u32>,
}

impl Lookout {
    fn give_post(&self, connection: &Arc<Connection>, disconnects: Disconnects) -> u32 {
        let mut posts = self.posts.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            posts.push(Occupied::default());
            u32::try_from(posts.len() - 1).expect("fewer connections than 2^32")
        });
        let post = &mut posts[index as usize];
        *post = Occupied {
            connection: Some(connection.clone()),
            disconnects,
            generation: post.generation.wrapping_add(1),
            ..Occupied::default()
        };
        index
    }

    fn take_back(&self, index: u32) {
        let connection = self.posts.borrow_mut()[index as usize].connection.take();
        self.free.borrow_mut().push(index);
        drop(connection);
    }

    #[cold]
    fn call(self: &Rc<Self>) {
        if !self.attended.get() {
            let watch = Watch {
                lookout: self.clone(),
            };
            let spawned = maniple::task::Builder::new()
                .name("maniple-server lookout")
                .without_locals()
                .spawn_local(move || watch.keep());
            // Else the next who is busy tries again.
            self.attended.set(spawned.is_ok());
        }
        if self.attended.get() {
            IS_LOOKING.set(true);
            self.news.notify_one();
        }
    }

    /// Waits for a tick; sooner if connections have ended. Whether it was a whole one.
    fn pause(&self) -> bool {
        let Some(Some(hangups)) = self.hangups.get() else {
            maniple::sleep(TICK);
            return true;
        };
        match hangups.wait_until(coarse_now() + TICK) {
            Ok(told) => {
                let mut posts = self.posts.borrow_mut();
                for hangup in told {
                    let (index, generation) = (hangup.key as u32, (hangup.key >> 32) as u32);
                    let post = posts.get_mut(index as usize);
                    if let Some(post) = post.filter(|post| post.generation == generation) {
                        post.end = Some(match hangup.is_whole {
                            true => End::Whole,
                            false => End::OfSending,
                        });
                    }
                }
                false
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => true,
            Err(_) => {
                maniple::sleep(TICK);
                true
            }
        }
    }

    /// Looks at all who are busy; whether anybody is.
    fn go_round(&self, is_tick: bool) -> bool {
        let mut any = false;
        let mut list = self.seen.take();
        list.retain_mut(|seen| {
            let Some(out) = seen.out.upgrade() else {
                return false;
            };
            let (post, turn) = (out.busy.post.get(), out.busy.turn.get());
            any |= post != NOBODY;
            if (post, turn) == (seen.post, seen.turn) && post != NOBODY {
                self.look_at(seen, &out);
            } else if is_tick {
                (seen.post, seen.turn) = (post, turn);
            }
            true
        });
        // Others may have come meanwhile.
        list.append(&mut self.seen.borrow_mut());
        self.seen.replace(list);
        any
    }

    /// Sees whether a client is there that has waited for long. Other coroutines may run meanwhile.
    fn look_at(&self, seen: &mut Seen, out: &Out) {
        let Some((connection, generation, verdict)) = self.judge(seen.post) else {
            return;
        };
        match verdict {
            Verdict::Stays => {}
            Verdict::MayBeGone => {
                if seen.asked != Some(seen.turn) && out.ask(&connection, CONTINUE) {
                    seen.asked = Some(seen.turn);
                }
            }
            Verdict::IsGone => {
                let is_cut = connection.abandon();
                if let Some(post) = self.posts.borrow_mut().get_mut(seen.post as usize)
                    && post.generation == generation
                {
                    post.is_cut = is_cut;
                }
            }
        }
    }

    /// Whether the client is there of the connection at that post, which is watched from now on; with the connection, and the
    /// post's generation. What this calls does not suspend, as others take posts and give them back.
    fn judge(&self, post: u32) -> Option<(Arc<Connection>, u32, Verdict)> {
        let mut posts = self.posts.borrow_mut();
        let (index, post) = (post, &mut posts[post as usize]);
        let connection = post.connection.clone().filter(|_| !post.is_cut)?;
        let transport = &connection.transport;
        if let Some(is_whole) = transport.hangup() {
            post.end = Some(match is_whole {
                true => End::Whole,
                false => End::OfSending,
            });
        } else if !post.is_watched {
            post.is_watched = true;
            let key = u64::from(post.generation) << 32 | u64::from(index);
            let hangups = self.hangups.get_or_init(|| Hangups::new().ok());
            if let (Some(hangups), Some(descriptor)) = (hangups, transport.descriptor()) {
                // One that cannot be watched is not cut.
                let _ = hangups.watch(descriptor, key);
            }
        }
        let verdict = match (post.end, post.disconnects) {
            (None, _) => Verdict::Stays,
            (Some(End::Whole), _) => Verdict::IsGone,
            // The drain has ended it, and not the client.
            (Some(End::OfSending), _) if connection.is_ending() => Verdict::Stays,
            (Some(End::OfSending), Disconnects::End) => Verdict::IsGone,
            (Some(End::OfSending), Disconnects::Asked) if !transport.tells_half_closes() => {
                Verdict::MayBeGone
            }
            (Some(End::OfSending), _) => Verdict::Stays,
        };
        Some((connection, post.generation, verdict))
    }
}

/// What is to be done about a client.
enum Verdict {
    Stays,
    /// It is to be asked.
    MayBeGone,
    IsGone,
}

/// The right to be a worker's lookout, given back however it ends.
struct Watch {
    lookout: Rc<Lookout>,
}

impl Watch {
    fn keep(self) {
        let lookout = &*self.lookout;
        let mut idle = 0;
        loop {
            let is_tick = lookout.pause();
            match lookout.go_round(is_tick) {
                true => idle = 0,
                false => idle += 1,
            }
            if idle >= IDLE_TICKS {
                IS_LOOKING.set(false);
                if !lookout.news.notified_timeout(STAY) && !IS_LOOKING.get() {
                    return;
                }
                idle = 0;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.lookout.attended.set(false);
        IS_LOOKING.set(false);
    }
}
