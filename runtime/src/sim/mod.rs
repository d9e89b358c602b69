//! A simulated world for tests: services as they ship, in time, order and a network that are drawn from a seed.
//!
//! [`check`] runs a scenario once for each seed. Inside, ordinary code runs on ordinary coroutines; what differs is
//! below it:
//!
//! - **Time** moves only when nothing can run, and then straight to what comes next: a timer, or the network. A sleep
//!   of an hour takes no time. [`time::now`](crate::time::now) tells the world's time; [`std::time::Instant::now`] does
//!   not.
//! - **Order**: which of the coroutines that can run has the next turn, and after how many operations it gives way, is
//!   drawn; or it goes [by priorities](Order::Priorities), or through [every order](check_orders) of a small program.
//! - **Network**: [`TcpListener`](crate::net::TcpListener) and [`TcpStream`](crate::net::TcpStream) connect
//!   [hosts](World::host) of the world, by name or address, over links with latency, loss and partitions. Bytes come in
//!   other portions than they were sent in. [`UdpSocket`](crate::net::UdpSocket) goes over the same links, whose
//!   datagrams are lost, come twice or overtake others. [Unix-domain addresses](crate::net::UnixListener) are each
//!   host's own. Calls there, and on a [`pipe`](crate::net::pipe()), move a part now and then, and any wait for a
//!   descriptor may end for nothing when something has come for others.
//! - **Files**: each host has a disk of its own, of which a crash loses what was not synced: [below](#files).
//! - **The end**: if everything waits and nothing will come, that is a deadlock; the seed fails with a
//!   [dump](crate::inspect::dump) of all coroutines.
//!
//! The same seed gives the same order of events, so a failure comes again as often as it is looked at. A failing seed
//! is named, with the line that runs it alone.
//!
//! ```
//! use maniple::{net::{TcpListener, TcpStream}, sim};
//! use std::{io::{Read, Write}, time::Duration};
//!
//! fn serve() {
//!     let listener = TcpListener::bind("0.0.0.0:80").unwrap();
//!     for stream in listener.incoming() {
//!         let mut stream = stream.unwrap();
//!         maniple::spawn(move || stream.write_all(b"hello"));
//!     }
//! }
//!
//! sim::check(0..20, |world| {
//!     let server = world.host("server", serve);
//!     world.link("scenario", "server").latency(Duration::from_millis(1)..Duration::from_millis(20));
//!     world.settle();
//!     let mut stream = TcpStream::connect("server:80").unwrap();
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).unwrap();
//!     sim::always!(text == "hello");
//!     sim::sometimes!(world.now() > Duration::from_millis(20));
//!
//!     server.crash();
//!     let refused = maniple::timeout(Duration::from_secs(5), || TcpStream::connect("server:80"));
//!     assert!(refused.unwrap().is_err());
//!     server.restart();
//! });
//! ```
//!
//! # What a scenario must keep to
//!
//! Its order follows from the seed as long as nothing else does: no [`Instant::now`](std::time::Instant::now), no
//! iteration over a `HashMap` with its own random keys, no threads that send something in, and no loop that spins on
//! [`yield_now`](crate::yield_now) until time has passed, for it does not. Child processes are the real world's: to use
//! those of this crate panics. So are sockets, threads and files of std: with [`interpose!`](interpose), to use them
//! fails the seed with the place, but within [`real`](real()). [`offload`](crate::offload()) runs its job without a
//! thread, at a later time. No other [`Runtime`](crate::Runtime) begins inside. Code that draws keys or pauses by
//! itself asks [`random`] first.
//!
//! # Files
//!
//! What [`fs`](crate::fs) does goes to a disk in memory, one for each [host](World::host), whose `/` and `/tmp` are
//! there from the beginning. Calls take up to 0.2 ms of the world's time, a sync up to 10 ms. A disk is full once it
//! has [so many bytes](Host::set_disk_size), and [fails](Shortage::disk) if the scenario says so.
//!
//! A change shows at once. When its host [crashes](Host::crash), what is left is drawn, within what POSIX and
//! `fsync(2)` leave open:
//!
//! - Bytes and lengths are there for certain once the file was [synced](crate::fs::File::sync_data) after them.
//! - Of later writes, each sector of 512 bytes is as it was after some one of them, or before all: a write is there, or
//!   not, or some of its sectors are. The length is drawn apart from the bytes, which are zeros where they are missing.
//! - A name that was made, renamed or removed is so for certain once its directory was opened and synced after that,
//!   not once the file was. Of later changes there may be none, all, the first ones, or any. A rename is there as a
//!   whole, or not; one between two directories is synced by syncing either.
//! - When a [sync fails](Shortage::disk), what it was to write is there or lost, and later syncs do not write it. Reads
//!   then show what was written, or what is on the disk.
//! - What is left unsynced for long is synced by itself: where 4,096 writes of one file, or changes of names, wait, the
//!   older half.
//!
//! These are the rules that the applications examined in [ALICE] relied on too much ([Pillai and others,
//! 2014][ALICE]), and what is known of [syncs that fail][syncs]. No file system does all of it at once: ext4 keeps the
//! order of names, for one, and mostly syncs a new file's name with its bytes.
//!
//! [ALICE]: https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai
//! [syncs]: https://www.usenix.org/conference/atc20/presentation/rebello
//!
//! ```
//! use maniple::{fs::{self, File}, sim};
//! use std::{io::Write, time::Duration};
//!
//! /// Replaces a file's contents, so that after a crash they are the old ones or the new.
//! fn replace(path: &str, contents: &str) -> std::io::Result<()> {
//!     let next = format!("{path}.next");
//!     let mut file = File::create(&next)?;
//!     file.write_all(contents.as_bytes())?;
//!     file.sync_all()?; // Without this the new name may lead to an empty file.
//!     fs::rename(&next, path)?;
//!     File::open("/")?.sync_all() // Without this the old one may come back later.
//! }
//!
//! sim::check(0..50, |world| {
//!     let host = world.host("service", || {
//!         replace("/state", "new").unwrap();
//!         fs::write("/tmp/told", "").unwrap();
//!     });
//!     host.place_file("/state", "old").unwrap();
//!     maniple::sleep(Duration::from_micros(world.draw(0..30_000)));
//!     let was_told = host.file("/tmp/told").is_ok();
//!     host.crash();
//!     let left = host.file("/state").unwrap();
//!     sim::always!(left == b"new" || left == b"old" && !was_told);
//!     sim::sometimes!(left == b"old");
//! });
//! ```
//!
//! # How it works
//!
//! Each seed has a thread of its own, with a runtime of one worker, so that nothing is left from the seed before.
//! Sockets are Unix-domain ones that spell internet addresses, whose other ends the world has; so a connection takes
//! four descriptors of the process.

mod bounds;
mod check;
mod cuts;
mod diagram;
mod environment;
mod files;
mod interposed;
mod orders;
mod outcome;
mod packet;
mod rare;
mod real;
mod setting;
mod shrink;
mod sources;
mod sweep;
mod trial;
mod world;

#[doc(hidden)]
pub use crate::driver::sim::is_inside;
pub use crate::driver::sim::random;
#[cfg(feature = "fault-injection")]
#[doc(hidden)]
pub use crate::sys::planted::{Planted, is_planted, plant};
pub use crate::{
    sim_always as always, sim_buggify as buggify, sim_interpose as interpose,
    sim_sometimes as sometimes,
};
pub use bounds::Bounds;
#[doc(hidden)]
pub use check::run_here;
pub use check::{check, check_by, record, run, run_by};
pub use cuts::cut;
pub use diagram::Record;
pub use environment::{
    CHANGES_VARIABLE, DIAGRAM_VARIABLE, ORDER_VARIABLE, SEED_VARIABLE, SEEDS_VARIABLE,
    TRACE_VARIABLE, WITHOUT_VARIABLE, seeds,
};
#[doc(hidden)]
pub use interposed::{clock, fill, libc, library, open, refused};
pub use orders::{Order, check_orders, point};
pub use outcome::{Failure, Run};
pub use packet::{ActiveRule, Matched, Packet, PacketKind, Verdict};
#[doc(hidden)]
pub use rare::buggified;
pub use rare::dawdle;
pub use real::real;
#[doc(hidden)]
pub use real::{denies, denies_file};
#[doc(hidden)]
pub use sweep::{held, sometimes};
pub use world::{Host, Link, Partition, Shortage, World};
