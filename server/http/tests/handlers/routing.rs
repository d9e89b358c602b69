//! Which handler answers.

use maniple_server::{BodyError, Request, Route, Router};

use super::{ask, status, text};

fn echo(request: &mut Request) -> String {
    format!("{} {}", request.method(), request.route().unwrap_or("-"))
}

#[test]
fn what_is_nested_is_found_below_its_prefix() {
    let inner = Router::new().get("/", echo).get("/{b}", echo);
    let middle = Router::new().get("/m", echo).nest("/in", inner);
    let router = Router::new().nest("/out/{a}", middle);
    assert_eq!(text(&router, "GET", "/out/1/m"), "GET /out/{a}/m");
    assert_eq!(text(&router, "GET", "/out/1/in"), "GET /out/{a}/in");
    assert_eq!(text(&router, "GET", "/out/1/in/2"), "GET /out/{a}/in/{b}");
    assert_eq!(status(&router, "GET", "/out/1/in/"), 404);
    assert_eq!(status(&router, "GET", "/m"), 404);
}

#[test]
fn the_deepest_subtree_with_a_fallback_answers() {
    let inner = Router::new().get("/x", echo);
    let middle = Router::new()
        .nest("/in", inner)
        .fallback(|_: &mut Request| "middle's");
    let router = Router::new()
        .nest("/out", middle)
        .fallback(|_: &mut Request| "ours");
    assert_eq!(text(&router, "GET", "/out/in/nowhere"), "middle's");
    assert_eq!(text(&router, "GET", "/out/nowhere"), "middle's");
    assert_eq!(text(&router, "GET", "/nowhere"), "ours");
    assert_eq!(text(&router, "GET", "/outer"), "ours");
}

#[test]
fn any_answers_what_no_other_handler_of_the_path_does() {
    let router = Router::new()
        .any("/x", |request: &mut Request| {
            format!("any {}", request.method())
        })
        .get("/x", echo);
    assert_eq!(text(&router, "GET", "/x"), "GET /x");
    assert_eq!(text(&router, "HEAD", "/x"), "HEAD /x");
    assert_eq!(text(&router, "POST", "/x"), "any POST");
    assert_eq!(text(&router, "BREW", "/x"), "any BREW");
    assert_eq!(text(&router, "OPTIONS", "/x"), "any OPTIONS");
}

#[test]
fn a_route_has_the_methods_that_it_was_given() {
    let route = Route::new()
        .get(echo)
        .put(echo)
        .patch(echo)
        .delete(echo)
        .post(echo);
    let router = Router::new().at("/x", route);
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST"] {
        assert_eq!(text(&router, method, "/x"), format!("{method} /x"));
    }
    assert_eq!(ask(&router, "TRACE", "/x").status(), 405);
}

#[test]
fn a_conflict_names_both_routes() {
    let mut router = Router::new().get("/users/{id}", echo).get("/a", echo);
    let error = |error: Result<(), maniple_server::RouteError>| error.unwrap_err().to_string();
    let conflict = error(router.try_nest("/users", Router::new().put("/{name}", echo)));
    assert!(
        conflict.starts_with("route PUT /users/{name}: "),
        "{conflict}"
    );
    assert!(conflict.contains("/users/{id}"), "{conflict}");
    let twice = error(router.try_merge(Router::new().get("/a", echo)));
    assert!(
        twice.contains("route GET /a: it has a handler already"),
        "{twice}"
    );
    assert!(twice.contains("routing.rs:"), "{twice}");
    let twice = error(router.try_at("/b", Route::new().any(echo).any(echo)));
    assert!(twice.contains("(any method) /b"), "{twice}");
}

#[test]
fn prefixes_are_looked_at() {
    for prefix in ["", "/", "api", "/api/", "/{*rest}"] {
        let mut router = Router::new();
        let error = router
            .try_nest(prefix, Router::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("a prefix begins with /"), "{error}");
    }
    let two = || Router::new().fallback(echo);
    let error = two().try_merge(two()).unwrap_err().to_string();
    assert!(error.ends_with("both have a fallback"), "{error}");
    let two = || Router::new().connect(echo);
    let error = two().try_nest("/x", two()).unwrap_err().to_string();
    assert!(
        error.ends_with("below \"/x\": both have a handler for CONNECT"),
        "{error}"
    );
}

#[test]
fn what_is_merged_brings_its_fallback_and_its_subtrees() {
    let other = Router::new()
        .nest("/in", Router::new().fallback(|_: &mut Request| "in"))
        .fallback(|_: &mut Request| "other's");
    let router = Router::new().get("/", echo).merge(other);
    assert_eq!(text(&router, "GET", "/in/x"), "in");
    assert_eq!(text(&router, "GET", "/x"), "other's");
}

#[test]
fn limits_further_in_count_wherever_a_router_is_taken_in() {
    fn read(request: &mut Request) -> Result<String, BodyError> {
        request.read_body().map(|body| body.len().to_string())
    }
    let own = || {
        Router::new()
            .max_body_bytes(10)
            .post("/", read)
            .fallback(read)
    };
    let none = || Router::new().post("/", read);
    let router = Router::new()
        .merge(own())
        .nest("/own", own())
        .nest("/none", none().fallback(read))
        .nest(
            "/deep",
            Router::new()
                .max_body_bytes(30)
                .nest("/none", none())
                .nest("/own", own()),
        )
        .at("/route", Route::new().max_body_bytes(40).post(read))
        .max_body_bytes(20);
    for (path, limit) in [
        ("/", 10),
        // The fallback came with its router.
        ("/nowhere", 10),
        ("/own", 10),
        ("/own/nowhere", 10),
        ("/none", 20),
        ("/none/nowhere", 20),
        ("/deep/none", 30),
        ("/deep/own", 10),
        ("/route", 40),
    ] {
        let post = |length: usize| {
            let mut request = Request::for_test("POST", path).with_body(vec![b'x'; length]);
            router.answer(&mut request).status().as_u16()
        };
        assert_eq!((post(limit), post(limit + 1)), (200, 413), "{path}");
    }
}
