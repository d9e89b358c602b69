//! Arguments that are there before the request is looked at: states, and what middleware handed on.

use std::{any::type_name, convert::Infallible, net::SocketAddr};

use http::{HeaderMap, Method, StatusCode, Uri};
use maniple::{log_limit::LogLimit, log_within};

use super::{FromHead, Needs};
use crate::{problem::Problem, request::Request, transport::Peer};

/// A value that handlers share: a clone of what [`Router::state`](crate::Router::state) was given, so usually an `Arc`.
///
/// [`Request::state`] has it without the clone. A server does not start if a route's is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromHead for State<T> {
    type Rejection = Infallible;

    fn from_head(request: &Request) -> Result<Self, Infallible> {
        match request.state::<T>() {
            Some(state) => Ok(Self(state.clone())),
            None => panic!("State<{}> is not set: call Router::state", type_name::<T>()),
        }
    }

    fn needs(needs: &mut Needs<'_>) {
        needs.state::<T>();
    }
}

/// A value that a middleware handed on, by [`Request::extensions_mut`]: a clone.
///
/// Where none did, the answer is 500, and the log has an error. With `Option` it is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromHead for Extension<T> {
    type Rejection = Problem;

    fn from_head(request: &Request) -> Result<Self, Problem> {
        static RATE: LogLimit = LogLimit::new(1);
        if let Some(value) = request.extensions().get::<T>() {
            return Ok(Self(value.clone()));
        }
        log_within!(
            RATE,
            error,
            "no middleware of {} handed on an Extension<{}>",
            request.route().unwrap_or("no route"),
            type_name::<T>()
        );
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        Err(Problem::new(error, "internal server error"))
    }

    fn is_absent(request: &Request) -> bool {
        request.extensions().get::<T>().is_none()
    }
}

/// The client's address, if it came over TCP; else the answer is 500. With `Option` it is `None`.
///
/// Behind a proxy it is the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

impl FromHead for PeerAddr {
    type Rejection = Problem;

    fn from_head(request: &Request) -> Result<Self, Problem> {
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        let missing = || Problem::new(error, "internal server error");
        request.peer_addr().map(Self).ok_or_else(missing)
    }

    fn is_absent(request: &Request) -> bool {
        request.peer_addr().is_none()
    }
}

macro_rules! views {
    ($($of:ty => $view:expr),* $(,)?) => {$(
        impl FromHead for $of {
            type Rejection = Infallible;

            fn from_head(request: &Request) -> Result<Self, Infallible> {
                let view: fn(&Request) -> $of = $view;
                Ok(view(request))
            }
        }
    )*};
}

views!(
    Method => |request| request.method().clone(),
    Uri => |request| request.uri().clone(),
    HeaderMap => |request| request.headers().clone(),
    Peer => |request| *request.peer(),
);
