//! Generated code at both ends: what a client and a server of ours are to each other.

use std::{sync::mpsc, thread, time::Duration};

use maniple_example_grpc::{
    Service,
    chat::{Chat, ChatClient, Empty, Line},
};
use maniple_grpc::{
    Call, Caller, Channel, Code, Metadata, Status,
    server::{Replies, Requests},
};
use maniple_server::{Server, ServerHandle};

/// Runs a test in a runtime with a server, and fails it if it takes longer than any should.
fn with(service: maniple_grpc::Service, test: impl FnOnce(Channel, ServerHandle) + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(|| {
            let server = Server::builder(service.into_router())
                .bind("127.0.0.1:0")
                .unwrap();
            let (address, handle) = (server.local_addr(), server.handle());
            let serving = maniple::spawn(move || server.serve());
            test(Channel::to(address.to_string()), handle.clone());
            handle.drain();
            serving.join().unwrap().unwrap();
        });
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

fn line(text: &str, number: u32) -> Line {
    Line {
        text: text.to_owned(),
        number,
        payload: Vec::new(),
    }
}

#[test]
fn a_call_is_a_function_call() {
    with(Service.into_service(), |channel, _| {
        let client = ChatClient::new(channel);
        assert_eq!(*client.echo(&line("hello", 0)).unwrap(), line("hello", 0));
        client.nothing(&Empty {}).unwrap();
    });
}

#[test]
fn an_error_comes_with_its_words_and_details() {
    with(Service.into_service(), |channel, _| {
        let asked = Line {
            payload: vec![0, 1, 255],
            ..line("wörds, 100%\n", 5)
        };
        let error = ChatClient::new(channel).echo(&asked).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::NotFound, "wörds, 100%\n")
        );
        assert_eq!(error.details(), [0, 1, 255]);
    });
}

#[test]
fn fields_travel_both_ways() {
    with(Service.into_service(), |channel, _| {
        let mut metadata = Metadata::new();
        assert!(metadata.insert("x-echo-initial", "text"));
        assert!(metadata.insert_bytes("x-echo-trailing-bin", &[0, 255]));
        let client = ChatClient::new(channel).with_metadata(metadata);
        let reply = client.echo(&line("hello", 0)).unwrap();
        assert_eq!(reply.headers().get("x-echo-initial"), Some("text"));
        let bytes = reply.trailers().get_bytes("x-echo-trailing-bin");
        assert_eq!(bytes, Some(vec![0, 255]));
    });
}

#[test]
fn streams_of_each_kind_are_iterators_and_writers() {
    with(Service.into_service(), |channel, _| {
        let client = ChatClient::new(channel);
        let lines: Result<Vec<_>, _> = client.repeat(&line("again", 1000)).unwrap().collect();
        assert_eq!(lines.unwrap().len(), 1000);
        let mut joining = client.join().unwrap();
        for _ in 0..1000 {
            joining.send(&line("x", 0)).unwrap();
        }
        assert_eq!(joining.finish().unwrap().number, 1000);
        let (mut out, mut replies) = client.talk().unwrap();
        for number in 0..100 {
            out.send(&line("ping", number)).unwrap();
            assert_eq!(replies.next().unwrap().unwrap().number, number);
        }
        out.finish().unwrap();
        assert!(replies.next().is_none());
    });
}

#[test]
fn halves_of_a_call_are_for_two_coroutines() {
    with(Service.into_service(), |channel, _| {
        let (mut out, replies) = ChatClient::new(channel).talk().unwrap();
        let sending = maniple::spawn(move || {
            for number in 0..2_000 {
                let big = Line {
                    payload: vec![1; 1_000],
                    ..line("big", number)
                };
                out.send(&big).unwrap();
            }
            out.finish().unwrap();
        });
        let numbers = replies.map(|reply| reply.unwrap().number);
        assert!(numbers.eq(0..2_000));
        sending.join().unwrap();
    });
}

#[test]
fn the_callers_deadline_is_the_servers() {
    struct Told(mpsc::Sender<(Option<Duration>, bool)>);
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(Told(tell));
    let service = maniple_grpc::Service::new("chat.v1.Chat");
    let service = service.unary("Wait", move |call: &mut Call, request: Line| {
        let left = call.remaining();
        let (_open, gate) = maniple::sync::channel::bounded::<()>(1);
        let cut = gate.recv().is_err();
        tell.lock().unwrap().0.send((left, cut)).unwrap();
        Ok::<_, Status>(request)
    });
    with(service, move |channel, _| {
        let client = ChatClient::new(channel);
        // Twice as long each time, until a call comes to its method before its end.
        let mut limit = Duration::from_millis(100);
        let (left, cut) = loop {
            let late =
                maniple::timeout(limit, || client.wait(&line("late", 0)).unwrap_err().code());
            assert_eq!(late.unwrap(), Code::DeadlineExceeded);
            let begins = maniple::time::now();
            let heard = loop {
                match told.try_recv() {
                    Err(_) if maniple::time::now() - begins < limit => {
                        maniple::sleep(Duration::from_millis(1));
                    }
                    heard => break heard,
                }
            };
            match heard {
                Ok(heard) => break heard,
                Err(_) => limit *= 2,
            }
        };
        let limit = limit + Duration::from_millis(1);
        assert!(left.unwrap() <= limit && cut, "{left:?}");
    });
}

#[test]
fn a_call_that_is_dropped_cancels_its_method() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let service = maniple_grpc::Service::new("chat.v1.Chat");
    let service = service.streaming(
        "Talk",
        move |_: &mut Call,
              requests: &mut Requests<'_, Line>,
              replies: &mut Replies<'_, '_, Line>| {
            let first = requests.next().unwrap()?;
            replies.send(&first)?;
            let next = requests.next();
            tell.lock()
                .unwrap()
                .send(next.map(|next| next.is_err()))
                .unwrap();
            Ok(())
        },
    );
    with(service, move |channel, _| {
        let (mut out, mut replies) = ChatClient::new(channel).talk().unwrap();
        out.send(&line("ping", 1)).unwrap();
        assert_eq!(replies.next().unwrap().unwrap().number, 1);
        drop((out, replies));
        let told = maniple::offload(move || told.recv_timeout(Duration::from_secs(30)));
        assert_eq!(told.unwrap().unwrap(), Some(true));
    });
}

#[test]
fn what_there_is_not_is_unimplemented() {
    with(Service.into_service(), |channel, _| {
        let caller = Caller::new(channel);
        for path in ["/chat.v1.Chat/Missing", "/chat.v1.Missing/Echo"] {
            let error = caller.unary::<Line, Line>(path, &line("", 0)).unwrap_err();
            assert_eq!(error.code(), Code::Unimplemented);
        }
    });
}

#[test]
fn messages_have_a_limit_at_both_ends_and_streams_have_none() {
    let service =
        Service.add_to(maniple_grpc::Service::new("chat.v1.Chat").max_message_bytes(10_000));
    with(service, |channel, _| {
        let client = ChatClient::new(channel.clone());
        let big = |bytes| Line {
            payload: vec![0; bytes],
            ..line("big", 0)
        };
        client.echo(&big(9_000)).unwrap();
        let error = client.echo(&big(11_000)).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let small = ChatClient::new(channel.max_message_bytes(1_000));
        let error = small.echo(&big(2_000)).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let mut joining = client.join().unwrap();
        for _ in 0..500 {
            joining.send(&big(9_000)).unwrap();
        }
        assert_eq!(joining.finish().unwrap().number, 500);
    });
}

#[test]
fn compression_goes_both_ways() {
    let service = Service.add_to(maniple_grpc::Service::new("chat.v1.Chat").compress(true));
    with(service, |channel, _| {
        let client = ChatClient::new(channel.compress(true));
        let long = line(&"long ".repeat(100_000), 0);
        assert_eq!(*client.echo(&long).unwrap(), long);
        let lines: Result<Vec<_>, _> = client.repeat(&line("again", 100)).unwrap().collect();
        assert_eq!(lines.unwrap().len(), 100);
    });
}

#[test]
fn a_panic_is_the_answer_of_one_call() {
    let service = maniple_grpc::Service::new("chat.v1.Chat")
        .unary("Echo", |_: &mut Call, _: Line| -> Result<Line, Status> {
            panic!("intended")
        })
        .unary("Nothing", |_: &mut Call, nothing: Empty| {
            Ok::<_, Status>(nothing)
        });
    with(service, |channel, _| {
        let client = ChatClient::new(channel);
        let error = client.echo(&line("", 0)).unwrap_err();
        assert_eq!(error.code(), Code::Unknown);
        client.nothing(&Empty {}).unwrap();
    });
}

/// An address that nobody is given who asks for any, and at which servers may follow each other.
fn reserved() -> (std::os::fd::OwnedFd, std::net::SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&bound).unwrap().try_into().unwrap();
    (bound, address)
}

#[test]
fn without_a_server_it_is_unavailable_and_with_the_next_it_goes_on() {
    let (_reserved, address) = reserved();
    maniple::run(move || {
        let client = ChatClient::new(Channel::to(address.to_string()));
        for _ in 0..2 {
            let error = client.nothing(&Empty {}).unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{error}");
            let router = Service.into_service().into_router();
            let server = Server::builder(router).bind(address).unwrap();
            let handle = server.handle();
            let serving = maniple::spawn(move || server.serve());
            client.nothing(&Empty {}).unwrap();
            handle.drain();
            serving.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_method_waits_for_messages_for_as_long_as_they_take() {
    maniple::run(|| {
        let router = Service.into_service().into_router();
        let server = Server::builder(router)
            .body_timeout(Duration::from_millis(50))
            .bind("127.0.0.1:0")
            .unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let (mut out, mut replies) = ChatClient::new(Channel::to(address.to_string()))
            .talk()
            .unwrap();
        for number in 0..3 {
            maniple::sleep(Duration::from_millis(200));
            out.send(&line("ping", number)).unwrap();
            assert_eq!(replies.next().unwrap().unwrap().number, number);
        }
        drop((out, replies));
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}
