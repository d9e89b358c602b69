//! What is known of a coroutine from its spawning, and why one has no value to give.

use std::{
    any::Any,
    borrow::Cow,
    cell::Cell,
    fmt, io,
    marker::PhantomData,
    net::SocketAddr,
    panic::Location,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{error::Interrupt, stack::SizeClass};

/// What is known of a coroutine from its spawning.
pub(crate) struct Origin {
    pub(crate) id: u64,
    pub(crate) name: Option<Name>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) class: SizeClass,
}

/// A coroutine's name: as text, or as what text is made of once somebody asks for it.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Text(Cow<'static, str>),
    /// Serves the connection from there. A server has too many of these to write each one's text.
    ConnectionFrom(SocketAddr),
}

impl Name {
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Name::Text(text) => Cow::Borrowed(text),
            Name::ConnectionFrom(_) => Cow::Owned(self.to_string()),
        }
    }

    pub(crate) fn into_text(self) -> Cow<'static, str> {
        match self {
            Name::Text(text) => text,
            Name::ConnectionFrom(_) => Cow::Owned(self.to_string()),
        }
    }

    /// What it has in common with the names of those that do the same.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Name::Text(text) => text,
            Name::ConnectionFrom(_) => "connection",
        }
    }
}

/// Neither allocates nor locks: the report of an overflow is written in a signal handler.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Text(text) => f.write_str(text),
            Name::ConnectionFrom(peer) => write!(f, "connection from {peer}"),
        }
    }
}

/// Which coroutine, in words.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {:?}", name.text())?;
        }
        write!(f, ", spawned at {}", self.spawned_at)
    }
}

/// Why a coroutine has no value to give.
pub(crate) enum Failure {
    Panicked(Box<dyn Any + Send>),
    Interrupted(Interrupt),
    /// No stack could be had for it.
    NoStack(io::Error),
}

/// Why a coroutine could not begin, where nobody asks for its result any more.
pub(crate) type Unseen = Option<io::Error>;

/// Ids are unique in the process; threads take them in blocks, so they are not quite in order.
pub(crate) fn next_id() -> u64 {
    const BLOCK: u64 = 1024;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static MINE: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    MINE.with(|mine| {
        let (mut next, mut end) = mine.get();
        if next == end {
            next = NEXT.fetch_add(BLOCK, Ordering::Relaxed);
            end = next + BLOCK;
        }
        mine.set((next + 1, end));
        next
    })
}

/// Marks handles by their result type.
pub(crate) type Yields<T> = PhantomData<fn() -> T>;
