//! TLS on [`maniple`]: rustls under blocking calls, over any transport that waits as coroutines do.
//!
//! ```
//! # #[cfg(feature = "self-signed")]
//! # fn main() -> std::io::Result<()> {
//! use std::io::{Read, Write};
//! use maniple::net::{TcpListener, TcpStream};
//! use maniple_tls::{ClientConfig, ServerConfig, self_signed};
//!
//! let certificate = self_signed(["localhost"])?;
//! let believed = certificate.chain_pem();
//! let server = ServerConfig::builder().certificate(certificate).build()?;
//! let client = ClientConfig::builder().roots_pem(believed).build()?;
//! maniple::run(|| {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let address = listener.local_addr()?;
//!     let serving = maniple::spawn(move || {
//!         let mut stream = server.stream(listener.accept()?.0)?;
//!         stream.write_all(b"hello")
//!     });
//!
//!     let mut stream = client.stream(TcpStream::connect(address)?, "localhost")?;
//!     let mut greeting = String::new();
//!     stream.read_to_string(&mut greeting)?;
//!     assert_eq!(greeting, "hello");
//!     serving.join()?
//! })
//! # }
//! # #[cfg(not(feature = "self-signed"))]
//! # fn main() {}
//! ```
//!
//! - [`ServerConfig`], [`ClientConfig`]: settings, and what makes a [`Stream`] of a connection.
//! - [`Stream`]: reads, writes, and what the handshake came to ([`Info`]).
//! - [`Transport`]: what a stream can go over.
//! - [`Error`], [`ConfigError`]: what goes wrong, typed, with what and where.
//!
//! Features: `ring` (default) and `aws-lc-rs` for the cryptography, `self-signed` for certificates made at start.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod buffers;
#[cfg(feature = "bundled-roots")]
mod bundled;
mod certificate;
mod client;
mod counts;
mod error;
mod info;
mod names;
mod pem;
mod provider;
mod reload;
#[cfg(feature = "self-signed")]
mod self_signed;
mod server;
mod session;
mod stream;
mod transport;

pub use certificate::Certificate;
pub use client::{ClientBuilder, ClientConfig};
pub use counts::Handshakes;
pub use error::{CertificateFault, ConfigError, Error, Place};
pub use info::Info;
pub use provider::Provider;
pub use reload::Reloading;
pub use rustls::pki_types::CertificateDer;
#[cfg(feature = "self-signed")]
pub use self_signed::self_signed;
pub use server::{ServerBuilder, ServerConfig};
pub use stream::{ReadHalf, Stream, WriteHalf};
pub use transport::Transport;
