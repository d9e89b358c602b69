//! How a server serves WebSockets: who may open one, the ends that it has, silence, limits, drain.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple::sync::mpsc;
use maniple_server::{
    Client, Request,
    websocket::{self, Error, Frame, Lag, Message, Settings, WebSocket, code},
};

use super::raw::{LONG, Raw, Sent, Serving, close, echo, frame, request, text, wait_until};

const SOON: Duration = Duration::from_millis(50);

#[test]
fn what_is_no_request_for_a_websocket_is_told_why() {
    let serving = Serving::with(Settings::new(), echo);
    for (from, to, status) in [
        ("GET", "POST", 405),
        ("Upgrade: websocket", "X: y", 426),
        ("keep-alive, Upgrade", "keep-alive", 426),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("HTTP/1.1", "HTTP/1.0", 426),
        ("Version: 13", "Version: 7", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("25jZQ==", "25jZQ=", 400),
        (
            "Host: h\r\n",
            "Host: h\r\nOrigin: https://evil.example\r\n",
            403,
        ),
    ] {
        let (found, answer) = serving.asked(&request("").replace(from, to));
        assert_eq!(found, status, "{from} -> {to}: {answer}");
        assert_eq!(
            answer.contains("\r\nsec-websocket-version: 13\r\n"),
            status == 426
        );
        assert_eq!(answer.contains("\r\nupgrade: websocket\r\n"), status == 426);
    }
    let (status, _) = serving.asked(&request("Origin: http://h\r\n"));
    assert_eq!(status, 101);
}

#[test]
fn offers_of_compression_are_not_taken_up() {
    let serving = Serving::with(Settings::new(), echo);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (_, answer) = serving.asked(&request(offer));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
}

#[test]
fn a_request_without_a_key_is_taken_if_that_is_set() {
    let serving = Serving::with(Settings::new().without_key(), echo);
    let keyless = request("").replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    let (status, answer) = serving.asked(&keyless);
    assert_eq!(status, 101, "{answer}");
    assert!(!answer.contains("sec-websocket-accept"), "{answer}");
}

#[test]
fn a_subprotocol_is_agreed_upon_or_there_is_none() {
    let settings = Settings::new().protocols(["v2", "v1"]);
    let serving = Serving::with(settings, |socket| {
        let protocol = socket.protocol().unwrap_or("none").to_owned();
        Ok(socket.send(protocol)?)
    });
    for (offers, chosen) in [
        (&["v1", "v2"][..], "v2"),
        (&["v1"], "v1"),
        (&["x"], "none"),
        (&[], "none"),
    ] {
        let settings = Settings::new().protocols(offers.iter().copied());
        let stream = serving.connect();
        let mut socket = settings.connect_over(stream, "ws://h/").unwrap();
        assert_eq!(socket.receive().unwrap(), Some(chosen.into()));
        assert_eq!(socket.protocol(), (chosen != "none").then_some(chosen));
        socket.close(1000, "").unwrap();
    }
}

#[test]
fn a_client_is_told_why_there_is_no_websocket() {
    let serving = Serving::with(Settings::new(), echo);
    for (url, reason) in [
        ("ws://h/none", "404"),
        ("wss://h/", "no TLS within the process"),
        ("http://h/", "only ws and wss are spoken"),
        ("ws://", "no host"),
    ] {
        let refused = Settings::new().connect_over(serving.connect(), url);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(reason) && text.contains(url), "{text}");
    }
}

#[test]
fn a_close_is_answered_before_the_handler_goes_on() {
    let (held, hold) = mpsc::channel::<()>();
    let hold = std::sync::Arc::new(std::sync::Mutex::new(hold));
    let serving = Serving::with(Settings::new(), move |socket| {
        assert_eq!(socket.receive()?, None);
        assert_eq!(socket.closed().unwrap().code, 4001);
        assert_eq!(socket.closed().unwrap().reason, "enough");
        // Not another call of the socket's until the client has seen its answer, and the end.
        let hold = hold.clone();
        Ok(maniple::offload(move || hold.lock().unwrap().recv_timeout(LONG)).unwrap()?)
    });
    let raw = serving.open();
    raw.send(&frame(0x88, b"\x0f\xa1enough"));
    assert_eq!(raw.receive(), Sent::Close(4001));
    assert_eq!(raw.receive(), Sent::End);
    held.send(()).unwrap();
    wait_until("it has left", || serving.handle.connections() == 0);
}

#[test]
fn a_handlers_return_closes_with_1000_and_waits_for_the_answer() {
    let serving = Serving::with(Settings::new(), |socket| Ok(socket.send("bye")?));
    let raw = serving.open();
    assert_eq!(raw.receive(), Sent::Text("bye".to_owned()));
    assert_eq!(raw.receive(), Sent::Close(1000));
    // What was on its way is dropped, and does not reset the connection.
    raw.send(&text("on its way"));
    assert_eq!(serving.handle.connections(), 1);
    raw.send(&close(1000));
    assert_eq!(raw.receive(), Sent::End);
    wait_until("it has left", || serving.handle.connections() == 0);
}

#[test]
fn a_close_that_is_not_answered_is_waited_for_in_vain_for_a_while() {
    let settings = Settings::new().close_timeout(SOON);
    let serving = Serving::with(settings, |_| Ok(()));
    let raw = serving.open();
    assert_eq!(raw.receive(), Sent::Close(1000));
    assert_eq!(raw.receive(), Sent::End);
    wait_until("it has left", || serving.handle.connections() == 0);
}

#[test]
fn a_client_that_talks_on_does_not_keep_a_closed_connection() {
    let settings = Settings::new().close_timeout(SOON);
    let serving = Serving::with(settings, |_| Ok(()));
    let raw = serving.open();
    assert_eq!(raw.receive(), Sent::Close(1000));
    let until = maniple::time::now() + LONG;
    while (&raw.stream).write_all(&text("and another thing")).is_ok() {
        assert!(maniple::time::now() < until, "it goes on reading");
        crate::driven::thread::yield_now();
    }
}

#[test]
fn an_error_or_a_panic_of_the_handler_closes_with_1011() {
    let serving = Serving::with(Settings::new(), |socket| match socket.receive()? {
        Some(Message::Text(text)) if text == "panic" => panic!("intended"),
        _ => Err("intended".into()),
    });
    for what in ["panic", "fail"] {
        let raw = serving.open();
        raw.send(&text(what));
        assert_eq!(raw.receive(), Sent::Close(1011), "{what}");
        raw.send(&close(1011));
        assert_eq!(raw.receive(), Sent::End, "{what}");
    }
}

#[test]
fn what_is_over_a_limit_closes_with_1009_before_it_has_come() {
    let settings = Settings::new().max_message(1000).max_frame(600);
    let serving = Serving::with(settings, echo);
    for (frames, answers) in [
        (
            vec![frame(0x81, &[b'a'; 600])],
            vec![Sent::Text("a".repeat(600))],
        ),
        (
            vec![frame(0x81, &[b'a'; 601])[..8].to_vec()],
            vec![Sent::Close(1009)],
        ),
        (
            vec![
                frame(0x01, &[b'a'; 600]),
                frame(0x80, &[b'a'; 401])[..8].to_vec(),
            ],
            vec![Sent::Close(1009)],
        ),
        (
            vec![frame(0x01, &[b'a'; 600]), frame(0x80, &[b'a'; 400])],
            vec![Sent::Text("a".repeat(1000))],
        ),
        // A length near 2^63 is no reason to set memory aside.
        (
            vec![b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff1234".to_vec()],
            vec![Sent::Close(1009)],
        ),
    ] {
        let raw = serving.open();
        frames.iter().for_each(|frame| raw.send(frame));
        for answer in answers {
            assert_eq!(raw.receive(), answer);
        }
    }
}

#[test]
fn an_error_of_the_peer_is_the_receivers_error() {
    let (errors, told) = mpsc::channel();
    let serving = Serving::with(Settings::new().max_message(10), move |socket| {
        let error = loop {
            match socket.receive() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        errors.send(error.to_string()).unwrap();
        // And so it stays.
        assert!(matches!(socket.receive(), Err(Error::Closed)));
        assert!(matches!(socket.send("x"), Err(Error::Closed)));
        Err(error.into())
    });
    for (bytes, what) in [
        (frame(0x83, b""), "broke the protocol: a reserved opcode"),
        (frame(0x81, b"\xff"), "not UTF-8"),
        (frame(0x81, b"12345678901"), "more than 10 bytes"),
    ] {
        let raw = serving.open();
        raw.send(&bytes);
        let error = told.recv_timeout(LONG).unwrap();
        assert!(error.contains(what), "{error}");
        assert!(matches!(raw.receive(), Sent::Close(_)));
    }
    let raw = serving.open();
    drop(raw);
    let error = told.recv_timeout(LONG).unwrap();
    assert!(error.contains("without a Close"), "{error}");
}

#[test]
fn a_silent_client_is_pinged_and_is_gone_if_it_stays_silent() {
    let settings = Settings::new().ping(SOON).ping_timeout(LONG);
    let serving = Serving::with(settings, echo);
    let raw = serving.open();
    for _ in 0..3 {
        assert_eq!(raw.receive(), Sent::Ping(vec![]));
        raw.send(&frame(0x8A, b""));
    }
    // A message shows as well that it is there.
    assert_eq!(raw.receive(), Sent::Ping(vec![]));
    raw.send(&text("here"));
    assert_eq!(raw.receive(), Sent::Text("here".to_owned()));

    let (errors, told) = mpsc::channel();
    let settings = Settings::new().ping(SOON).ping_timeout(SOON);
    let serving = Serving::with(settings, move |socket| {
        errors.send(socket.receive().unwrap_err().to_string())?;
        Ok(())
    });
    let raw = serving.open();
    assert_eq!(raw.receive(), Sent::Ping(vec![]));
    assert_eq!(raw.receive(), Sent::End);
    let error = told.recv_timeout(LONG).unwrap();
    assert!(error.contains("did not answer a Ping"), "{error}");
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let (errors, told) = mpsc::channel();
    let settings = Settings::new().write_timeout(SOON);
    let serving = Serving::with(settings, move |socket| {
        let long = "*".repeat(1 << 16);
        let error = loop {
            match socket.send_text(&long) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        errors.send(error.to_string())?;
        Ok(())
    });
    let _raw = serving.open();
    let error = told.recv_timeout(LONG).unwrap();
    assert!(error.contains("did not answer a message"), "{error}");
    wait_until("it has left", || serving.handle.connections() == 0);
}

#[test]
fn a_drain_tells_clients_1001_and_waits_for_their_answers() {
    let serving = Serving::with(Settings::new(), echo);
    let raws: Vec<Raw> = (0..20).map(|_| serving.open()).collect();
    for raw in &raws {
        raw.send(&text("before"));
        assert_eq!(raw.receive(), Sent::Text("before".to_owned()));
    }
    serving.handle.drain();
    for raw in &raws {
        assert_eq!(raw.receive(), Sent::Close(1001));
        assert!(serving.handle.connections() > 0);
        raw.send(&close(1001));
        assert_eq!(raw.receive(), Sent::End);
    }
    let report = serving.drain();
    assert_eq!((report.cancelled, report.left), (0, 0), "{report:?}");
}

#[test]
fn messages_that_were_on_their_way_at_a_drain_are_received() {
    let (received, messages) = mpsc::channel();
    let serving = Serving::with(Settings::new(), move |socket| {
        while let Some(message) = socket.receive()? {
            received.send(message)?;
        }
        Ok(())
    });
    let raw = serving.open();
    raw.send(&text("first"));
    assert_eq!(messages.recv_timeout(LONG).unwrap(), "first".into());
    serving.handle.drain();
    assert_eq!(raw.receive(), Sent::Close(1001));
    raw.send(&text("on its way"));
    raw.send(&close(1001));
    assert_eq!(messages.recv_timeout(LONG).unwrap(), "on its way".into());
    assert_eq!(raw.receive(), Sent::End);
}

#[test]
fn many_send_on_one_socket_and_each_message_is_whole() {
    let serving = Serving::with(Settings::new(), |socket| {
        let senders: Vec<_> = (0..8)
            .map(|n| {
                let sender = socket.sender();
                maniple::spawn(move || {
                    for length in [10, 100, 20_000, 70_000] {
                        sender.send_text(&n.to_string().repeat(length))?;
                        sender.send_frame(&Frame::text(&n.to_string().repeat(length)))?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for sender in senders {
            sender.join()??;
        }
        Ok(())
    });
    let raw = serving.open();
    for _ in 0..64 {
        let Sent::Text(text) = raw.receive() else {
            panic!("no text")
        };
        assert!([10, 100, 20_000, 70_000].contains(&text.len()));
        assert!(text.bytes().all(|byte| byte == text.as_bytes()[0]));
    }
    assert_eq!(raw.receive(), Sent::Close(1000));
}

#[test]
fn a_send_that_is_cut_short_in_a_message_breaks_none() {
    let (cut, told) = mpsc::channel();
    let serving = Serving::with(Settings::new(), move |socket| {
        let sender = socket.sender();
        let long = "*".repeat(1 << 20);
        // Nobody reads: the kernel takes some of it.
        let sent = maniple::timeout(SOON, || sender.send_text(&long));
        assert!(
            matches!(&sent, Ok(Err(error)) if error.is_interruption()),
            "{sent:?}"
        );
        cut.send(())?;
        assert_eq!(socket.receive()?, Some("go on".into()));
        sender.send("whole")?;
        Ok(())
    });
    let raw = serving.open();
    // The beginning shows that the send has begun.
    let mut byte = [0];
    (&raw.stream).read_exact(&mut byte).unwrap();
    assert_eq!(byte[0], 0x81);
    told.recv_timeout(LONG).unwrap();
    raw.send(&text("go on"));
    let mut head = [0; 9];
    (&raw.stream).read_exact(&mut head).unwrap();
    let mut long = vec![0; 1 << 20];
    (&raw.stream).read_exact(&mut long).unwrap();
    assert!(long.iter().all(|&byte| byte == b'*'));
    assert_eq!(raw.receive(), Sent::Text("whole".to_owned()));
}

#[test]
fn a_wait_for_a_message_that_is_cut_short_loses_none() {
    let (mut server, client) = WebSocket::pair();
    let half = maniple::timeout(SOON, || server.receive());
    assert!(matches!(half, Ok(Err(error)) if error.is_interruption()));
    client.send("hello").unwrap();
    assert_eq!(server.receive().unwrap(), Some("hello".into()));
}

#[test]
fn queues_wait_drop_or_disconnect_as_was_chosen() {
    crate::driven::run(|| {
        let settings = Settings::new().max_message(1 << 24).max_frame(1 << 24);
        // More than there is room for between the two, so that the queue's coroutine waits.
        let large = Frame::binary(&vec![7; 1 << 22]);
        let blocked = || {
            let (server, client) = settings.pair();
            (server, client)
        };
        let (server, mut client) = blocked();
        let queue = server.sender().queue(2, Lag::DropOldest);
        queue.send(large.clone()).unwrap();
        wait_until("it is being sent", || queue.is_empty());
        for n in 0..5 {
            queue.send(Frame::text(&n.to_string())).unwrap();
        }
        assert_eq!((queue.len(), queue.dropped()), (2, 3));
        assert!(matches!(client.receive(), Ok(Some(Message::Binary(_)))));
        assert_eq!(client.receive().unwrap(), Some("3".into()));
        assert_eq!(client.receive().unwrap(), Some("4".into()));

        let (mut server, client) = blocked();
        let queue = server.sender().queue(1, Lag::Disconnect);
        queue.send(large.clone()).unwrap();
        wait_until("it is being sent", || queue.is_empty());
        queue.send(Frame::text("waits")).unwrap();
        assert!(matches!(
            queue.send(Frame::text("one too many")),
            Err(Error::Lagged)
        ));
        assert!(matches!(
            queue.send(Frame::text("more")),
            Err(Error::Lagged)
        ));
        assert!(matches!(server.receive(), Err(Error::Lagged)));
        drop(client);

        let (server, mut client) = blocked();
        let queue = server.sender().queue(1, Lag::Block);
        queue.send(large).unwrap();
        wait_until("it is being sent", || queue.is_empty());
        queue.send(Frame::text("waits")).unwrap();
        let cut = maniple::timeout(SOON, || queue.send(Frame::text("no room")));
        assert!(matches!(cut, Ok(Err(error)) if error.is_interruption()));
        assert!(matches!(client.receive(), Ok(Some(Message::Binary(_)))));
        assert_eq!(client.receive().unwrap(), Some("waits".into()));
        drop(server);
        assert!(matches!(
            queue.send(Frame::text("late")),
            Err(Error::Closed)
        ));
    });
}

#[test]
fn a_sender_that_is_kept_does_not_keep_the_connection() {
    let (senders, kept) = mpsc::channel();
    let serving = Serving::with(Settings::new(), move |socket| {
        senders.send(socket.sender())?;
        Ok(())
    });
    let raw = serving.open();
    assert_eq!(raw.receive(), Sent::Close(1000));
    raw.send(&close(1000));
    assert_eq!(raw.receive(), Sent::End);
    let sender = kept.recv_timeout(LONG).unwrap();
    wait_until("it has left", || serving.handle.connections() == 0);
    assert!(sender.is_closed());
    assert!(matches!(sender.send("x"), Err(Error::Closed)));
}

#[test]
fn a_client_side_masks_and_closes_after_the_server() {
    let serving = Serving::echo();
    let mut socket = Settings::new()
        .connect_over(serving.connect(), "ws://h/")
        .unwrap();
    for length in [0, 1, 125, 126, 70_000, 1 << 20] {
        let message = Message::from("*".repeat(length));
        let sending = socket.sender();
        let theirs = message.clone();
        let sent = crate::driven::thread::spawn(move || sending.send(theirs));
        assert!(socket.receive().unwrap() == Some(message));
        sent.join().unwrap().unwrap();
    }
    socket.close(code::NORMAL, "done").unwrap();
    assert_eq!(socket.closed().unwrap().code, code::NORMAL);
    assert!(matches!(socket.send("x"), Err(Error::Closed)));
    wait_until("it has left", || serving.handle.connections() == 0);
}

#[test]
fn a_clients_own_fields_go_with_its_request() {
    let serving = Serving::of(|request: &mut Request| {
        let text = ["authorization", "cookie", "x-a"]
            .map(|name| request.header_str(name).unwrap_or("-").to_owned())
            .join(" ");
        websocket::upgrade(request, move |socket| Ok(socket.send(text)?))
    });
    let settings = Settings::new()
        .header("authorization", "Bearer b")
        .header("x-a", "c");
    let mut socket = settings.connect_over(serving.connect(), "ws://h/").unwrap();
    assert_eq!(socket.receive().unwrap(), Some("Bearer b - c".into()));
    for name in [
        "host",
        "Connection",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "a b",
    ] {
        let refused = std::panic::catch_unwind(|| Settings::new().header(name, "x"));
        assert!(refused.is_err(), "{name}");
    }
}

#[test]
fn a_client_connects_as_another_client_does() {
    let serving = Serving::with(Settings::new(), echo);
    let client = Client::builder()
        .connector(serving.connector.clone())
        .unwrap();
    // That bounds the handshake, and not how long there may be silence.
    let client = client.timeout(SOON).build();
    let mut socket = Settings::new()
        .client(&client)
        .connect("ws://elsewhere/")
        .unwrap();
    let began = maniple::time::now();
    let _cut = maniple::timeout(4 * SOON, || socket.receive());
    assert!(
        maniple::time::now() - began >= 4 * SOON,
        "the scope's time, not the client's"
    );
    socket.send("hello").unwrap();
    assert_eq!(socket.receive().unwrap(), Some("hello".into()));
}
