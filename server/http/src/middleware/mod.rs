//! What is done around handlers, and the middlewares that most services want.
//!
//! A middleware is a function that is given the request and the [rest of the chain](Next): see [`Middleware`]. Put them
//! around all routes with [`Router::with`](crate::Router::with), the outermost first.
//!
//! # Examples
//! ```
//! use maniple_server::{
//!     Request, Router,
//!     middleware::{AccessLog, ConcurrencyLimit, RefuseCrossSite, RequestId, SecurityHeaders},
//! };
//!
//! let router = Router::new()
//!     .with(RequestId::new())
//!     .with(AccessLog::combined())
//!     .with(ConcurrencyLimit::new(512))
//!     .with(RefuseCrossSite::new())
//!     .with(SecurityHeaders::new())
//!     .get("/", |_: &mut Request| "hello");
//! let answer = router.answer(&mut Request::for_test("GET", "/"));
//! assert!(answer.header("x-request-id").is_some());
//! ```

mod access_log;
mod adaptive_limit;
mod auth;
mod body_limit;
mod canonical_host;
mod catch_panic;
mod chain;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
mod compression;
mod concurrency_limit;
mod cors;
mod cross_site;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
mod decompression;
mod etag;
mod https_only;
mod line;
mod metrics;
mod rate_limit;
mod refused;
mod request_id;
mod security_headers;
mod timeout;
mod trace;

pub use access_log::AccessLog;
pub use adaptive_limit::AdaptiveLimit;
pub use auth::{BasicAuth, BearerAuth, equal_secrets};
pub use body_limit::BodyLimit;
pub use canonical_host::CanonicalHost;
pub use catch_panic::CatchPanic;
pub(crate) use chain::{End, Form, Link, give_form};
pub use chain::{Middleware, Next};
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
pub use compression::Compression;
pub use concurrency_limit::ConcurrencyLimit;
pub use cors::Cors;
pub use cross_site::RefuseCrossSite;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
pub use decompression::Decompression;
pub use etag::ETag;
pub use https_only::HttpsOnly;
pub(crate) use metrics::{CallCounts, ServerNumbers};
pub use metrics::{Exposition, Metrics};
pub use rate_limit::RateLimit;
pub use refused::Refused;
pub use request_id::{RequestId, request_id};
pub use security_headers::SecurityHeaders;
pub use timeout::Timeout;
pub use trace::Trace;

pub use crate::trace_context::{TraceContext, trace_context};
