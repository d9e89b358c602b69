//! An id for each request, which all of its log lines and its answer can have.

use std::{cell::RefCell, mem::ManuallyDrop, sync::Arc};

use http::HeaderName;
use maniple::coroutine_local;

use super::chain::{Middleware, Next};
use crate::{
    id::{FIELD, Id},
    request::Request,
    response::Response,
};

coroutine_local! {
    /// That of the request which the coroutine, or the one that spawned it, answers.
    static CURRENT: RefCell<Option<Id>> = RefCell::new(None), inherited;
}

/// Gives each request an id: that of the field `X-Request-Id` if it has one, or else a new one; and puts it into the
/// answer.
///
/// While the request is answered [`request_id`] returns it, in the coroutine that answers and in those which that
/// spawns, so a logger can put it into each line. A client's id is taken over if it has 1 to 128 letters, digits, `-`,
/// `_` or `.`, as UUIDs and ULIDs have; others could forge lines, and a new id is made.
///
/// New ids are 32 hexadecimal digits: 64 random bits that are drawn when the program begins, and a counter. They are
/// not secret.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::{RequestId, request_id}};
///
/// let router = Router::new().with(RequestId::new()).get("/", |_: &mut Request| {
///     log::info!("[{}] hello", request_id().unwrap_or_default());
///     "hello"
/// });
/// let mut request = Request::for_test("GET", "/").with_header("x-request-id", "a-1");
/// assert_eq!(router.answer(&mut request).header("x-request-id"), Some("a-1"));
/// ```
#[derive(Clone, Debug)]
pub struct RequestId {
    field: HeaderName,
    trusts: bool,
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestId {
    /// Ids in `X-Request-Id`.
    pub fn new() -> Self {
        Self {
            field: FIELD,
            trusts: true,
        }
    }

    /// Ids in another field. Default: `X-Request-Id`.
    ///
    /// # Panics
    /// If it is not a field's name.
    #[track_caller]
    pub fn field(mut self, name: &str) -> Self {
        self.field = HeaderName::from_bytes(name.as_bytes())
            .unwrap_or_else(|_| panic!("not a header name: {name:?}"));
        self
    }

    /// Whether ids of clients are taken over. Default: yes. Without a proxy in front that sets them: no.
    pub fn trust_clients(mut self, trusts: bool) -> Self {
        self.trusts = trusts;
        self
    }
}

/// The id of the request that this coroutine, or the one that spawned it, answers; `None` without a [`RequestId`].
pub fn request_id() -> Option<Arc<str>> {
    // Not made for a look: each coroutine that is spawned would have to inherit it.
    let text = |id: &RefCell<Option<Id>>| Some(id.borrow_mut().as_mut()?.shared());
    CURRENT.with_made(text).flatten()
}

impl Middleware for RequestId {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let theirs = match self.trusts {
            true => request.header_str(self.field.as_str()),
            false => None,
        };
        let id = theirs.and_then(Id::acceptable).unwrap_or_else(Id::fresh);
        CURRENT.with(|current| {
            let former = current.replace(Some(id));
            let current = Current { current, former };
            let mut response = next.run(request);
            match current.end() {
                Some(id) if self.field == FIELD => response.set_id(id),
                Some(id) => {
                    _ = response
                        .headers_mut()
                        .insert(self.field.clone(), id.value())
                }
                None => {}
            }
            response
        })
    }
}

/// Puts the former id back, since a coroutine answers one request after the other.
struct Current<'a> {
    current: &'a RefCell<Option<Id>>,
    former: Option<Id>,
}

impl Current<'_> {
    /// Puts it back now; the id that was there meanwhile.
    fn end(self) -> Option<Id> {
        let mut this = ManuallyDrop::new(self);
        this.current.replace(this.former.take())
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        self.current.replace(self.former.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    #[test]
    fn ids_that_could_forge_a_line_are_replaced() {
        let router = Router::new()
            .with(RequestId::new())
            .get("/", |_: &mut Request| request_id().unwrap().to_string());
        let answer = |theirs: &str| {
            let mut request = Request::for_test("GET", "/").with_header("x-request-id", theirs);
            let answer = router.answer(&mut request);
            let told = answer.header("x-request-id").unwrap().to_owned();
            assert_eq!(answer.into_text().unwrap(), told);
            told
        };
        assert_eq!(answer("01H.a_b-c"), "01H.a_b-c");
        for id in ["", "a b", "a\tb", "é", &"a".repeat(129)] {
            let told = answer(id);
            assert_ne!(told, id);
            assert_eq!(told.len(), 32);
        }
        assert_ne!(answer(""), answer(""));
        assert_eq!(request_id(), None, "it is the request's alone");
    }

    #[test]
    fn an_answer_has_one_id_whatever_is_done_to_its_fields() {
        let id = |response: Response| {
            let mut response = response;
            let told = response.header("X-Request-Id").unwrap().to_owned();
            let all = response.headers_mut().get_all("x-request-id").iter();
            let all: Vec<_> = all
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            assert_eq!(all, std::slice::from_ref(&told));
            assert_eq!(response.header("x-request-id"), Some(&*told));
            told
        };
        let with_type = |response: Response| response.with_header("x-other", "value");
        let router = Router::new()
            .with(move |request: &mut Request, next: Next<'_>| with_type(next.run(request)))
            .with(RequestId::new())
            .get("/", |_: &mut Request| "plain")
            .get("/own", |_: &mut Request| {
                Response::text("own").with_header("x-request-id", "theirs")
            })
            .get("/none", |_: &mut Request| http::StatusCode::NO_CONTENT);
        for target in ["/", "/own", "/none", "/nowhere"] {
            let answer = router.answer(&mut Request::for_test("GET", target));
            assert_eq!(answer.header("x-other"), Some("value"));
            let has_type = answer.header("content-type").is_some();
            assert_eq!(
                has_type,
                matches!(target, "/" | "/own" | "/nowhere"),
                "{target}"
            );
            assert_eq!(id(answer).len(), 32, "{target}");
            let mut request = Request::for_test("GET", target).with_header("x-request-id", "a-1");
            assert_eq!(id(router.answer(&mut request)), "a-1", "{target}");
        }
    }

    #[test]
    fn children_have_the_id_of_the_request_that_they_work_for() {
        maniple::run(|| {
            let router = Router::new()
                .with(RequestId::new().field("X-Trace").trust_clients(false))
                .get("/", |_: &mut Request| {
                    let mine = request_id().unwrap();
                    let childs = maniple::spawn(request_id).join().unwrap();
                    (mine == childs.unwrap()).to_string()
                });
            let mut request = Request::for_test("GET", "/").with_header("x-trace", "theirs");
            let answer = router.answer(&mut request);
            assert_ne!(answer.header("x-trace"), Some("theirs"));
            assert_eq!(answer.into_text().unwrap(), "true");
        });
    }
}
