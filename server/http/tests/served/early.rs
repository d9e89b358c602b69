//! Servers that answer before they have read the whole request.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use maniple::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use maniple::sync::mpsc;
use maniple_server::{Client, ClientResponse, Method, StatusCode};

const PATIENCE: Duration = Duration::from_secs(60);
const LARGE: usize = 16 * 1024 * 1024;

/// Serves each connection, of which the head of the first request has been read, with `serve`.
fn server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    crate::driven::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let serve = serve.clone();
            crate::driven::thread::spawn(move || {
                if read_head(&mut stream).is_ok() {
                    serve(stream);
                }
            });
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}

/// Stays open for good, and reads nothing.
fn stay() -> ! {
    loop {
        crate::driven::thread::park();
    }
}

fn body(length: usize) -> Vec<u8> {
    let mut body = (0..=250).collect::<Vec<u8>>().repeat(length / 251 + 1);
    body.truncate(length);
    body
}

/// From a plain thread, and from a coroutine.
fn both_ways(ask: impl Fn() + Send + Sync) {
    ask();
    let runtime = crate::driven::Runtime::builder()
        .workers(1)
        .build()
        .unwrap();
    runtime.run(|| maniple::timeout(PATIENCE, &ask).unwrap());
}

fn post(client: &Client, address: SocketAddr, length: usize) -> ClientResponse {
    let request = client.request(Method::POST, &format!("http://{address}/"));
    request.body(body(length)).send().unwrap()
}

fn patient() -> Client {
    Client::builder()
        .timeout(PATIENCE)
        .max_body_bytes(64 << 20)
        .build()
}

#[test]
fn a_refusal_is_had_though_nobody_reads_the_body() {
    let refusals: [fn(&mut TcpStream); 4] = [
        |stream| {
            stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmore")
                .unwrap();
            stay();
        },
        |stream| {
            stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmore")
                .unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stay();
        },
        |stream| {
            stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\nmore")
                .unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stay();
        },
        |stream| {
            let chunked =
                b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nmo\r\n";
            stream.write_all(chunked).unwrap();
            maniple::sleep(Duration::from_millis(20));
            stream.write_all(b"2\r\nre\r\n0\r\n\r\n").unwrap();
            stay();
        },
    ];
    for refuse in refusals {
        let address = server(move |mut stream| refuse(&mut stream));
        both_ways(|| {
            let answer = post(&patient(), address, LARGE);
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(answer.text().unwrap(), "more");
        });
    }
}

/// Sends each byte of the request's body back as it comes.
fn echo(mut stream: TcpStream) {
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes())
        .unwrap();
    let mut buffer = vec![0; 16 * 1024];
    let mut left = LARGE;
    while left > 0 {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) if stream.write_all(&buffer[..count]).is_ok() => left -= count,
            _ => return,
        }
    }
    // The connection has been kept.
    if read_head(&mut stream).is_ok() {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
    }
}

#[test]
fn a_large_body_comes_back_from_a_server_that_echoes_as_it_reads() {
    let address = server(echo);
    both_ways(|| {
        let client = patient();
        let answer = post(&client, address, LARGE).bytes().unwrap();
        assert!(answer == body(LARGE));
        let again = client.get(&format!("http://{address}/")).unwrap();
        assert_eq!(again.text().unwrap(), "again", "over the same connection");
    });
}

#[test]
fn a_response_that_is_read_in_parts_sends_the_rest_meanwhile() {
    let address = server(echo);
    both_ways(|| {
        let mut answer = post(&patient(), address, LARGE);
        let (mut heard, mut part) = (Vec::new(), vec![0; 100_000]);
        loop {
            match answer.read(&mut part).unwrap() {
                0 => break,
                count => heard.extend_from_slice(&part[..count]),
            }
        }
        assert!(heard == body(LARGE));
    });
}

#[test]
fn a_connection_whose_request_was_not_sent_whole_is_not_used_again() {
    let (tell, told) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Arc::new(maniple::sync::Mutex::new(may_go_on));
    let address = server(move |mut stream| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).unwrap();
        // Until the client has given up what there was no room for.
        may_go_on.lock().recv().unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let _ = tell.send(rest.len());
    });
    let client = patient();
    let answer = post(&client, address, LARGE);
    assert_eq!(answer.text().unwrap(), "ok");
    let second = client.get(&format!("http://{address}/")).unwrap();
    assert_eq!(second.text().unwrap(), "ok", "over another connection");
    drop(client);
    (0..2).for_each(|_| go_on.send(()).unwrap());
    let sent: usize = (0..2).map(|_| told.recv_timeout(PATIENCE).unwrap()).sum();
    assert!(sent < LARGE);
}

#[test]
fn a_body_that_a_reset_cuts_is_an_error() {
    // With and without more to be sent: whoever is told of the reset, the reader must know.
    for length in [100, LARGE] {
        let address = server(move |mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").unwrap();
            // Closing with unread bytes resets.
            stream.peek(&mut [0]).unwrap();
        });
        both_ways(|| {
            let client = patient();
            let request = client.request(Method::POST, &format!("http://{address}/"));
            let asked = request.body(body(length)).send();
            let error = asked.and_then(ClientResponse::text).unwrap_err();
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        });
    }
}

#[test]
fn the_scope_cuts_a_request_that_nobody_reads() {
    let address = server(|_stream| stay());
    let runtime = crate::driven::Runtime::builder()
        .workers(1)
        .build()
        .unwrap();
    runtime.run(|| {
        let cut = maniple::timeout(Duration::from_millis(50), || {
            let request = Client::new();
            let request = request.request(Method::POST, &format!("http://{address}/"));
            request.body(body(LARGE)).send().map(drop)
        });
        assert!(cut.unwrap().unwrap_err().is_timeout());
    });
    let timeout = Client::builder().timeout(Duration::from_millis(50)).build();
    let request = timeout.request(Method::PUT, &format!("http://{address}/"));
    let error = request.body(body(LARGE)).send().unwrap_err();
    assert!(error.is_timeout(), "{error}");
}
