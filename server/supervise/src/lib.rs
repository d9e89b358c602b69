//! Several processes that share a service's sockets, and one that looks after them: for servers on [`maniple`].
//!
//! ```no_run
//! use maniple_server::{Request, Router, Server};
//! use maniple_supervise::{End, Supervisor};
//!
//! fn main() -> std::io::Result<()> {
//!     let supervisor = Supervisor::new().workers(4).listen("http", "127.0.0.1:8080")?;
//!     // In the process that was started it ends with the service; in each of the four it starts, here begins the service.
//!     let Some(mut worker) = supervisor.control("/run/greeter.sock").run()? else { return Ok(()) };
//!     maniple::run(|| {
//!         let router = Router::new().get("/", |_: &mut Request| "hello");
//!         let server = Server::builder(router).listener(worker.take("http")?)?;
//!         let handle = server.handle();
//!         worker.ready(move |why| match why {
//!             End::Replaced => handle.hand_over(),
//!             End::Stopped => handle.drain(),
//!         })?;
//!         server.serve().map(drop)
//!     })
//! }
//! ```
//!
//! The supervisor opens the sockets, or takes those of systemd's socket unit, and starts its own program once for each
//! worker, with the same arguments. A worker gets the sockets and says when it is ready. All accept from the same sockets,
//! and these stay open in the supervisor. So:
//!
//! - One that crashes is started again, after a pause that grows; the others serve meanwhile.
//! - **SIGHUP** or `ctl reload` replaces each process by a new one, of the program that lies at its path by then. The former
//!   is told to end only when the new one is ready; if that fails, all stays as it is. No connection is refused meanwhile,
//!   and none is lost that waits to be accepted: it waits at a socket that no process closes. (Sockets of their own, by
//!   `SO_REUSEPORT`, lose what waits at one that is closed.)
//! - **SIGTERM** and **SIGINT** end the service in order; a second one kills what is left.
//! - **SIGQUIT**, **SIGUSR1** and **SIGUSR2** are handed on to the workers.
//! - [`ctl`] shows the state of each process, through a Unix-domain socket.
//! - systemd is told of it by [`notify`].
//!
//! None of it forks without a new program: the runtime's threads would be missing in the child.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod builder;
pub mod ctl;
mod link;
mod message;
pub mod notify;
mod plan;
mod sockets;
mod supervisor;
mod worker;

pub use builder::Supervisor;
pub use message::End;
pub use worker::Worker;
