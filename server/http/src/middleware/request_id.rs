//! An id for each request, which all of its log lines and its answer can have.

use std::{
    cell::RefCell,
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderName, HeaderValue};
use maniple::coroutine_local;

use super::chain::{Middleware, Next};
use crate::{request::Request, response::Response};

coroutine_local! {
    /// That of the request which the coroutine, or the one that spawned it, answers.
    static CURRENT: RefCell<Option<Arc<str>>> = RefCell::new(None), inherited;
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

/// The longest id of a client's that is taken over.
const MOST: usize = 128;

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestId {
    /// Ids in `X-Request-Id`.
    pub fn new() -> Self {
        Self {
            field: HeaderName::from_static("x-request-id"),
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
    // A destructor of another local may log when this one is gone.
    CURRENT.try_with(|id| id.borrow().clone()).ok().flatten()
}

impl Middleware for RequestId {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let theirs = request
            .header_str(self.field.as_str())
            .filter(|id| self.trusts && is_acceptable(id));
        let id: Arc<str> = theirs.map_or_else(|| fresh().into(), Into::into);
        let _current = Current(CURRENT.replace(Some(id.clone())));
        let mut response = next.run(request);
        let value = HeaderValue::from_str(&id).expect("an id is visible ASCII");
        response.headers_mut().insert(self.field.clone(), value);
        response
    }
}

/// Puts the former id back, since a coroutine answers one request after the other.
struct Current(Option<Arc<str>>);

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn is_acceptable(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MOST).contains(&id.len()) && id.bytes().all(is_plain)
}

fn fresh() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}{count:016x}", *PROCESS)
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
