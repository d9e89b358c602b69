//! Which handler answers.

use maniple_server::{
    BodyError, Request, Route, Router, Server, TrailingSlash,
    extract::{Path, State},
    middleware::Next,
};

use super::{ask, served, status, text};

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

fn of_host(router: &Router, host: &str, target: &str) -> String {
    let mut request = Request::for_test("GET", target).with_header("host", host);
    let answer = router.answer(&mut request);
    let status = answer.status().as_u16();
    format!("{status} {}", answer.into_text().unwrap().trim_end())
}

#[test]
fn a_host_has_its_own_routes_and_no_others() {
    let say = |what: &'static str| move |_: &mut Request| what;
    let router = Router::new()
        .get("/", say("any"))
        .get("/any", say("any"))
        .host(
            "a.example",
            Router::new()
                .get("/", say("a"))
                .fallback(say("a's fallback")),
        )
        .host("*.example", Router::new().get("/", say("ending")))
        .host("[::1]", Router::new().get("/", say("address")))
        .fallback(say("fallback"));
    for (host, target, expected) in [
        ("a.example", "/", "200 a"),
        ("A.EXAMPLE:8080", "/", "200 a"),
        ("a.example", "/any", "200 a's fallback"),
        ("b.example", "/", "200 ending"),
        ("b.example", "/any", "404 not found"),
        ("[::1]:80", "/", "200 address"),
        ("other", "/", "200 any"),
        ("other", "/any", "200 any"),
        ("other", "/x", "200 fallback"),
        ("", "/", "200 any"),
    ] {
        assert_eq!(of_host(&router, host, target), expected, "{host} {target}");
    }
    assert_eq!(of_host(&router, "a.example", "/?to=http://other/"), "200 a");
    let options = |host: &str| {
        let mut request = Request::for_test("OPTIONS", "*").with_header("host", host);
        router.answer(&mut request).status().as_u16()
    };
    assert_eq!((options("a.example"), options("other")), (204, 204));
    // What a target in absolute form names counts for more than an empty `Host`, or none.
    let told = served(
        router,
        "GET http://a.example:80/?x=http://b HTTP/1.1\r\nHost:\r\n\r\n\
         GET http://A.example HTTP/1.1\r\nHost: a.example\r\n\r\n\
         GET http://b.example/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
         GET / HTTP/1.0\r\n\r\n",
    );
    let bodies = told.split("HTTP/1.1 200 OK").skip(1);
    let bodies: Vec<_> = bodies
        .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
        .collect();
    assert_eq!(bodies, ["a", "a", "ending", "any"], "{told}");
}

#[test]
fn what_a_router_has_is_around_its_hosts_and_what_they_have_inside_of_that() {
    let named = |name: &'static str| {
        move |request: &mut Request, next: Next<'_>| {
            let route = request.route().unwrap_or("none").to_owned();
            let inner = next.run(request).into_text().unwrap();
            format!("{name}:{route}({})", inner.trim_end())
        }
    };
    let api = Router::new().with(named("api")).state(7_u8).get(
        "/x/{id}",
        |State(seven): State<u8>, State(word): State<&'static str>| format!("{seven} {word}"),
    );
    let hosts = Router::new().with(named("merged")).host("api", api);
    let router = Router::new()
        .with(named("first"))
        .state("of all")
        .merge(hosts)
        .with(named("second"));
    let routed = "first:/x/{id}(second:/x/{id}(merged:/x/{id}(api:/x/{id}(7 of all))))";
    assert_eq!(of_host(&router, "api", "/x/1"), format!("200 {routed}"));
    let lost = "first:none(second:none(merged:none(api:none(not found))))";
    assert_eq!(of_host(&router, "api", "/y"), format!("200 {lost}"));
    assert_eq!(
        of_host(&router, "other", "/x/1"),
        "200 first:none(second:none(not found))"
    );
}

#[test]
fn hosts_that_conflict_are_named_with_their_places() {
    let error = |error: Result<(), maniple_server::RouteError>| error.unwrap_err().to_string();
    let mut router = Router::new().host("a.example", Router::new());
    let twice = error(router.try_host("A.example.", Router::new()));
    let begins = "host A.example.: it has routes already, as a.example, of server/http/tests/handlers/routing.rs:";
    assert!(twice.starts_with(begins), "{twice}");
    let merged = Router::new().host("A.EXAMPLE", Router::new());
    let merged = error(router.try_merge(merged));
    assert!(
        merged.starts_with("host A.EXAMPLE: it has routes already, as a.example"),
        "{merged}"
    );
    let within = Router::new().host("b", Router::new());
    let within = error(router.try_host("c", within));
    assert_eq!(
        within,
        "host c: its router has routes for hosts itself: add these beside it"
    );
    let nested = error(router.try_nest("/x", Router::new().host("b", Router::new())));
    assert_eq!(
        nested,
        "nest /x: its router has routes for hosts, which no prefix can have"
    );
    let port = error(router.try_host("a:80", Router::new()));
    assert_eq!(
        port,
        "host a:80: write it without a port: any port is taken"
    );
    // What was refused leaves nothing behind.
    let mut none = Router::new();
    assert!(none.try_host("a:80", Router::new().connect(echo)).is_err());
    let within = Router::new().connect(echo).try_host("c", none);
    assert_eq!(within, Ok(()));
    // The same path of two hosts, and of one and any, is no conflict.
    let two = Router::new()
        .get("/{id}", echo)
        .host("a", Router::new().get("/{name}", echo))
        .host("b", Router::new().get("/{*rest}", echo));
    assert_eq!(of_host(&two, "b", "/x"), "200 GET /{*rest}");
}

#[test]
fn a_handler_of_a_host_that_lacks_a_state_is_named() {
    let router = Router::new().host("a", Router::new().get("/x", |_: State<u8>| ""));
    let (listener, _) = maniple_server::transport::memory::listener();
    let error = Server::builder(router)
        .listener(listener)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "route GET a/x needs a State<u8>: call Router::state");
}

#[test]
fn a_slash_at_the_end_is_what_the_policy_makes_of_it() {
    let routes = |policy: Option<TrailingSlash>| {
        let routes = Router::new()
            .get("/a", echo)
            .get("/b/", echo)
            .get("/both", |_: &mut Request| "without")
            .get("/both/", |_: &mut Request| "with")
            .get("/of/{id}", |request: &mut Request| {
                request.param("id").unwrap().to_owned()
            })
            .get("/in/{id}/", |request: &mut Request| {
                request.param("id").unwrap().to_owned()
            })
            .nest("/nested", Router::new().get("/", echo));
        match policy {
            Some(policy) => routes.trailing_slash(policy),
            None => routes,
        }
    };
    let said = |router: &Router, method: &str, target: &str| {
        let answer = router.answer(&mut Request::for_test(method, target));
        let (status, to) = (
            answer.status(),
            answer.header("location").map(str::to_owned),
        );
        match to {
            Some(to) => format!("{} {to}", status.as_u16()),
            None => format!(
                "{} {}",
                status.as_u16(),
                answer.into_text().unwrap().trim_end()
            ),
        }
    };
    let strict = [routes(None), routes(Some(TrailingSlash::Strict))];
    let (redirects, ignores) = (TrailingSlash::Redirect, TrailingSlash::Ignore);
    let (redirects, ignores) = (routes(Some(redirects)), routes(Some(ignores)));
    for (target, redirected, ignored) in [
        ("/a/", "308 /a", "200 GET /a"),
        ("/a/?x=1&y=%20", "308 /a?x=1&y=%20", "200 GET /a"),
        ("/b", "308 /b/", "200 GET /b/"),
        ("/b?x", "308 /b/?x", "200 GET /b/"),
        ("/of/a%20b/", "308 /of/a%20b", "200 a b"),
        ("/in/7", "308 /in/7/", "200 7"),
        ("/nested/", "308 /nested", "200 GET /nested"),
    ] {
        for strict in &strict {
            assert_eq!(said(strict, "GET", target), "404 not found", "{target}");
        }
        assert_eq!(said(&redirects, "GET", target), redirected);
        assert_eq!(said(&ignores, "GET", target), ignored);
    }
    for router in [&redirects, &ignores] {
        assert_eq!(said(router, "GET", "/both"), "200 without");
        assert_eq!(said(router, "GET", "/both/"), "200 with");
        assert_eq!(said(router, "POST", "/a/"), "405 method not allowed");
        assert_eq!(said(router, "OPTIONS", "/a/"), "204 ");
        for nowhere in ["/", "/a//", "//a/", "/nowhere/"] {
            assert_eq!(said(router, "GET", nowhere), "404 not found", "{nowhere}");
        }
    }
    assert_eq!(said(&redirects, "HEAD", "/a/"), "308 /a");
    // No host can be smuggled in.
    let any = Router::new()
        .get("/{*rest}", echo)
        .trailing_slash(TrailingSlash::Redirect);
    let host = Router::new()
        .get("/{a}/{b}", echo)
        .trailing_slash(TrailingSlash::Redirect);
    assert!(said(&any, "GET", "//evil.example/").starts_with("200"));
    assert_eq!(said(&host, "GET", "//evil.example/"), "404 not found");
}

#[test]
fn a_policy_further_in_counts_and_a_route_goes_before_fallbacks() {
    let inner = || Router::new().get("/x", echo);
    let router = Router::new()
        .nest("/strict", inner().trailing_slash(TrailingSlash::Strict))
        .nest("/ignore", inner().trailing_slash(TrailingSlash::Ignore))
        .nest("/outer", inner().fallback(|_: &mut Request| "fallback"))
        .host("a", inner())
        .trailing_slash(TrailingSlash::Redirect);
    assert_eq!(status(&router, "GET", "/strict/x/"), 404);
    assert_eq!(status(&router, "GET", "/ignore/x/"), 200);
    assert_eq!(status(&router, "GET", "/outer/x/"), 308);
    assert_eq!(text(&router, "GET", "/outer/y/"), "fallback");
    let mut request = Request::for_test("GET", "/x/").with_header("host", "a");
    assert_eq!(router.answer(&mut request).header("location"), Some("/x"));
    // The body limit of the route that answers is known beforehand.
    let up = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
    let router = Router::new()
        .trailing_slash(TrailingSlash::Ignore)
        .at("/up", Route::new().max_body_bytes(5_000_000).post(up));
    let body = "x".repeat(3_000_000);
    let told = served(
        router,
        &format!(
            "POST /up/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n{body}"
        ),
    );
    assert!(told.ends_with("\r\n\r\n3000000"), "{told}");
}

#[test]
fn a_hosts_parameter_comes_before_those_of_the_path_and_is_none_of_theirs() {
    let path = |Path((tenant, id)): Path<(String, u32)>| format!("{tenant} {id}");
    let router = Router::new()
        .host("{tenant}.a.example", Router::new().get("/{id}", path))
        .get("/{id}", |request: &mut Request| {
            format!("{:?}", request.param("tenant"))
        });
    let get = |host: &str| {
        let mut request = Request::for_test("GET", "/7").with_header("host", host);
        router.answer(&mut request).into_text().unwrap()
    };
    assert_eq!(get("Ann.a.example:80"), "ann 7");
    assert_eq!(get("x.ann.a.example"), "None");
    assert_eq!(get("a.example"), "None");
    for path in ["/x/{id}", "/x/{*id}"] {
        let routes = Router::new().get(path, |_: &mut Request| "");
        let error = Router::new().try_host("{id}.b.example", routes);
        let error = error.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("its route {path} has a {{id}}, too")),
            "{text}"
        );
    }
}
