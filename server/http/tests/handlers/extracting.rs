//! Arguments of handlers that are had from the request.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use maniple_server::{
    BodyError, Bytes, HeaderMap, IntoResponse, Json, Method, Problem, Request, Response, Route,
    Router, Server, StatusCode, Uri,
    extract::{Cookies, Extension, Form, FromHead, FromRequest, Path, PeerAddr, Query, State},
    middleware::Next,
    transport::memory,
};
use serde::{Deserialize, Serialize};

use super::{ask, status, text};

fn send(router: &Router, content_type: &str, body: &str) -> (u16, String) {
    let request = Request::for_test("POST", "/").with_body(body);
    let mut request = match content_type {
        "" => request,
        content_type => request.with_header("content-type", content_type),
    };
    let answer = router.answer(&mut request);
    (answer.status().as_u16(), answer.into_text().unwrap())
}

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    item: String,
    pieces: u32,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    price: u32,
}

#[test]
fn a_path_is_a_value_a_tuple_or_a_struct() {
    #[derive(Deserialize)]
    struct Named {
        b: Option<String>,
        a: i8,
    }
    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
    }
    let router = Router::new()
        .get("/one/{a}", |Path(a): Path<u8>| format!("{a}"))
        .get("/color/{a}", |Path(a): Path<Color>| format!("{a:?}"))
        .get("/two/{a}/{b}", |Path((a, b)): Path<(f32, String)>| {
            format!("{a} {b}")
        })
        .get("/named/{a}/{b}", |Path(of): Path<Named>| {
            format!("{} {:?}", of.a, of.b)
        })
        .get("/map/{a}/{b}", |Path(of): Path<HashMap<String, u8>>| {
            format!("{}", of["b"])
        })
        .get("/all/{a}/{b}", |Path(of): Path<Vec<u8>>| format!("{of:?}"))
        .get("/rest/{*rest}", |Path(rest): Path<String>| rest)
        .get("/none", |path: Option<Path<String>>| {
            format!("{}", path.is_none())
        });
    for (path, expected) in [
        ("/one/7", "7"),
        ("/one/-1", "a: invalid digit found in string\n"),
        ("/one/256", "a: number too large to fit in target type\n"),
        ("/color/red", "Red"),
        ("/color/blue", "a: unknown variant `blue`, expected `red`\n"),
        ("/two/1.5/a%2Fb", "1.5 a/b"),
        ("/two/x/b", "a: invalid float literal\n"),
        ("/named/-1/x", "-1 Some(\"x\")"),
        ("/named/x/x", "a: invalid digit found in string\n"),
        ("/map/1/2", "2"),
        ("/map/1/x", "b: invalid digit found in string\n"),
        ("/all/1/2", "[1, 2]"),
        ("/rest/a/b%20c", "a/b c"),
        ("/none", "true"),
    ] {
        assert_eq!(text(&router, "GET", path), expected, "{path}");
    }
    assert_eq!(status(&router, "GET", "/one/x"), 400);
}

#[test]
fn a_path_that_does_not_fit_its_route_is_the_programs_mistake() {
    let router = Router::new()
        .get("/a/{a}/{b}", |Path(_): Path<u8>| "one of two")
        .get("/b/{a}", |Path(_): Path<(u8, u8)>| "two of one")
        .get("/c", |Path(_): Path<u8>| "one of none");
    for path in ["/a/1/2", "/b/1", "/c"] {
        assert_eq!(status(&router, "GET", path), 500, "{path}");
    }
}

#[test]
fn a_query_says_which_parameter_is_wrong() {
    #[derive(Deserialize)]
    struct Paging {
        page: u32,
        #[serde(default)]
        tag: Vec<String>,
        sort: Option<String>,
    }
    let router = Router::new()
        .get("/", |Query(of): Query<Paging>| {
            format!("{} {:?} {:?}", of.page, of.tag, of.sort)
        })
        .get("/maybe", |query: Option<Query<Paging>>| {
            format!("{}", query.is_some())
        });
    for (path, expected) in [
        ("/?page=2", "2 [] None"),
        (
            "/?page=2&tag=a+b&tag=%26&sort=",
            "2 [\"a b\", \"&\"] Some(\"\")",
        ),
        ("/?page=x", "page: invalid digit found in string\n"),
        ("/?sort=a", "missing field `page`\n"),
        ("/", "missing field `page`\n"),
        ("/maybe", "false"),
        ("/maybe?page=1", "true"),
        ("/maybe?page=x", "page: invalid digit found in string\n"),
    ] {
        assert_eq!(text(&router, "GET", path), expected, "{path}");
    }
    assert_eq!(status(&router, "GET", "/?page=x"), 400);
}

#[test]
fn json_says_where_it_is_wrong() {
    let router = Router::new().post("/", |Json(order): Json<Order>| Json(order));
    let json = "application/json";
    let whole = r#"{"item":"nails","pieces":3,"lines":[{"price":1}]}"#;
    assert_eq!(send(&router, json, whole), (200, whole.to_owned()));
    for suffixed in [
        "Application/JSON; charset=utf-8",
        "application/vnd.orders+json",
    ] {
        assert_eq!(send(&router, suffixed, whole).0, 200, "{suffixed}");
    }
    let (status, text) = send(
        &router,
        json,
        r#"{"item":"a","pieces":1,"lines":[{"price":1},{"price":-1}]}"#,
    );
    assert_eq!(status, 422);
    assert!(
        text.starts_with("lines[1].price: invalid value: integer `-1`, expected u32"),
        "{text}"
    );
    let (status, text) = send(&router, json, r#"{"item":"a"}"#);
    assert_eq!(status, 422);
    assert!(text.starts_with("missing field `pieces`"), "{text}");
    for broken in ["", "{", r#"{"item":"a","pieces":1} x"#, "\u{1}"] {
        let (status, text) = send(&router, json, broken);
        assert_eq!(status, 400, "{broken:?}: {text}");
    }
    for other in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "json",
        "application/jsonp",
    ] {
        let (status, text) = send(&router, other, whole);
        assert_eq!(status, 415, "{other}");
        assert_eq!(
            text,
            "content-type: expected a body of type application/json\n"
        );
    }
}

#[test]
fn json_may_be_absent_and_not_wrong_with_option() {
    let router = Router::new().post("/", |order: Option<Json<Order>>| match order {
        Some(Json(order)) => order.item,
        None => "none".to_owned(),
    });
    assert_eq!(text(&router, "POST", "/"), "none");
    let whole = r#"{"item":"nails","pieces":3}"#;
    assert_eq!(
        send(&router, "application/json", whole),
        (200, "nails".to_owned())
    );
    assert_eq!(send(&router, "application/json", "{").0, 400);
    assert_eq!(send(&router, "", whole).0, 415);
}

#[test]
fn a_body_that_came_with_the_head_and_one_that_came_later_are_read_alike() {
    let whole = r#"{"item":"nails","pieces":3}"#;
    for cut in 0..whole.len() {
        let router = Router::new().post("/", |Json(order): Json<Order>| Json(order));
        let answers = crate::driven::run(move || {
            use std::io::{Read, Write};
            let (listener, connector) = memory::listener();
            let server = Server::builder(router).listener(listener).unwrap();
            let handle = server.handle();
            let serving = maniple::spawn(move || server.serve());
            let mut stream = connector.connect().unwrap();
            let head = |more: &str| {
                let length = whole.len();
                format!(
                    "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\n{more}\r\n"
                )
            };
            let first = head("") + whole + &head("Connection: close\r\n") + &whole[..cut];
            stream.write_all(first.as_bytes()).unwrap();
            maniple::yield_now();
            stream.write_all(&whole.as_bytes()[cut..]).unwrap();
            let mut answers = String::new();
            stream.read_to_string(&mut answers).unwrap();
            handle.drain();
            serving.join().unwrap().unwrap();
            answers
        });
        let bodies = answers
            .matches(r#"{"item":"nails","pieces":3,"lines":[]}"#)
            .count();
        assert_eq!(bodies, 2, "{cut}: {answers}");
    }
}

#[test]
fn a_form_is_a_body_or_a_query() {
    #[derive(Deserialize, Serialize)]
    struct Login {
        name: String,
        age: u8,
    }
    let router = Router::new()
        .post("/", |Form(login): Form<Login>| Form(login))
        .get("/", |Form(login): Form<Login>| login.name);
    let form = "application/x-www-form-urlencoded";
    assert_eq!(
        send(&router, form, "name=A+B%21&age=7"),
        (200, "name=A+B%21&age=7".to_owned())
    );
    assert_eq!(text(&router, "GET", "/?name=Ann&age=7"), "Ann");
    let wrong = (
        422,
        "age: number too large to fit in target type\n".to_owned(),
    );
    assert_eq!(send(&router, form, "name=A&age=700"), wrong);
    assert_eq!(send(&router, "text/plain", "name=A&age=7").0, 415);
    let answer =
        router.answer(&mut Request::for_test("POST", "/").with_header("content-type", form));
    assert_eq!(answer.status(), 422);
}

#[test]
fn bodies_are_had_as_they_are() {
    let router = Router::new()
        .post("/", |body: String| body)
        .put("/", |body: Bytes| format!("{}", body.len()))
        .patch("/", |body: Vec<u8>| body)
        .delete("/", |body: Option<String>| format!("{}", body.is_none()));
    assert_eq!(send(&router, "", "hello"), (200, "hello".to_owned()));
    let mut wrong = Request::for_test("POST", "/").with_body(b"\xff".to_vec());
    assert_eq!(router.answer(&mut wrong).status(), 400);
    let mut bytes = Request::for_test("PUT", "/").with_body(b"\xff\0".to_vec());
    assert_eq!(router.answer(&mut bytes).into_text().unwrap(), "2");
    assert_eq!(text(&router, "DELETE", "/"), "true");
    let mut cut = Request::for_test("PUT", "/").with_header("content-length", "5");
    assert_eq!(router.answer(&mut cut).status(), 400);
}

#[test]
fn the_request_itself_may_be_the_last_argument() {
    let router = Router::new().post(
        "/{id}",
        |Path(id): Path<u8>, method: Method, request: &mut Request| -> Result<String, BodyError> {
            let body = request.read_body()?;
            Ok(format!("{method} {id} {}", String::from_utf8_lossy(&body)))
        },
    );
    let mut request = Request::for_test("POST", "/7").with_body("x");
    assert_eq!(router.answer(&mut request).into_text().unwrap(), "POST 7 x");
}

#[test]
fn up_to_eight_arguments_are_had_in_their_order() {
    #[expect(clippy::too_many_arguments)]
    fn all(
        Path(id): Path<u8>,
        Query(query): Query<HashMap<String, String>>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        cookies: Cookies,
        peer: Option<PeerAddr>,
        body: String,
    ) -> String {
        let (q, host) = (&query["q"], headers["host"].to_str().unwrap());
        format!(
            "{id} {q} {method} {uri} {host} {:?} {} {body}",
            cookies.get("c"),
            peer.is_none()
        )
    }
    let router = Router::new().post("/{id}", all).get("/", || "none at all");
    let mut request = Request::for_test("POST", "/7?q=x")
        .with_header("cookie", "c=d")
        .with_body("b");
    let answer = router.answer(&mut request).into_text().unwrap();
    assert_eq!(answer, "7 x POST /7?q=x test Some(\"d\") true b");
    assert_eq!(text(&router, "GET", "/"), "none at all");
}

#[test]
fn states_are_found_by_type_and_the_innermost_is_taken() {
    let number =
        |State(number): State<u8>, State(name): State<&'static str>| format!("{number} {name}");
    let inner = Router::new().state(2_u8).get("/", number).fallback(number);
    let router = Router::new()
        .get("/before", number)
        .state(1_u8)
        .nest("/in", inner)
        .merge(Router::new().state(3_u8).get("/merged", number))
        .state("ours")
        .at("/after", Route::new().get(number))
        .with(|request: &mut Request, next: Next<'_>| {
            let number = request.state::<u8>().copied().unwrap_or(0);
            next.run(request)
                .with_header("x-number", &number.to_string())
        })
        .get("/plain", |request: &mut Request| {
            format!("{:?}", request.state::<u64>())
        });
    for (path, expected) in [
        ("/before", "1 ours"),
        ("/after", "1 ours"),
        ("/in", "2 ours"),
        ("/in/nowhere", "2 ours"),
        ("/merged", "3 ours"),
        ("/plain", "None"),
    ] {
        assert_eq!(text(&router, "GET", path), expected, "{path}");
        assert_eq!(
            ask(&router, "GET", path).header("x-number"),
            Some(&expected[..1])
                .filter(|_| path != "/plain")
                .or(Some("1"))
        );
    }
}

#[test]
fn a_server_does_not_start_without_its_states() {
    let start = |router: Router| {
        crate::driven::run(move || {
            Server::builder(router)
                .listener(memory::listener().0)
                .map(drop)
        })
    };
    let handler = |_: State<u8>, _: Option<State<u16>>| "hello";
    let inner = || Router::new().get("/x", handler);
    let error = start(Router::new().state(1_u16).nest("/in", inner())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "route GET /in/x needs a State<u8>: call Router::state"
    );
    let error = start(Router::new().state(1_u8).nest("/in", inner())).unwrap_err();
    assert!(error.to_string().contains("State<u16>"), "{error}");
    start(Router::new().state(1_u8).state(1_u16).nest("/in", inner())).unwrap();
    let error = start(Router::new().fallback(handler)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the fallback needs a State<u8>"),
        "{error}"
    );
}

#[test]
fn a_state_lives_as_long_as_its_router() {
    let state = Arc::new(());
    let router = Router::new()
        .state(Arc::clone(&state))
        .get("/", |_: State<Arc<()>>| "x");
    assert_eq!(text(&router, "GET", "/"), "x");
    drop(router);
    assert_eq!(Arc::strong_count(&state), 1);
}

#[test]
fn what_middleware_handed_on_is_an_argument() {
    let give = |request: &mut Request, next: Next<'_>| {
        request.extensions_mut().insert("given");
        next.run(request)
    };
    let handler = |Extension(text): Extension<&'static str>| text;
    let router = Router::new()
        .get("/forgotten", handler)
        .get("/maybe", |given: Option<Extension<&'static str>>| {
            format!("{}", given.is_some())
        })
        .at("/given", Route::new().get(handler).with(give));
    assert_eq!(text(&router, "GET", "/given"), "given");
    assert_eq!(status(&router, "GET", "/forgotten"), 500);
    assert_eq!(text(&router, "GET", "/maybe"), "false");
}

#[test]
fn cookies_of_several_fields_are_one_list_and_some_are_set() {
    let router = Router::new().get("/", |cookies: Cookies| {
        let all: Vec<_> = cookies
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        all.join(" ")
            .into_response()
            .with_cookie(("a", "1"))
            .with_cookie(("b", "2"))
    });
    let mut request = Request::for_test("GET", "/").with_header("cookie", "a=1; b=2");
    let mut answer = router.answer(&mut request);
    let set: Vec<_> = answer
        .headers_mut()
        .get_all("set-cookie")
        .iter()
        .cloned()
        .collect();
    assert_eq!(set, ["a=1", "b=2"]);
    assert_eq!(answer.into_text().unwrap(), "a:1 b:2");
}

#[test]
fn a_result_has_the_rejection() {
    let router = Router::new()
        .post("/", |order: Result<Json<Order>, Problem>| match order {
            Ok(Json(order)) => order.item,
            Err(problem) => format!("{} {:?}", problem.status(), problem.field()),
        })
        .get(
            "/{id}",
            |id: Result<Path<u8>, Problem>, order: Option<Query<Order>>| {
                format!(
                    "{:?} {}",
                    id.map(|Path(id)| id).map_err(|problem| problem.status()),
                    order.is_none()
                )
            },
        );
    assert_eq!(
        send(&router, "application/json", r#"{"item":1}"#).1,
        "422 Unprocessable Entity Some(\"item\")"
    );
    assert_eq!(text(&router, "GET", "/x"), "Err(400) true");
}

#[test]
fn users_have_extractors_of_their_own() {
    struct User(String);
    impl FromHead for User {
        type Rejection = StatusCode;

        fn from_head(request: &Request) -> Result<Self, StatusCode> {
            let name = request
                .header_str("x-user")
                .ok_or(StatusCode::UNAUTHORIZED)?;
            Ok(Self(name.to_owned()))
        }

        fn is_absent(request: &Request) -> bool {
            request.header("x-user").is_none()
        }
    }
    struct Lines(Vec<String>);
    impl FromRequest for Lines {
        type Rejection = Response;

        fn from_request(request: &mut Request) -> Result<Self, Response> {
            let text = String::from_request(request).map_err(IntoResponse::into_response)?;
            Ok(Self(text.lines().map(str::to_owned).collect()))
        }
    }
    let router = Router::new()
        .post("/", |user: User, lines: Lines| {
            format!("{} {}", user.0, lines.0.len())
        })
        .get("/", |user: Option<User>| {
            user.map_or("nobody".to_owned(), |user| user.0)
        });
    assert_eq!(send(&router, "", "a\nb").0, 401);
    let mut request = Request::for_test("POST", "/")
        .with_header("x-user", "Ann")
        .with_body("a\nb");
    assert_eq!(router.answer(&mut request).into_text().unwrap(), "Ann 2");
    assert_eq!(text(&router, "GET", "/"), "nobody");
}

#[test]
fn a_rejection_has_the_routers_form() {
    let router = Router::new()
        .on_error(|problem: &Problem, _: Option<&Request>| problem.to_json())
        .get("/{id}", |Path(id): Path<u8>| format!("{id}"));
    let answer = ask(&router, "GET", "/x");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let expected = r#"{"title":"Bad Request","status":400,"detail":"invalid digit found in string","field":"id"}"#;
    assert_eq!(answer.into_text().unwrap(), expected);
}

#[test]
fn a_client_over_tcp_has_an_address() {
    let address: SocketAddr = crate::driven::run(|| {
        let router = Router::new().get("/", |PeerAddr(peer): PeerAddr| peer.to_string());
        let server = Server::builder(router).bind("127.0.0.1:0").unwrap();
        let (url, handle) = (format!("http://{}/", server.local_addr()), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let text = maniple_server::Client::new()
            .get(&url)
            .unwrap()
            .text()
            .unwrap();
        handle.drain();
        serving.join().unwrap().unwrap();
        text.parse().unwrap()
    });
    assert!(address.ip().is_loopback());
}
