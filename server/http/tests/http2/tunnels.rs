//! Streams that are handed over: WebSockets by extended CONNECT (RFC 8441), and tunnels.

use http::Request as Asked;
use maniple::block_on;
use maniple_server::{Bytes, Request, Response, Router, StatusCode};

use super::{
    Served,
    client::{Client, next_piece},
    run,
};

#[test]
fn a_tunnel_is_made_by_connect() {
    run(|| {
        let router = Router::new().connect(|request: &mut Request| {
            assert_eq!(request.path(), "there:80");
            Response::tunnel(|connection| {
                let (mut reader, mut writer) = connection.split();
                _ = maniple::io::copy(&mut reader, &mut writer);
                _ = writer.shutdown();
            })
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let request = Asked::connect("there:80").body(()).unwrap();
        let (answer, mut out) = client.begin(request, false).unwrap();
        let answer = block_on(answer).unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!answer.headers().contains_key("content-length"));
        let mut body = answer.into_body();
        for word in ["one", "two"] {
            out.send_data(Bytes::from_static(word.as_bytes()), false)
                .unwrap();
            assert_eq!(next_piece(&mut body).unwrap().unwrap(), word);
        }
        out.send_data(Bytes::new(), true).unwrap();
        assert!(next_piece(&mut body).is_none_or(|piece| piece.unwrap().is_empty()));
    });
}

#[cfg(feature = "websocket")]
#[test]
fn a_websocket_is_opened_by_extended_connect() {
    use maniple_server::websocket::upgrade;
    run(|| {
        let router = Router::new().get("/chat", |request: &mut Request| {
            upgrade(request, |socket| {
                while let Ok(Some(message)) = socket.receive() {
                    if socket.send(message).is_err() {
                        break;
                    }
                }
                Ok(())
            })
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        // Whether the server takes it is in its settings, which have come by then.
        assert_eq!(client.get("/nowhere").status, StatusCode::NOT_FOUND);
        let request = Asked::connect("http://test/chat")
            .header("sec-websocket-version", "13")
            .extension(h2::ext::Protocol::from_static("websocket"));
        let (answer, mut out) = client.begin(request.body(()).unwrap(), false).unwrap();
        let answer = block_on(answer).unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        for name in ["sec-websocket-accept", "connection", "upgrade"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        let mut body = answer.into_body();
        // A text message "hi", masked with nothing, and back without a mask.
        out.send_data(
            Bytes::from_static(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']),
            false,
        )
        .unwrap();
        assert_eq!(
            next_piece(&mut body).unwrap().unwrap()[..],
            [0x81, 2, b'h', b'i']
        );
        // Close, and the answer to that.
        out.send_data(Bytes::from_static(&[0x88, 0x80, 0, 0, 0, 0]), false)
            .unwrap();
        assert_eq!(next_piece(&mut body).unwrap().unwrap()[0], 0x88);
    });
}

#[test]
fn what_was_not_asked_for_is_not_opened() {
    run(|| {
        let router = Router::new()
            .get("/upgrade", |_: &mut Request| {
                Response::upgrade("chat", |_| {})
            })
            .get("/tunnel", |_: &mut Request| Response::tunnel(|_| {}));
        let served = Served::of(router);
        let client = Client::connect(served.address());
        assert_eq!(client.get("/upgrade").status, StatusCode::UPGRADE_REQUIRED);
        assert_eq!(
            client.get("/tunnel").status,
            StatusCode::INTERNAL_SERVER_ERROR
        );
        let other = Asked::connect("http://test/upgrade")
            .extension(h2::ext::Protocol::from_static("connect-udp"));
        let (answer, _out) = client.begin(other.body(()).unwrap(), false).unwrap();
        assert_eq!(
            block_on(answer).unwrap().status(),
            StatusCode::NOT_IMPLEMENTED
        );
    });
}
