//! What is wrong with a request, as its client is told.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;

/// What is wrong with a request, or went wrong with it, as its client is told: a status, and what to do about it.
///
/// The server's own answers of 4xx and 5xx are such, those of [`BodyError`](crate::BodyError) and of extractors too, and a
/// handler may return one. As a response it is a line of text, unless [`Router::on_error`](crate::Router::on_error) has
/// another form for all of them.
///
/// # Examples
/// ```
/// use maniple_server::{Problem, Request, Router, StatusCode};
///
/// fn show(request: &mut Request) -> Result<String, Problem> {
///     let id = request.param("id").unwrap_or_default();
///     let id: u32 = id.parse().map_err(|error| {
///         Problem::new(StatusCode::BAD_REQUEST, format!("{error}")).with_field("id")
///     })?;
///     Ok(format!("user {id}"))
/// }
/// let router = Router::new().get("/users/{id}", show);
/// let answer = router.answer(&mut Request::for_test("GET", "/users/ann"));
/// assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
/// assert_eq!(answer.into_text().unwrap(), "id: invalid digit found in string\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: Option<Cow<'static, str>>,
    detail: Cow<'static, str>,
    field: Option<String>,
    /// All of it as a line.
    line: String,
}

impl Problem {
    /// One of that status, and what its client is to know.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self {
            status,
            kind: None,
            line: format!("{detail}\n"),
            detail,
            field: None,
        }
    }

    /// The same of a part of the request: a path or query parameter, or a field of its body such as `items[2].name`.
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        let field = field.into();
        self.line = format!("{field}: {}\n", self.detail);
        self.field = Some(field);
        self
    }

    /// The same of a kind that has a name: a URI, `type` in `application/problem+json`.
    pub fn with_type(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.kind = Some(uri.into());
        self
    }

    /// The same with another status.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client is to know.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What part of the request it is about.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The URI of its kind, if it has one.
    pub fn type_uri(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// The members that RFC 9457 defines, and `field`.
    pub(crate) fn members(&self) -> Members<'_> {
        Members {
            kind: self.kind.as_deref(),
            title: self.status.canonical_reason(),
            status: self.status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Members<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}
