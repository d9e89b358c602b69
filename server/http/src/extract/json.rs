//! JSON bodies.

use http::StatusCode;
use serde::de::DeserializeOwned;

use super::{
    FromRequest,
    body::{expect_type, has_no_body},
    problem_of,
};
use crate::{body::BodyError, problem::Problem, request::Request, response::Json};

/// A body of type `application/json`, or another whose type ends with `+json`; any other is rejected with 415. What is
/// no JSON is rejected with 400, and other JSON than that with 422; both say where.
impl<T: DeserializeOwned> FromRequest for Json<T> {
    type Rejection = Problem;

    fn from_request(request: &mut Request) -> Result<Self, Problem> {
        expect_type(request, is_json, "application/json")?;
        if let Some(read) = request.with_body_at_hand(read) {
            return read;
        }
        read(&request.read_body().map_err(BodyError::into_problem)?)
    }

    fn is_absent(request: &Request) -> bool {
        has_no_body(request) && request.header("content-type").is_none()
    }
}

fn is_json(essence: &str) -> bool {
    let ends_with = |end: &str| {
        let at = essence.len().checked_sub(end.len());
        at.and_then(|at| essence.get(at..))
            .is_some_and(|last| last.eq_ignore_ascii_case(end))
    };
    essence.eq_ignore_ascii_case("application/json") || ends_with("+json")
}

#[inline]
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Json<T>, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(Json(value)),
        Err(_) => Err(what_is_wrong::<T>(bytes)),
    }
}

/// Reads it once more, and notes where it is.
#[cold]
fn what_is_wrong<T: DeserializeOwned>(bytes: &[u8]) -> Problem {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let (field, error) = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => (error.path().to_string(), error.into_inner()),
        Ok(_) => match json.end() {
            Err(error) => (String::new(), error),
            // It took it now: what deserialises it does not do the same each time.
            Ok(()) => {
                return Problem::new(StatusCode::BAD_REQUEST, "request body is not as expected");
            }
        },
    };
    let status = match error.classify() {
        serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    };
    problem_of(status, &field, error.to_string())
}
