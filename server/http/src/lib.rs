//! HTTP/1.1 on [`maniple`]: a server whose handlers are plain blocking functions, and a client to call
//! the next service with.
//!
//! ```
//! use maniple_server::{Client, Request, Router, Server};
//!
//! # fn main() -> std::io::Result<()> {
//! maniple::run(|| {
//!     let router = Router::new().get("/greet/{name}", |request: &mut Request| {
//!         format!("hello, {}", request.param("name").unwrap_or("you"))
//!     });
//!     let server = Server::builder(router).bind("127.0.0.1:0")?;
//!     let url = format!("http://{}/greet/Ann", server.local_addr());
//!     let handle = server.handle();
//!     let serving = maniple::spawn(move || server.serve());
//!
//!     assert_eq!(Client::new().get(&url)?.text()?, "hello, Ann");
//!
//!     handle.drain();
//!     serving.join()??;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! - [`Router`], [`Request`], [`Response`], [`IntoResponse`]: a handler is any
//!   `Fn(&mut Request) -> impl IntoResponse`, or a function whose arguments are had from the request.
//! - [`extract`]: those arguments: path, query, JSON, forms, cookies, shared state.
//! - [`middleware`]: what is done around handlers.
//! - [`Server`]: limits and timeouts with defaults, graceful drain.
//! - [`Client`]: keep-alive connections; deadlines are those of the caller's scope.
//! - [`Proxy`]: a gateway as one route.
//!
//! Worker pools, hubs of topics and members, and servers for a protocol of your own are the crate
//! `maniple-parts`.
//!
//! Start with the file `server/conn.rs` to read how a connection is served.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
pub mod client;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
mod coding;
pub mod extract;
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http1;
#[cfg(feature = "http2")]
pub mod http2;
mod id;
pub mod middleware;
mod origin;
mod problem;
mod proxied;
mod proxy;
mod request;
mod response;
mod router;
#[cfg(feature = "tls")]
mod secure;
pub mod server;
mod source;
pub mod sse;
mod testing;
mod trace_context;
pub mod transport;
mod validators;
#[cfg(feature = "websocket")]
pub mod websocket;
mod writer;

/// TLS: settings of a server that [speaks](server::Builder::bind_tls) it, what its handlers [learn](Request::tls), and settings
/// of a client that [speaks](client::Builder::tls) it.
///
/// With the feature `tls`.
#[cfg(feature = "tls")]
pub use maniple_tls as tls;

pub use body::BodyError;
pub use bytes::Bytes;
pub use client::{Client, ClientError, ClientResponse};
pub use cookie::Cookie;
pub use files::Files;
pub use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
pub use maniple::drain::DrainReport;
pub use problem::Problem;
pub use proxy::Proxy;
pub use request::{BodyReader, Request};
pub use response::{Body, Html, IntoResponse, Json, Response};
pub use router::{
    Route, RouteError, Router, TrailingSlash,
    handler::{Handler, IntoHandler},
};
pub use server::{Server, ServerHandle, upgrade::Upgraded};
pub use validators::Validators;
pub use writer::{BodyWriter, Flush};

// Here, since neither the client nor the server knows the other.
/// The [status](ClientError::status) and its name: what hosts a service calls is not its clients' affair. Log the error
/// for yourself.
impl IntoResponse for ClientError {
    fn into_response(self) -> Response {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        (status, format!("{}\n", reason.to_lowercase())).into_response()
    }
}
