//! What is around handlers.

use std::{
    io::Read,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use maniple_server::{
    Body, IntoResponse, Request, Response, Route, Router, StatusCode,
    middleware::{Middleware, Next},
};

use super::{ask, served, status, text};

/// Puts its name around the answer's text.
fn named(name: &'static str) -> impl Middleware {
    move |request: &mut Request, next: Next<'_>| {
        let inner = next.run(request).into_text().unwrap();
        format!("{name}({inner})")
    }
}

fn hello(_: &mut Request) -> &'static str {
    "hello"
}

#[test]
fn the_first_that_was_added_is_the_outermost_and_a_routes_own_is_innermost() {
    let child = Router::new()
        .with(named("c"))
        .at(
            "/x",
            Route::new().get(hello).with(named("e")).with(named("f")),
        )
        .with(named("d"));
    let router = Router::new()
        .with(named("a"))
        .get("/plain", hello)
        .nest("/child", child)
        .with(named("b"));
    assert_eq!(text(&router, "GET", "/plain"), "a(b(hello))");
    assert_eq!(text(&router, "GET", "/child/x"), "a(b(c(d(e(f(hello))))))");
}

#[test]
fn what_was_merged_keeps_its_own_and_gives_nobody_any() {
    let other = Router::new().with(named("o")).get("/other", hello);
    let router = Router::new().with(named("r")).get("/", hello).merge(other);
    assert_eq!(text(&router, "GET", "/other"), "r(o(hello))");
    assert_eq!(text(&router, "GET", "/"), "r(hello)");
}

#[test]
fn answers_without_a_handler_have_it_around_them_too() {
    let child = Router::new().with(named("c")).get("/x", hello);
    let router = Router::new()
        .with(named("r"))
        .get("/", hello)
        .nest("/child", child);
    assert_eq!(text(&router, "GET", "/nowhere"), "r(not found\n)");
    assert_eq!(text(&router, "PUT", "/"), "r(method not allowed\n)");
    assert_eq!(text(&router, "OPTIONS", "/"), "r()");
    assert_eq!(text(&router, "GET", "/child/nowhere"), "r(c(not found\n))");
    assert_eq!(
        text(&router, "PUT", "/child/x"),
        "r(c(method not allowed\n))"
    );
}

#[test]
fn two_methods_of_a_path_may_have_different_ones() {
    let router = Router::new()
        .get("/x", hello)
        .at("/x", Route::new().post(hello).with(named("p")));
    assert_eq!(text(&router, "GET", "/x"), "hello");
    assert_eq!(text(&router, "HEAD", "/x"), "hello");
    assert_eq!(text(&router, "POST", "/x"), "p(hello)");
    let answer = ask(&router, "PUT", "/x");
    assert_eq!(answer.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
}

#[test]
fn one_may_answer_by_itself() {
    let never = |_: &mut Request| -> &'static str { panic!("the chain ended before") };
    let closed = |_: &mut Request, _: Next<'_>| (StatusCode::SERVICE_UNAVAILABLE, "closed");
    let router = Router::new().with(closed).get("/", never);
    assert_eq!(status(&router, "GET", "/"), 503);
    assert_eq!(text(&router, "GET", "/nowhere"), "closed");
}

#[test]
fn one_may_have_settings_and_change_the_answer() {
    struct Field(&'static str, String);
    impl Middleware for Field {
        fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
            next.run(request).with_header(self.0, &self.1)
        }
    }
    let router = Router::new()
        .with(Field("x-of", "us".to_owned()))
        .get("/", hello);
    assert_eq!(ask(&router, "GET", "/").header("x-of"), Some("us"));
}

#[test]
fn the_routes_template_is_known_before_and_after() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let note = move |request: &mut Request, next: Next<'_>| {
        let before = request.route();
        let response = next.run(request);
        notes.lock().unwrap().push((before, request.route()));
        response
    };
    let child = Router::new().get("/{id}", hello).get("/", hello);
    let router = Router::new()
        .with(note)
        .get("/", hello)
        .nest("/users", child);
    for (method, path, expected) in [
        ("GET", "/", Some("/")),
        ("GET", "/users", Some("/users")),
        ("GET", "/users/7", Some("/users/{id}")),
        ("PUT", "/users/7", Some("/users/{id}")),
        ("GET", "/nowhere", None),
    ] {
        ask(&router, method, path);
        let (before, after) = seen.lock().unwrap().pop().unwrap();
        assert_eq!((before, after), (expected, expected), "{method} {path}");
    }
}

#[derive(Clone)]
struct User(&'static str);

fn identify(request: &mut Request, next: Next<'_>) -> Response {
    assert!(
        request.extensions().get::<User>().is_none(),
        "of another request"
    );
    request.extensions_mut().insert(User("Ann"));
    next.run(request)
}

#[test]
fn values_are_handed_on_with_a_request() {
    let router = Router::new()
        .with(identify)
        .get("/", |request: &mut Request| {
            request.extensions().get::<User>().map(|user| user.0)
        });
    assert_eq!(text(&router, "GET", "/"), "Ann");
    let mut given = Request::for_test("GET", "/");
    given.extensions_mut().insert(7_u8);
    let mut given = given.with_header("x", "y");
    assert_eq!(given.extensions_mut().remove::<u8>(), Some(7));
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn last(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

#[test]
fn what_a_request_was_given_the_next_one_does_not_see() {
    let router = Router::new().with(identify).get("/", hello);
    let answers = served(router, &(get("/") + &get("/") + &last("/")));
    assert_eq!(answers.matches("200 OK").count(), 3, "{answers}");
}

#[test]
fn a_panic_in_one_is_answered_with_500_and_the_server_goes_on() {
    let careless = |request: &mut Request, next: Next<'_>| {
        assert!(request.path() != "/panic", "intended");
        next.run(request)
    };
    let router = Router::new()
        .with(careless)
        .get("/panic", hello)
        .get("/", hello);
    let answers = served(router, &(get("/") + &get("/panic")));
    assert!(answers.contains("200 OK"), "{answers}");
    assert!(answers.contains("500 Internal"), "{answers}");
}

/// Says how many of it are, and does what a destructor should not.
#[derive(Clone)]
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        maniple::yield_now();
        panic!("intended, in a destructor");
    }
}

#[test]
fn what_a_request_was_given_lives_until_its_body_was_sent_and_may_wait_and_panic_then() {
    let alive = Arc::new(AtomicUsize::new(0));
    let (counted, seen) = (Arc::clone(&alive), Arc::clone(&alive));
    let guard = move |request: &mut Request, next: Next<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
        request.extensions_mut().insert(Guard(Arc::clone(&counted)));
        next.run(request)
    };
    let router = Router::new().with(guard).get("/", move |_: &mut Request| {
        let seen = Arc::clone(&seen);
        let mut told = false;
        struct Telling<F>(F);
        impl<F: FnMut(&mut [u8]) -> usize> Read for Telling<F> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                Ok((self.0)(buffer))
            }
        }
        Response::text(Body::from_reader(Telling(move |buffer: &mut [u8]| {
            if std::mem::replace(&mut told, true) {
                return 0;
            }
            let text = format!("alive: {}\n", seen.load(Ordering::SeqCst));
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            text.len()
        })))
    });
    let answers = served(router, &(get("/") + &get("/") + &last("/")));
    assert_eq!(answers.matches("alive: 1\n").count(), 3, "{answers}");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn any_answer_of_one_becomes_a_response() {
    let picky = |request: &mut Request, next: Next<'_>| match request.header("x-key") {
        Some(_) => Ok(next.run(request)),
        None => Err((StatusCode::FORBIDDEN, "no key")),
    };
    let router = Router::new()
        .with(picky)
        .get("/", |_: &mut Request| "hello".into_response());
    assert_eq!(status(&router, "GET", "/"), 403);
    let mut request = Request::for_test("GET", "/").with_header("x-key", "1");
    assert_eq!(router.answer(&mut request).into_text().unwrap(), "hello");
}
