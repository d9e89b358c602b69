//! The work that every model does: bytes in, bytes out, and nothing about who waits where.
//!
//! `GET /aggregate/{id}` asks the backends A, B and C for `id` and merges their answers; `GET /cpu?us=` uses a core for so
//! long. A model chooses who reads, who asks, who computes and who writes; what is read and written is the same
//! for all, and stands here:
//!
//! - [`request`]: from bytes to an [`Ask`]; [`answer`]: from an [`Answer`] to bytes; [`burn`]: using the processor
//! - [`backend`]: what A, B and C answer, and the line that asks them; [`Gathering`]: three answers into one
//! - [`Conversation`]: a client's connection for code that blocks; [`Wire`]: the same for code that must not
//! - [`Queue`]: from a thread to workers, with a bound; [`Mailbox`]: back to a thread that waits for events
//! - [`chat`]: the chat room's lines, as heard and said; [`Rooms`]: who is told what
//! - [`Backends`]: A, B and C for code that blocks; [`Upstream`]: one of them for code that must not

pub mod answer;
pub mod backend;
mod burn;
pub mod chat;
mod conversation;
mod gathering;
mod queue;
pub mod request;
mod rooms;
mod upstream;
mod wire;

pub use answer::Answer;
pub use backend::{Backend, Backends, Unavailable};
pub use burn::burn;
pub use conversation::Conversation;
pub use gathering::Gathering;
pub use queue::{Mailbox, Queue};
pub use request::{Ask, Request};
pub use rooms::{Line, Rooms};
pub use upstream::Upstream;
pub use wire::Wire;
