//! The models, and what can be said of each without reading it.

use std::io;

use crate::site::Site;

mod blocking_client;
mod chat_broadcaster;
mod chat_mixed;
mod chat_senders;
mod fork;
mod half_sync_half_async;
mod half_sync_half_reactive;
mod iterative;
mod leader;
mod leader_followers;
mod leader_shared;
mod loop_per_thread;
mod loop_pool;
mod may;
mod message_passing;
mod multiplex;
mod mux_pool;
mod prefork;
mod prefork_reuseport;
mod proactor;
mod process_coroutines;
mod process_threads;
mod reactor;
mod serial;
mod sigio;
mod simulated_proactor;
mod state_machine;
mod thread;
mod thread_pool;
mod tokio;
mod worker_pool;

/// All of them, by number.
pub const MODELS: &[Model] = &[
    iterative::MODEL,
    fork::MODEL,
    thread::MODEL,
    prefork::MODEL,
    prefork_reuseport::MODEL,
    thread_pool::MODEL,
    process_threads::MODEL,
    process_coroutines::MODEL,
    blocking_client::MODEL,
    multiplex::select::MODEL,
    multiplex::poll::MODEL,
    multiplex::epoll::MODEL,
    reactor::MODEL,
    mux_pool::MODEL,
    half_sync_half_async::MODEL,
    half_sync_half_reactive::MODEL,
    leader_followers::MODEL,
    simulated_proactor::MODEL,
    proactor::MODEL,
    loop_per_thread::MODEL,
    loop_pool::MODEL,
    sigio::MODEL,
    state_machine::MODEL,
    tokio::MODEL,
    message_passing::MODEL,
    serial::MODEL,
    leader::MODEL,
    leader_shared::MODEL,
    may::MODEL,
    worker_pool::MODEL,
    chat_broadcaster::MODEL,
    chat_senders::MODEL,
    chat_mixed::MODEL,
];

/// One model.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Its place in the book.
    pub number: u8,
    /// Its name on the command line, and that of its file.
    pub name: &'static str,
    /// Its name in prose.
    pub title: &'static str,
    /// What it serves.
    pub service: Service,
    /// What a client costs that says nothing, or half a request.
    pub silent_client: Client,
    /// Whether a connection is kept for further requests. Not so where it holds what others wait for.
    pub keeps_connections: bool,
    /// The text of its files.
    pub sources: &'static [&'static str],
    /// Serves until the process ends.
    pub serve: fn(&Site) -> io::Result<()>,
}

/// What a model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `/aggregate/{id}` and `/cpu?us=` over HTTP.
    Http,
    /// The same, but the parts come from nodes of its own and not from the backends.
    HttpOfItsOwn,
    /// The chat room, and what becomes of it when a member stops reading.
    Chat(Stalled),
}

/// What happens when a member of a chat room stops reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// Nobody hears anything more until the member reads again, leaves, or is cut in the end.
    StopsTheRoom,
    /// The member is cut, and the others see it leave.
    IsCut,
    /// The member misses the oldest lines that it has not read, and is told how many.
    MissesLines,
}

/// What a silent client costs the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Nobody else is served meanwhile.
    StopsAll,
    /// It holds one of a fixed number of workers.
    HoldsAWorker,
    /// It holds one of them, and those whom the kernel gave to the same one wait, though others be free.
    HoldsItsShare,
    /// A descriptor and some memory.
    CostsMemory,
}

impl Model {
    /// Lines of code: neither blank nor only a comment.
    pub fn lines_of_code(&self) -> usize {
        let lines = self.sources.iter().flat_map(|source| source.lines());
        lines
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    }
}

/// The model with this name.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}
