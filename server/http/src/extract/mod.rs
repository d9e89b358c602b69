//! Handlers' arguments that are had from the request: by their types.
//!
//! A handler is a function of up to eight arguments. All of them are had from the head of the request ([`FromHead`]); the
//! last may take the body ([`FromRequest`]), or be `&mut Request` itself. What cannot be had is answered in the handler's
//! place, with a [`Problem`] that says what is wrong with which part of the request.
//!
//! ```
//! use maniple_server::{Request, Router, Json, StatusCode, extract::{Path, Query, State}};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, Serialize)]
//! struct Order {
//!     item: String,
//!     pieces: u32,
//! }
//!
//! #[derive(Deserialize)]
//! struct Paging {
//!     #[serde(default)]
//!     page: u32,
//! }
//!
//! #[derive(Clone)]
//! struct Shop(&'static str);
//!
//! fn list(State(shop): State<Shop>, Query(paging): Query<Paging>) -> String {
//!     format!("orders of {}, page {}", shop.0, paging.page)
//! }
//!
//! fn change(Path(id): Path<u32>, Json(order): Json<Order>) -> (StatusCode, Json<Order>) {
//!     (StatusCode::ACCEPTED, Json(Order { item: format!("{} for {id}", order.item), ..order }))
//! }
//!
//! let router = Router::new()
//!     .state(Shop("nails & co"))
//!     .get("/orders", list)
//!     .put("/orders/{id}", change);
//!
//! let answer = router.answer(&mut Request::for_test("GET", "/orders?page=2"));
//! assert_eq!(answer.into_text().unwrap(), "orders of nails & co, page 2");
//! let answer = router.answer(&mut Request::for_test("GET", "/orders?page=x"));
//! assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
//! assert_eq!(answer.into_text().unwrap(), "page: invalid digit found in string\n");
//!
//! let mut request = Request::for_test("PUT", "/orders/7")
//!     .with_header("content-type", "application/json")
//!     .with_body(r#"{"item": "nails", "pieces": 100}"#);
//! let answer = router.answer(&mut request).into_text().unwrap();
//! assert_eq!(answer, r#"{"item":"nails for 7","pieces":100}"#);
//! ```

mod body;
mod cookies;
mod form;
mod head;
mod json;
mod multipart;
pub(crate) mod parts;
mod path;

pub use self::{
    cookies::Cookies,
    form::{Form, Query},
    head::{Extension, PeerAddr, State},
    multipart::{Multipart, MultipartReader, Part, Upload},
    path::Path,
};
pub use crate::router::states::Needs;
use crate::{problem::Problem, request::Request, response::IntoResponse};

/// What can be had from the head of a request: any argument of a handler.
///
/// Implement it for types of your own: a user, a session, a language.
///
/// # Examples
/// ```
/// use maniple_server::{Problem, Request, Router, StatusCode, extract::FromHead};
///
/// struct Key(String);
///
/// impl FromHead for Key {
///     type Rejection = Problem;
///
///     fn from_head(request: &Request) -> Result<Self, Problem> {
///         match request.header_str("x-key") {
///             Some(key) => Ok(Self(key.to_owned())),
///             None => Err(Problem::new(StatusCode::UNAUTHORIZED, "missing").with_field("x-key")),
///         }
///     }
/// }
///
/// let router = Router::new().get("/", |key: Key| format!("your key is {}", key.0));
/// let answer = router.answer(&mut Request::for_test("GET", "/"));
/// assert_eq!(answer.into_text().unwrap(), "x-key: missing\n");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be had from the head of a request",
    label = "takes the body, or is no extractor",
    note = "only the last argument of a handler may take the body: `Json`, `Form`, `Bytes`, `String`",
    note = "types of your own implement `maniple_server::extract::FromHead`"
)]
pub trait FromHead: Sized {
    /// What is answered where it cannot be had.
    type Rejection: IntoResponse;

    /// It, of that request.
    ///
    /// # Errors
    /// What is to be answered in the handler's place.
    fn from_head(request: &Request) -> Result<Self, Self::Rejection>;

    /// Whether the request has none, so that an `Option` of it is `None`. What is there and wrong is rejected.
    fn is_absent(request: &Request) -> bool {
        let _ = request;
        false
    }

    /// Says which states it needs, so that a server does not start without them.
    fn needs(needs: &mut Needs<'_>) {
        let _ = needs;
    }
}

/// What can be had from a whole request: the last argument of a handler.
///
/// All that is [`FromHead`] is it too. The parameter tells the two apart; leave it out.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be had from a request",
    label = "no extractor",
    note = "types of your own implement `maniple_server::extract::FromHead`, or `FromRequest` if they take the body"
)]
pub trait FromRequest<By = by::Request>: Sized {
    /// What is answered where it cannot be had.
    type Rejection: IntoResponse;

    /// It, of that request, whose body it may read.
    ///
    /// # Errors
    /// What is to be answered in the handler's place.
    fn from_request(request: &mut Request) -> Result<Self, Self::Rejection>;

    /// Whether the request has none: see [`FromHead::is_absent`].
    fn is_absent(request: &Request) -> bool {
        let _ = request;
        false
    }

    /// Says which states it needs: see [`FromHead::needs`].
    fn needs(needs: &mut Needs<'_>) {
        let _ = needs;
    }
}

/// What an argument is had from, where that tells two ways apart.
pub mod by {
    /// From the head alone.
    #[derive(Debug)]
    pub struct Head(());

    /// From the whole request.
    #[derive(Debug)]
    pub struct Request(());
}

impl<T: FromHead> FromRequest<by::Head> for T {
    type Rejection = T::Rejection;

    #[inline]
    fn from_request(request: &mut Request) -> Result<Self, T::Rejection> {
        T::from_head(request)
    }

    fn is_absent(request: &Request) -> bool {
        T::is_absent(request)
    }

    fn needs(needs: &mut Needs<'_>) {
        T::needs(needs);
    }
}

impl<T: FromHead> FromHead for Option<T> {
    type Rejection = T::Rejection;

    fn from_head(request: &Request) -> Result<Self, T::Rejection> {
        match T::is_absent(request) {
            true => Ok(None),
            false => T::from_head(request).map(Some),
        }
    }

    fn needs(needs: &mut Needs<'_>) {
        T::needs(needs);
    }
}

impl<T: FromRequest> FromRequest for Option<T> {
    type Rejection = T::Rejection;

    fn from_request(request: &mut Request) -> Result<Self, T::Rejection> {
        match T::is_absent(request) {
            true => Ok(None),
            false => T::from_request(request).map(Some),
        }
    }

    fn needs(needs: &mut Needs<'_>) {
        T::needs(needs);
    }
}

impl<T: FromHead> FromHead for Result<T, T::Rejection> {
    type Rejection = std::convert::Infallible;

    fn from_head(request: &Request) -> Result<Self, Self::Rejection> {
        Ok(T::from_head(request))
    }

    fn needs(needs: &mut Needs<'_>) {
        T::needs(needs);
    }
}

impl<T: FromRequest> FromRequest for Result<T, T::Rejection> {
    type Rejection = std::convert::Infallible;

    fn from_request(request: &mut Request) -> Result<Self, Self::Rejection> {
        Ok(T::from_request(request))
    }

    fn needs(needs: &mut Needs<'_>) {
        T::needs(needs);
    }
}

/// A problem with a part of the request that has a name, or with all of it.
fn problem_of(status: http::StatusCode, field: &str, detail: impl Into<String>) -> Problem {
    let problem = Problem::new(status, detail.into());
    match field {
        "" | "." => problem,
        field => problem.with_field(field),
    }
}
