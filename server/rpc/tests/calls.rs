//! What a client and a server of ours are to each other.

mod driven;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use driven::run;
use maniple::sync::{
    Notify,
    channel::{Receiver, bounded},
};
use maniple_rpc::{
    Bytes, Call, Caller, Channel, Code, Metadata, Replies, Requests, Server, ServerHandle, Service,
    Status, channel, server,
};

/// Runs a test with a server.
fn with(
    builder: server::Builder,
    test: impl FnOnce(channel::Builder, ServerHandle) + Send + 'static,
) {
    run(move || {
        let server = builder.bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        test(Channel::builder(address.to_string()), handle.clone());
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

const ECHO: &str = "/t.T/Echo";
const FAIL: &str = "/t.T/Fail";
const REPEAT: &str = "/t.T/Repeat";
const COUNT: &str = "/t.T/Count";
const TALK: &str = "/t.T/Talk";

/// A method of each kind.
fn service() -> Service {
    Service::new("t.T")
        .unary("Echo", |call: &mut Call, text: String| {
            let metadata = call.metadata().clone();
            *call.answer_metadata_mut() = metadata;
            call.attach_to_answer(call.attachment().clone());
            Ok::<_, Status>(text)
        })
        .unary("Fail", |_: &mut Call, text: String| {
            let mut metadata = Metadata::new();
            assert!(metadata.insert("why", "so"));
            let status = Status::new(Code::NotFound, text);
            Err::<String, _>(status.with_details(vec![0, 255]).with_metadata(metadata))
        })
        .server_streaming(
            "Repeat",
            |_: &mut Call, times: u64, replies: &mut Replies<'_, u64>| {
                (0..times).try_for_each(|number| replies.send(&number))
            },
        )
        .client_streaming(
            "Count",
            |_: &mut Call, requests: &mut Requests<'_, String>| {
                let mut bytes = 0;
                for text in requests {
                    bytes += text?.len() as u64;
                }
                Ok(bytes)
            },
        )
        .streaming(
            "Talk",
            |_: &mut Call,
             requests: &mut Requests<'_, String>,
             replies: &mut Replies<'_, String>| {
                while let Some(text) = requests.next() {
                    let attachment = requests.attachment().clone();
                    replies.send_with(&text?, attachment)?;
                }
                Ok(())
            },
        )
}

fn server() -> server::Builder {
    Server::builder().service(service())
}

#[test]
fn a_call_is_a_function_call_and_many_are_made_at_a_time() {
    with(server(), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        maniple::group(|g| {
            for number in 0..50 {
                let caller = &caller;
                g.spawn(move || {
                    for turn in 0..50 {
                        let text = format!("{number} in {turn}");
                        let reply = caller.unary::<String, String>(ECHO, &text).unwrap();
                        assert_eq!(*reply, text);
                    }
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}

#[test]
fn plain_threads_share_a_channel_with_coroutines() {
    with(server(), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let caller = caller.clone();
                thread::spawn(move || {
                    for turn in 0..200_u64 {
                        let text = format!("{number} {turn}");
                        assert_eq!(*caller.unary::<String, String>(ECHO, &text).unwrap(), text);
                    }
                })
            })
            .collect();
        for turn in 0..200_u64 {
            let text = turn.to_string();
            assert_eq!(*caller.unary::<String, String>(ECHO, &text).unwrap(), text);
        }
        maniple::offload(move || {
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap())
        })
        .unwrap();
    });
}

#[test]
fn what_goes_beside_a_message_comes_back_with_checksums_and_without() {
    for checksums in [false, true] {
        with(server().checksums(checksums), move |channel, _| {
            let channel = channel.checksums(checksums).open().unwrap();
            let mut metadata = Metadata::new();
            assert!(metadata.insert("trace", [0, 255]));
            for size in [0, 1, 1023, 1024, 70_000, 3_000_000] {
                let attachment = Bytes::from(vec![size as u8; size]);
                let caller = Caller::new(channel.clone())
                    .with_metadata(metadata.clone())
                    .with_attachment(attachment.clone());
                let reply = caller
                    .unary::<String, String>(ECHO, &"x".repeat(size / 3))
                    .unwrap();
                assert_eq!(*reply, "x".repeat(size / 3));
                assert_eq!(*reply.attachment(), attachment);
                assert_eq!(reply.metadata().get("trace"), Some(&[0, 255][..]));
            }
        });
    }
}

#[test]
fn an_error_comes_with_its_words_details_and_fields() {
    with(server(), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        let text = "wörds\n".to_owned();
        let error = caller.unary::<String, String>(FAIL, &text).unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::NotFound, &*text));
        assert_eq!(error.details()[..], [0, 255]);
        assert_eq!(error.metadata().get("why"), Some(&b"so"[..]));
        assert!(!error.may_have_been_executed());
        // Words of any length.
        let long = "x".repeat(1_000_000);
        let error = caller.unary::<String, String>(FAIL, &long).unwrap_err();
        assert_eq!(error.message(), long);
    });
}

#[test]
fn what_there_is_not_is_unimplemented() {
    with(server(), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        for path in ["/t.T/Missing", "/t.Missing/Echo", ""] {
            let error = caller
                .unary::<String, String>(path, &String::new())
                .unwrap_err();
            assert_eq!(error.code(), Code::Unimplemented, "{path}");
        }
        // A method that takes a stream, called with one message.
        let error = caller
            .unary::<String, u64>(COUNT, &String::new())
            .unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
    });
}

#[test]
fn frames_have_a_limit_at_both_ends() {
    with(server().max_frame_bytes(10_000), |channel, _| {
        let channel = channel.max_frame_bytes(5_000).open().unwrap();
        let caller = Caller::new(channel);
        let echo = |bytes| caller.unary::<String, String>(ECHO, &"x".repeat(bytes));
        echo(4_000).unwrap();
        assert_eq!(echo(6_000).unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(echo(11_000).unwrap_err().code(), Code::ResourceExhausted);
        echo(4_000).unwrap();
    });
}

#[test]
fn a_panic_is_the_answer_of_one_call() {
    let service = Service::new("t.P").unary(
        "Panic",
        |_: &mut Call, _: String| -> Result<String, Status> { panic!("intended") },
    );
    with(server().service(service), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        let error = caller
            .unary::<String, String>("/t.P/Panic", &String::new())
            .unwrap_err();
        assert_eq!(error.code(), Code::Unknown);
        caller
            .unary::<String, String>(ECHO, &String::new())
            .unwrap();
    });
}

/// A method that waits for good, and what becomes of it.
fn waiting() -> (Service, Receiver<Option<Duration>>, Receiver<bool>) {
    // With room for more than any test has it begin.
    let ((began, begun), (end, ended)) = (bounded(100), bounded(100));
    let service = Service::new("t.W").unary("Wait", move |call: &mut Call, _: String| {
        began.try_send(call.remaining()).unwrap();
        let (_open, gate) = maniple::sync::channel::bounded::<()>(1);
        let cut = gate.recv().is_err() && maniple::cancel::check().is_err();
        end.try_send(cut).unwrap();
        Ok::<_, Status>(String::new())
    });
    (service, begun, ended)
}

const FOREVER: &str = "/t.W/Wait";

fn hear<T>(from: Receiver<T>) -> T {
    from.recv_timeout(Duration::from_secs(30)).unwrap()
}

#[test]
fn the_callers_deadline_is_the_servers() {
    let (service, begun, ended) = waiting();
    with(server().service(service), move |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        // Twice as long each time, until a call is begun before its end.
        let mut limit = Duration::from_millis(100);
        let left = loop {
            let late = maniple::timeout(limit, || {
                caller
                    .unary::<String, String>(FOREVER, &String::new())
                    .unwrap_err()
            });
            assert_eq!(late.unwrap().code(), Code::DeadlineExceeded);
            match begun.try_recv() {
                Ok(left) => break left,
                Err(_) => limit *= 2,
            }
        };
        assert!(left.unwrap() <= limit);
        assert!(hear(ended));
    });
}

#[test]
fn a_caller_that_is_cancelled_cancels_the_method() {
    let (service, begun, ended) = waiting();
    with(server().service(service), move |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        let theirs = caller.clone();
        let calling = maniple::spawn(move || {
            let error = theirs
                .unary::<String, String>(FOREVER, &String::new())
                .unwrap_err();
            (error.code(), error.may_have_been_executed())
        });
        assert_eq!(hear(begun), None);
        calling.cancel();
        assert!(hear(ended));
        assert_eq!(calling.join().unwrap(), (Code::Cancelled, true));
        caller
            .unary::<String, String>(ECHO, &String::new())
            .unwrap();
    });
}

#[test]
fn calls_beyond_those_allowed_wait_for_their_turn() {
    static MOST: AtomicUsize = AtomicUsize::new(0);
    static NOW: AtomicUsize = AtomicUsize::new(0);
    let service = Service::new("t.B").unary("Busy", |_: &mut Call, _: String| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        maniple::yield_now();
        NOW.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Status>(String::new())
    });
    with(server().service(service).max_calls(3), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        maniple::group(|g| {
            for _ in 0..40 {
                g.spawn(|| {
                    for _ in 0..10 {
                        caller
                            .unary::<String, String>("/t.B/Busy", &String::new())
                            .unwrap();
                    }
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        assert!(MOST.load(Ordering::SeqCst) <= 3);
    });
}

#[test]
fn streams_of_each_kind_are_iterators_and_writers() {
    with(server().window_bytes(2_000), |channel, _| {
        let caller = Caller::new(channel.window_bytes(1_000).open().unwrap());
        let numbers: Result<Vec<u64>, _> = caller
            .server_streaming(REPEAT, &5_000_u64)
            .unwrap()
            .collect();
        assert!(numbers.unwrap().into_iter().eq(0..5_000));
        let mut counting = caller.client_streaming::<String, u64>(COUNT).unwrap();
        for _ in 0..1_000 {
            counting.send(&"x".repeat(100)).unwrap();
        }
        assert_eq!(*counting.finish().unwrap(), 100_000);
        let (mut out, mut replies) = caller.streaming::<String, String>(TALK).unwrap();
        for number in 0..100 {
            let attachment = vec![7; number * 100];
            out.send_with(&number.to_string(), attachment.clone())
                .unwrap();
            assert_eq!(replies.next().unwrap().unwrap(), number.to_string());
            assert_eq!(replies.attachment()[..], attachment);
        }
        out.finish();
        assert!(replies.next().is_none());
    });
}

#[test]
fn halves_of_a_call_are_for_two_coroutines() {
    with(server(), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        let (mut out, replies) = caller.streaming::<String, String>(TALK).unwrap();
        let sending = maniple::spawn(move || {
            for number in 0..3_000 {
                out.send(&format!("{number:>1000}")).unwrap();
            }
            out.finish();
        });
        let numbers = replies.map(|reply| reply.unwrap().trim().parse::<u32>().unwrap());
        assert!(numbers.eq(0..3_000));
        sending.join().unwrap();
    });
}

#[test]
fn a_stream_sends_no_more_than_its_window_to_who_does_not_read() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let stuck = Arc::new(Notify::new());
    let service = Service::new("t.S").server_streaming(
        "Flood",
        move |_: &mut Call, _: String, replies: &mut Replies<'_, String>| {
            loop {
                replies.send(&"x".repeat(1_000))?;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        },
    );
    with(server().service(service), move |channel, _| {
        let caller = Caller::new(channel.window_bytes(10_000).open().unwrap());
        let mut flood = caller
            .server_streaming::<String, String>("/t.S/Flood", &String::new())
            .unwrap();
        flood.next().unwrap().unwrap();
        // Others of the connection are not held up.
        for _ in 0..100 {
            caller
                .unary::<String, String>(ECHO, &String::new())
                .unwrap();
        }
        assert!(sent.load(Ordering::SeqCst) <= 12);
        // And who gives it up ends it.
        drop(flood);
        drop(stuck);
        caller
            .unary::<String, String>(ECHO, &String::new())
            .unwrap();
    });
}

#[test]
fn an_error_ends_a_stream_and_the_other_half_hears_of_it() {
    let service = Service::new("t.E").streaming(
        "Refuse",
        |_: &mut Call, requests: &mut Requests<'_, String>, _: &mut Replies<'_, String>| {
            requests.next().unwrap()?;
            Err(Status::new(Code::PermissionDenied, "no"))
        },
    );
    with(server().service(service), |channel, _| {
        let caller = Caller::new(channel.open().unwrap());
        let (mut out, mut replies) = caller.streaming::<String, String>("/t.E/Refuse").unwrap();
        out.send(&"x".repeat(10)).unwrap();
        let error = replies.next().unwrap().unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        assert!(replies.next().is_none());
        assert!(out.send(&String::new()).is_err());
    });
}

#[test]
fn a_drain_answers_what_has_begun_and_the_client_goes_elsewhere() {
    run(|| {
        let (goes_on, gate) = maniple::sync::channel::bounded::<()>(0);
        let serve = || {
            let gate = gate.clone();
            let held = Service::new("t.G").unary("Hold", move |_: &mut Call, _: String| {
                gate.recv().unwrap();
                Ok::<_, Status>(String::new())
            });
            let server = server().service(held).bind("127.0.0.1:0").unwrap();
            let (address, handle) = (server.local_addr(), server.handle());
            (address, handle, maniple::spawn(move || server.serve()))
        };
        let ((first, handle, serving), (second, other_handle, other)) = (serve(), serve());
        let channel = Channel::builder(first.to_string()).or(second.to_string());
        let caller = Caller::new(channel.open().unwrap());
        caller
            .unary::<String, String>(ECHO, &String::new())
            .unwrap();
        let theirs = caller.clone();
        let slow = maniple::spawn(move || {
            let held = theirs.unary::<String, String>("/t.G/Hold", &String::new());
            held.map(drop)
        });
        while handle
            .connections()
            .first()
            .is_none_or(|each| each.calls == 0)
        {
            maniple::sleep(Duration::from_millis(1));
        }
        handle.drain();
        for _ in 0..100 {
            caller
                .unary::<String, String>(ECHO, &String::new())
                .unwrap();
        }
        goes_on.send(()).unwrap();
        slow.join().unwrap().unwrap();
        serving.join().unwrap().unwrap();
        assert_eq!(other_handle.connections().len(), 1);
        other_handle.drain();
        other.join().unwrap().unwrap();
    });
}

#[test]
fn a_second_instance_does_not_get_the_port() {
    with(server(), |_, handle| {
        drop(handle);
        let first = server().bind("127.0.0.1:0").unwrap();
        let second = server().bind(first.local_addr()).unwrap_err();
        assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    });
}

#[test]
fn connections_are_seen_by_name_and_by_the_addresses_that_ss_shows() {
    with(server().name("ledger"), |channel, handle| {
        let channel = channel.name("bil\"ling").open().unwrap();
        Caller::new(channel.clone())
            .unary::<String, String>(ECHO, &String::new())
            .unwrap();
        let (here, there) = (
            channel.connection().unwrap(),
            handle.connections().remove(0),
        );
        assert_eq!((&*here.name, &*there.name), ("ledger", "bil\"ling"));
        assert_eq!((here.local, here.peer), (there.peer, there.local));
        assert!(handle.metrics().contains("name=\"bil\\\"ling\""));
        assert!(
            channel
                .metrics()
                .contains("rpc_client_send_queue_bytes{peer=")
        );
    });
}
