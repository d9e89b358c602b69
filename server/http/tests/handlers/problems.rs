//! How clients are told what is wrong.

use maniple_server::{BodyError, Problem, Request, Response, Router, StatusCode, middleware::Next};

use super::{ask, served, status, text};

fn form(problem: &Problem, request: Option<&Request>) -> String {
    let path = request.map_or("?", Request::path);
    format!(
        "<{} {} {path}>",
        problem.status().as_u16(),
        problem.detail()
    )
}

fn router() -> Router {
    Router::new()
        .on_error(form)
        .get("/", |_: &mut Request| "hello")
        .get("/gone", |_: &mut Request| StatusCode::GONE)
        .get("/none", |_: &mut Request| None::<String>)
        .get("/own", |_: &mut Request| (StatusCode::CONFLICT, "own text"))
        .get("/taken", |_: &mut Request| {
            Problem::new(StatusCode::CONFLICT, "taken").with_field("name")
        })
        .get("/panic", |_: &mut Request| -> &'static str {
            panic!("intended")
        })
        .post("/", |request: &mut Request| -> Result<Vec<u8>, BodyError> {
            Ok(request.read_body()?.to_vec())
        })
}

#[test]
fn all_that_is_wrong_is_told_in_the_form_that_was_set() {
    let router = router();
    assert_eq!(text(&router, "GET", "/"), "hello");
    assert_eq!(text(&router, "GET", "/nowhere"), "<404 not found /nowhere>");
    assert_eq!(text(&router, "PUT", "/"), "<405 method not allowed />");
    assert_eq!(
        ask(&router, "PUT", "/").header("allow"),
        Some("GET, POST, HEAD, OPTIONS")
    );
    assert_eq!(
        ask(&router, "PUT", "/").header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(text(&router, "BREW", "/"), "<501 method not implemented />");
    assert_eq!(text(&router, "GET", "/gone"), "<410 gone /gone>");
    assert_eq!(text(&router, "GET", "/none"), "<404 not found /none>");
    assert_eq!(text(&router, "GET", "/taken"), "<409 taken /taken>");
    assert_eq!(status(&router, "GET", "/taken"), 409);
    let mut request = Request::for_test("POST", "/").with_header("content-length", "9");
    let answer = router.answer(&mut request).into_text().unwrap();
    assert_eq!(answer, "<400 connection closed within the request body />");
}

#[test]
fn an_answer_with_a_text_of_its_own_keeps_it() {
    assert_eq!(text(&router(), "GET", "/own"), "own text");
    assert_eq!(text(&router(), "OPTIONS", "/"), "");
}

#[test]
fn what_a_server_answers_in_a_handlers_place_has_that_form_too() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = served(router(), &get("/panic"));
    assert!(answer.contains("HTTP/1.1 500"), "{answer}");
    assert!(
        answer.ends_with("<500 internal server error /panic>"),
        "{answer}"
    );
    let answer = served(router(), "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n");
    assert!(answer.contains("HTTP/1.1 400"), "{answer}");
    assert!(answer.ends_with(" ?>"), "{answer}");
}

#[test]
fn a_form_that_panics_is_answered_with_a_line_of_text() {
    let careless = |_: &Problem, _: Option<&Request>| -> String { panic!("intended") };
    let router = || Router::new().on_error(careless);
    let answer = served(router(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.contains("HTTP/1.1 500"), "{answer}");
    assert!(answer.ends_with("internal server error\n"), "{answer}");
    let answer = served(router(), "GET\r\n\r\n");
    assert!(answer.contains("HTTP/1.1 400"), "{answer}");
}

#[test]
fn a_middleware_sees_the_form_and_its_own_problems_get_it() {
    let marked = |request: &mut Request, next: Next<'_>| {
        let inner = next.run(request);
        let length = inner.into_text().unwrap().len();
        Problem::new(StatusCode::BAD_GATEWAY, format!("{length}")).with_field("x")
    };
    let router = router().with(marked);
    let inner = "<404 not found /nowhere>".len();
    assert_eq!(
        text(&router, "GET", "/nowhere"),
        format!("<502 {inner} /nowhere>")
    );
}

#[test]
fn a_nested_routers_form_is_for_what_is_below_it() {
    let api = Router::new()
        .on_error(|problem: &Problem, _: Option<&Request>| problem.to_json())
        .get("/", |_: &mut Request| StatusCode::GONE);
    let router = router().nest("/api", api);
    let json = |path: &str| -> Response { ask(&router, "GET", path) };
    for (path, status) in [("/api", 410), ("/api/nowhere", 404)] {
        let answer = json(path);
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    assert_eq!(text(&router, "GET", "/gone"), "<410 gone /gone>");
}

#[test]
fn without_a_form_it_is_a_line_of_text() {
    let problem = || Problem::new(StatusCode::CONFLICT, "taken").with_field("name");
    let router = Router::new().get("/", move |_: &mut Request| problem());
    assert_eq!(text(&router, "GET", "/"), "name: taken\n");
    assert_eq!(text(&router, "GET", "/nowhere"), "not found\n");
}

#[test]
fn a_problem_has_the_members_of_rfc_9457() {
    let problem = Problem::new(StatusCode::FORBIDDEN, "no credit")
        .with_type("https://example.org/out-of-credit")
        .with_field("items[2].price");
    let json: serde_json::Value =
        serde_json::from_slice(&problem.to_json().into_bytes().unwrap()).unwrap();
    let expected = serde_json::json!({
        "type": "https://example.org/out-of-credit", "title": "Forbidden", "status": 403,
        "detail": "no credit", "field": "items[2].price",
    });
    assert_eq!(json, expected);
}
