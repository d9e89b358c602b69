//! Redirects: as a handler answers them, and as the client follows them, over real connections.

use std::{
    io::{Read, Write},
    process::Command,
    time::Duration,
};

use maniple::net::TcpListener;
use maniple_server::{
    Body, Client, ClientError, ClientResponse, IntoResponse, Method, Request, Response, Router,
    StatusCode,
};

use super::Served;

/// What the request looks like where it arrives.
fn seen(request: &mut Request) -> String {
    let names = [
        "authorization",
        "cookie",
        "x-api-key",
        "content-type",
        "accept",
    ];
    let fields = names.map(|name| request.header_str(name).unwrap_or("-").to_owned());
    let method = request.method().clone();
    let body = request.read_body().unwrap().len();
    format!("{method} {body} {}", fields.join(" "))
}

fn routes() -> Router {
    Router::new()
        .any("/seen", seen)
        .any("/see-other", |_: &mut Request| Response::see_other("/seen"))
        .any("/temporary", |_: &mut Request| {
            Response::temporary_redirect("seen")
        })
        .any("/permanent", |_: &mut Request| {
            // With a body that nobody wants.
            Response::permanent_redirect("/./x/../seen").with_body(vec![b'x'; 4_000])
        })
        .any("/to/{status}/{*place}", |request: &mut Request| {
            let status = request.param("status").unwrap().parse::<u16>().unwrap();
            let place = request.param("place").unwrap().to_owned();
            Response::new(StatusCode::from_u16(status).unwrap()).with_header("location", &place)
        })
        .any("/round", |_: &mut Request| {
            Response::temporary_redirect("/round")
        })
}

fn client() -> Client {
    Client::builder().max_redirects(5).build()
}

fn secrets<'c>(
    client: &'c Client,
    method: Method,
    url: &str,
) -> maniple_server::client::Request<'c> {
    client
        .request(method, url)
        .header("authorization", "a")
        .header("cookie", "b=c")
        .header("x-api-key", "d")
        .header("content-type", "text/e")
        .header("accept", "f/g")
}

#[test]
fn redirects_are_followed_over_one_connection_and_the_end_is_told() {
    let served = Served::of(routes(), |builder| builder);
    let client = client();
    for path in ["/see-other", "/temporary", "/permanent"] {
        let answer = client.get(&served.url(path)).unwrap();
        assert_eq!(
            answer.redirected_to(),
            Some(&*served.url("/seen")),
            "{path}"
        );
        assert_eq!(answer.text().unwrap(), "GET 0 - - - - -");
    }
    let straight = client.get(&served.url("/seen")).unwrap();
    assert_eq!(straight.redirected_to(), None);
    drop(straight);
    assert_eq!(served.handle.connections(), 1);
}

#[test]
fn bodies_go_along_where_the_status_keeps_them() {
    let served = Served::of(routes(), |builder| builder);
    let client = client();
    let fields = "a b=c d text/e f/g";
    for (status, method, arrives) in [
        (301, Method::PUT, format!("PUT 5 {fields}")),
        (302, Method::POST, "GET 0 a b=c d - f/g".to_owned()),
        (303, Method::PUT, "GET 0 a b=c d - f/g".to_owned()),
        (307, Method::POST, format!("POST 5 {fields}")),
        (308, Method::DELETE, format!("DELETE 5 {fields}")),
    ] {
        let url = served.url(&format!("/to/{status}//seen"));
        let request = secrets(&client, method, &url).body("hello");
        assert_eq!(request.send().unwrap().text().unwrap(), arrives, "{status}");
    }
}

#[test]
fn another_port_is_another_origin_and_is_told_no_secrets() {
    let (near, far) = (
        Served::of(routes(), |builder| builder),
        Served::of(routes(), |builder| builder),
    );
    let client = client();
    for (status, arrives) in [(307, "POST 5 - - - text/e f/g"), (303, "GET 0 - - - - f/g")] {
        let url = near.url(&format!("/to/{status}/{}", far.url("/seen")));
        let answer = secrets(&client, Method::POST, &url).body("hello").send();
        assert_eq!(answer.unwrap().text().unwrap(), arrives);
    }
    // And no way back to them.
    let back = far.url(&format!("/to/307/{}", near.url("/seen")));
    let url = near.url(&format!("/to/307/{back}"));
    let answer = secrets(&client, Method::GET, &url).send().unwrap();
    assert_eq!(answer.redirected_to(), Some(&*near.url("/seen")));
    assert_eq!(answer.text().unwrap(), "GET 0 - - - text/e f/g");
}

#[test]
fn a_body_that_was_made_while_it_was_sent_is_not_made_again() {
    let served = Served::of(routes(), |builder| builder);
    let client = client();
    let body = || Body::from_reader("hello".as_bytes());
    let kept = client.post(&served.url("/temporary")).body(body()).send();
    assert_eq!(kept.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
    let left = client.post(&served.url("/see-other")).body(body()).send();
    assert_eq!(left.unwrap().text().unwrap(), "GET 0 - - - - -");
}

/// Its body is nobody's, so that nobody need wait for it.
#[test]
fn a_redirect_whose_body_never_comes_is_followed_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = crate::driven::thread::spawn(move || {
        let answers = [
            "HTTP/1.1 307 T\r\nlocation: /there\r\ncontent-length: 9\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthere",
        ];
        // Both connections stay open.
        answers.map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            stream
        })
    });
    let asked = maniple::timeout(Duration::from_secs(60), || client().get(&url)?.text());
    assert_eq!(asked.expect("it waits for no body").unwrap(), "there");
    drop(serving.join().unwrap());
}

#[test]
fn what_is_not_followed_says_why() {
    let served = Served::of(routes(), |builder| builder);
    let error = client().get(&served.url("/round")).unwrap_err();
    assert!(matches!(error, ClientError::Redirect { .. }), "{error:?}");
    assert!(error.to_string().contains("more than 5"), "{error}");
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
    let error = client()
        .get(&served.url("/to/302/ftp:%2F%2Fa"))
        .unwrap_err();
    assert!(error.to_string().contains("ftp://a"), "{error}");
    let default = Client::new().get(&served.url("/round")).unwrap();
    assert_eq!(default.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[test]
fn curl_and_python_follow_what_handlers_answer() {
    let served = Served::of(routes(), |builder| builder);
    let curl = |arguments: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        let curl = curl.args(["--silent", "--location", "--noproxy", "*"]);
        let output = curl.args(arguments).arg(served.url(path)).output();
        String::from_utf8(output.expect("curl is installed").stdout).unwrap()
    };
    assert_eq!(curl(&[], "/permanent"), "GET 0 - - - - */*");
    let form = "application/x-www-form-urlencoded";
    let posted = curl(&["--data", "hello"], "/temporary");
    assert_eq!(posted, format!("POST 5 - - - {form} */*"));
    assert_eq!(curl(&["--data", "hello"], "/see-other")[..6], *"GET 0 ");
    let script = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], data=b'hello').read().decode())";
    let mut python = Command::new("python3");
    let python = python.env("no_proxy", "*").args(["-c", script]);
    let output = python.arg(served.url("/see-other")).output();
    let output = String::from_utf8(output.expect("python3 is installed").stdout).unwrap();
    assert!(output.starts_with("GET 0 "), "{output}");
}

/// A handler that hands a client's text on cannot be made to write another field.
#[test]
fn a_place_of_any_text_stays_one_field() {
    let routes = Router::new().get("/", |request: &mut Request| {
        let place = request.query().unwrap_or_default().to_owned();
        let place = place.replace('+', "\r\nset-cookie: a=b");
        Response::see_other(&place).into_response()
    });
    let served = Served::of(routes, |builder| builder);
    let answer = served.say("GET /?/a+ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(!answer.to_lowercase().contains("\nset-cookie"), "{answer}");
    assert!(answer.contains("/a%0D%0Aset-cookie:%20a=b\r\n"), "{answer}");
}

#[test]
fn cookies_come_back_to_who_set_them_and_follow_no_redirect_elsewhere() {
    let told = |request: &mut Request| request.header_str("cookie").unwrap_or("none").to_owned();
    let elsewhere = Served::of(Router::new().get("/", told), |builder| builder);
    let (away, back) = (elsewhere.url("/"), "/told");
    let routes = Router::new()
        .get("/told", told)
        .post("/login", move |_: &mut Request| {
            let answer = Response::new(StatusCode::SEE_OTHER).with_header("location", back);
            answer.with_header("set-cookie", "session=1; Path=/; HttpOnly")
        })
        .get("/away", move |_: &mut Request| {
            let answer = Response::new(StatusCode::FOUND).with_header("location", &away);
            answer.with_header("set-cookie", "seen=2; Path=/")
        });
    let served = Served::of(routes, |builder| builder);
    let client = Client::builder().cookies(true).max_redirects(3).build();
    let text = |answer: Result<ClientResponse, ClientError>| answer.unwrap().text().unwrap();
    assert_eq!(text(client.get(&served.url("/told"))), "none");
    // What the first answer sets goes along to where it leads.
    assert_eq!(text(client.post(&served.url("/login")).send()), "session=1");
    assert_eq!(text(client.get(&served.url("/away"))), "none");
    assert_eq!(
        text(client.clone().get(&served.url("/told"))),
        "session=1; seen=2"
    );
    let own = client.request(Method::GET, &served.url("/told"));
    assert_eq!(text(own.header("cookie", "mine=3").send()), "mine=3");
    let forgetful = Client::builder().max_redirects(3).build();
    assert_eq!(text(forgetful.post(&served.url("/login")).send()), "none");
}
