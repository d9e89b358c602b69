//! Queries and forms: names and values, form-encoded.

use http::{Method, StatusCode, header::CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    FromHead, FromRequest,
    body::{expect_type, has_no_body},
    problem_of,
};
use crate::{
    body::BodyError,
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// The query: its parameters by their names, as the fields of a struct. Several of one name make a `Vec`.
///
/// A parameter that is missing or wrong is rejected with 400, which names it. With `Option` a request without a query is
/// `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromHead for Query<T> {
    type Rejection = Problem;

    fn from_head(request: &Request) -> Result<Self, Problem> {
        read(request.query().unwrap_or_default().as_bytes()).map(Self)
    }

    fn is_absent(request: &Request) -> bool {
        request.query().is_none()
    }
}

/// A form: of a `GET` or `HEAD` its query, else a body of type `application/x-www-form-urlencoded`; and such a body as a
/// response.
///
/// Another type is rejected with 415, and a field that is missing or wrong with 422, which names it.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, extract::Form};
///
/// #[derive(serde::Deserialize)]
/// struct Login {
///     name: String,
///     #[serde(default)]
///     groups: Vec<u32>,
/// }
///
/// let router = Router::new().post("/login", |Form(login): Form<Login>| {
///     format!("{} of {:?}", login.name, login.groups)
/// });
/// let mut request = Request::for_test("POST", "/login")
///     .with_header("content-type", "application/x-www-form-urlencoded")
///     .with_body("name=Ann+B.&groups=1&groups=2");
/// assert_eq!(router.answer(&mut request).into_text().unwrap(), "Ann B. of [1, 2]");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Form<T> {
    type Rejection = Problem;

    fn from_request(request: &mut Request) -> Result<Self, Problem> {
        if [Method::GET, Method::HEAD].contains(request.method()) {
            return Query::from_head(request).map(|Query(form)| Self(form));
        }
        let fits = |essence: &str| essence.eq_ignore_ascii_case(FORM);
        expect_type(request, fits, FORM)?;
        let body = request.read_body().map_err(BodyError::into_problem)?;
        let wrong = StatusCode::UNPROCESSABLE_ENTITY;
        read(&body)
            .map(Self)
            .map_err(|problem| problem.with_status(wrong))
    }

    fn is_absent(request: &Request) -> bool {
        match *request.method() {
            Method::GET | Method::HEAD => request.query().is_none(),
            _ => has_no_body(request) && request.header("content-type").is_none(),
        }
    }
}

/// 500 if it cannot be serialised as one.
impl<T: Serialize> IntoResponse for Form<T> {
    fn into_response(self) -> Response {
        match serde_html_form::to_string(&self.0) {
            Ok(form) => Response::text(form).with_header(CONTENT_TYPE.as_str(), FORM),
            Err(error) => Response::unserialisable(&error),
        }
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let form = serde_html_form::Deserializer::from_bytes(bytes);
    serde_path_to_error::deserialize(form).map_err(|error| {
        let field = error.path().to_string();
        problem_of(
            StatusCode::BAD_REQUEST,
            &field,
            error.into_inner().to_string(),
        )
    })
}

const FORM: &str = "application/x-www-form-urlencoded";
