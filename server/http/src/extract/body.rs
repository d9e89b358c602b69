//! Bodies as they are.

use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};

use super::FromRequest;
use crate::{
    body::{BodyError, BodyState},
    problem::Problem,
    request::Request,
};

impl FromRequest for Bytes {
    type Rejection = BodyError;

    fn from_request(request: &mut Request) -> Result<Self, BodyError> {
        request.read_body()
    }

    fn is_absent(request: &Request) -> bool {
        has_no_body(request)
    }
}

impl FromRequest for Vec<u8> {
    type Rejection = BodyError;

    fn from_request(request: &mut Request) -> Result<Self, BodyError> {
        request.read_body().map(Into::into)
    }

    fn is_absent(request: &Request) -> bool {
        has_no_body(request)
    }
}

/// Rejected with 400 if it is not UTF-8.
impl FromRequest for String {
    type Rejection = Problem;

    fn from_request(request: &mut Request) -> Result<Self, Problem> {
        let bytes = request.read_body().map_err(BodyError::into_problem)?;
        Self::from_utf8(bytes.into())
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "request body is not UTF-8"))
    }

    fn is_absent(request: &Request) -> bool {
        has_no_body(request)
    }
}

/// Whether the client sent no body, or an empty one.
pub(super) fn has_no_body(request: &Request) -> bool {
    matches!(request.exchange.scratch().body, BodyState::Done)
}

/// Refuses what does not say that it is of such a type.
pub(super) fn expect_type(
    request: &Request,
    fits: impl FnOnce(&str) -> bool,
    name: &str,
) -> Result<(), Problem> {
    let given = request.header_str(CONTENT_TYPE.as_str());
    let essence = given.and_then(|given| given.split(';').next());
    if essence.is_some_and(|essence| fits(essence.trim())) {
        return Ok(());
    }
    let detail = format!("expected a body of type {name}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).with_field("content-type"))
}
