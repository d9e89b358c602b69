//! What is recorded of calls, and that it can be replayed.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use maniple::net::TcpListener;
use maniple_rpc::{
    Call, Caller, Channel, Code, Replies, Requests, Server, ServerHandle, Service, Status, proxy,
    record::Recorder,
    replay::{Error, Pace, Replay},
    server,
};

/// Runs a test in a runtime, with a folder of its own, and fails it if it takes longer than any should.
fn run(name: &str, test: impl FnOnce(&Path) + Send + 'static) {
    let folder = Folder::new(name);
    let path = folder.0.clone();
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(|| test(&path));
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("maniple-rpc-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A method of each kind. `other` answers otherwise.
fn service(other: bool) -> Service {
    Service::new("t.T")
        .unary("Echo", move |call: &mut Call, text: String| {
            call.attach_to_answer(call.attachment().clone());
            let process = std::process::id().to_string();
            assert!(call.answer_metadata_mut().insert("process", process));
            match (other, text.as_str()) {
                (true, "7") => Ok("seven".to_owned()),
                (true, "8") => Err(Status::new(Code::NotFound, "none")),
                _ => Ok(text),
            }
        })
        .unary("Fail", |_: &mut Call, text: String| {
            Err::<String, _>(Status::new(Code::NotFound, text).with_details(vec![0, 255]))
        })
        .server_streaming(
            "Repeat",
            move |_: &mut Call, times: u64, replies: &mut Replies<'_, u64>| {
                let times = if other { times + 1 } else { times };
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

fn with(builder: server::Builder, test: impl FnOnce(String, ServerHandle)) {
    let server = builder.bind("127.0.0.1:0").unwrap();
    let (address, handle) = (server.local_addr().to_string(), server.handle());
    let serving = maniple::spawn(move || server.serve());
    test(address, handle.clone());
    handle.drain();
    serving.join().unwrap().unwrap();
}

fn server(other: bool) -> server::Builder {
    Server::builder().service(service(other))
}

const ECHOES: u64 = 40;
/// How many calls `call_all` makes.
const CALLS: u64 = ECHOES + 6;

/// Calls of each kind.
fn call_all(channel: &Channel) {
    let caller = Caller::new(channel.clone());
    maniple::group(|g| {
        for worker in 0..4 {
            let caller = &caller;
            g.spawn(move || {
                for number in (worker..ECHOES).step_by(4) {
                    let text = number.to_string();
                    let large = vec![number as u8; number as usize * 997];
                    let caller = caller.clone().with_attachment(large.clone());
                    let reply = caller.unary::<String, String>("/t.T/Echo", &text).unwrap();
                    assert_eq!(
                        (reply.as_str(), &reply.attachment()[..]),
                        (text.as_str(), &large[..])
                    );
                }
            });
        }
        Ok::<_, ()>(())
    })
    .unwrap();
    let failed = caller.unary::<String, String>("/t.T/Fail", &"so".to_owned());
    assert_eq!(failed.unwrap_err().code(), Code::NotFound);
    let nothing = caller.unary::<String, String>("/t.T/Nothing", &String::new());
    assert_eq!(nothing.unwrap_err().code(), Code::Unimplemented);
    let replies = caller
        .server_streaming::<u64, u64>("/t.T/Repeat", &200)
        .unwrap();
    assert_eq!(replies.map(Result::unwrap).sum::<u64>(), 199 * 100);
    let mut counting = caller
        .client_streaming::<String, u64>("/t.T/Count")
        .unwrap();
    for _ in 0..300 {
        counting.send(&"x".repeat(1000)).unwrap();
    }
    assert_eq!(counting.finish().unwrap().into_inner(), 300_000);
    let (mut sending, mut replies) = caller.streaming::<String, String>("/t.T/Talk").unwrap();
    for turn in 0..50 {
        // Each follows from the one before.
        sending
            .send_with(&turn.to_string(), vec![turn; 2000])
            .unwrap();
        assert_eq!(replies.next().unwrap().unwrap(), turn.to_string());
    }
    sending.finish();
    assert!(replies.next().is_none());
    // The server hears that it is given up.
    let (mut sending, mut replies) = caller.streaming::<String, String>("/t.T/Talk").unwrap();
    sending.send(&"the last".to_owned()).unwrap();
    assert_eq!(replies.next().unwrap().unwrap(), "the last");
    drop(sending);
    assert_eq!(replies.next().unwrap().unwrap_err().code(), Code::Cancelled);
}

#[test]
fn what_a_server_has_recorded_is_replayed_and_answered_the_same() {
    run("server", |folder| {
        let path = folder.join("traffic.mrec");
        let recorder = Recorder::create(&path).unwrap();
        with(
            server(false).checksums(true).record(recorder.clone()),
            |address, _| {
                for _ in 0..2 {
                    call_all(
                        &Channel::builder(address.as_str())
                            .checksums(true)
                            .open()
                            .unwrap(),
                    );
                }
            },
        );
        let recorded = recorder.finish().unwrap();
        assert_eq!(recorded.left_out, 0);
        assert!(recorded.frames > 2 * 2 * CALLS, "{recorded:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), recorded.bytes);
        with(server(false), |address, handle| {
            for pace in [Pace::AsAnswered, Pace::Times(1.0), Pace::Times(1000.0)] {
                let replay = Replay::of(&path).pace(pace).compare_metadata(true);
                let summary = replay.to(address.as_str()).unwrap();
                assert!(summary.is_same(), "{pace:?}: {summary}");
                let counts = (summary.calls, summary.same, summary.not_compared);
                // The calls whose callers gave up.
                assert_eq!(counts, (2 * CALLS, 2 * CALLS - 2, 2), "{pace:?}: {summary}");
                assert!(summary.within(0.5).is_some());
            }
            // Its connections have gone with it, or are about to.
            while !handle.connections().is_empty() {
                maniple::yield_now();
            }
        });
    });
}

#[test]
fn what_a_channel_and_a_proxy_have_recorded_is_replayed_too() {
    run("proxy", |folder| {
        let (own, passed) = (folder.join("own.mrec"), folder.join("passed.mrec"));
        let recorders = [&own, &passed].map(|path| Recorder::create(path).unwrap());
        with(server(false), |address, _| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let front = listener.local_addr().unwrap().to_string();
            let recorder = recorders[1].clone();
            let passing = maniple::spawn(move || proxy::serve(&listener, &address, &recorder));
            let channel = Channel::builder(front).name("its client");
            let channel = channel.checksums(true).record(recorders[0].clone());
            let channel = channel.open().unwrap();
            call_all(&channel);
            drop(channel);
            passing.cancel();
            _ = passing.join();
        });
        for recorder in recorders {
            assert_eq!(recorder.finish().unwrap().left_out, 0);
        }
        with(server(false), |address, _| {
            for path in [own, passed] {
                let replay = Replay::of(&path).pace(Pace::AsAnswered);
                let summary = replay.to(address.as_str()).unwrap();
                let counts = (summary.calls, summary.same, summary.not_compared);
                assert_eq!(counts, (CALLS, CALLS - 1, 1), "{summary}");
            }
        });
    });
}

/// Records `call_all` at a server.
fn record(path: &Path) {
    let recorder = Recorder::create(path).unwrap();
    with(server(false).record(recorder.clone()), |address, _| {
        call_all(&Channel::to(address).unwrap());
    });
    assert_eq!(recorder.finish().unwrap().left_out, 0);
}

#[test]
fn answers_that_differ_are_told_with_their_call() {
    run("differences", |folder| {
        let path = folder.join("traffic.mrec");
        record(&path);
        with(server(true), |address, _| {
            let replay = Replay::of(&path).pace(Pace::AsAnswered);
            let summary = replay.clone().to(address.as_str()).unwrap();
            assert!(!summary.is_same());
            assert_eq!(
                (summary.different, summary.same),
                (3, CALLS - 4),
                "{summary}"
            );
            let told = summary.to_string();
            for words in [
                "another message",
                "NOT_FOUND (none), in the recording OK",
                "201 messages",
            ] {
                assert!(told.contains(words), "{words}: {told}");
            }
            let only = replay.only("/t.T/Repeat").to(address.as_str()).unwrap();
            assert_eq!((only.calls, only.different), (1, 1), "{only}");
            let none = Replay::of(&path)
                .only_idempotent(true)
                .to(address.as_str())
                .unwrap();
            assert_eq!((none.calls, none.passed_over), (0, CALLS), "{none}");
        });
    });
}

#[test]
fn a_recording_that_is_cut_is_replayed_up_to_there_and_says_where() {
    run("cut", |folder| {
        let path = folder.join("traffic.mrec");
        record(&path);
        let whole = fs::read(&path).unwrap();
        with(server(false), |address, _| {
            for cut in [whole.len() - 1, whole.len() * 2 / 3, whole.len() / 3] {
                fs::write(&path, &whole[..cut]).unwrap();
                let replay = Replay::of(&path).pace(Pace::AsAnswered);
                let summary = replay.to(address.as_str()).unwrap();
                assert!(!summary.is_same() && summary.different == 0, "{summary}");
                let damaged = summary.damaged.unwrap();
                assert!(damaged.at <= cut as u64 && damaged.records > 0, "{damaged}");
                assert_eq!(damaged.records, summary.records);
            }
            fs::write(&path, "something else, which is long enough").unwrap();
            let refused = Replay::of(&path).to(address.as_str()).unwrap_err();
            assert!(matches!(refused, Error::NoRecording(..)), "{refused}");
        });
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap().to_string();
        drop(nobody);
        fs::write(&path, &whole).unwrap();
        let replay = Replay::of(&path).patience(Duration::from_millis(50));
        let refused = replay.to(address).unwrap_err();
        assert!(matches!(refused, Error::NoServer(_)), "{refused}");
    });
}

#[test]
fn what_has_no_room_in_a_recording_is_left_out_and_counted_while_calls_go_on() {
    run("bounds", |folder| {
        let path = folder.join("traffic.mrec");
        let recorder = Recorder::builder().max_bytes(20_000).create(&path).unwrap();
        with(server(false).record(recorder.clone()), |address, _| {
            call_all(&Channel::to(address).unwrap());
        });
        let recorded = recorder.finish().unwrap();
        assert!(
            recorded.left_out > 0 && recorded.bytes <= 20_000,
            "{recorded:?}"
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), recorded.bytes);
        with(server(false), |address, _| {
            let replay = Replay::of(&path).pace(Pace::AsAnswered);
            let summary = replay.to(address).unwrap();
            assert!(summary.is_same(), "{summary}");
            assert!(summary.same > 0 && summary.left_out > 0, "{summary}");
        });
        let again = Recorder::create(&path).unwrap_err();
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    });
}

#[test]
fn a_recording_whose_runtime_ends_is_whole() {
    // Nobody drops it.
    static HELD: OnceLock<Recorder> = OnceLock::new();
    let folder = Folder::new("ends");
    let path = folder.0.join("traffic.mrec");
    let written = path.clone();
    maniple::Runtime::new().unwrap().run(move || {
        let recorder = Recorder::create(&written).unwrap();
        with(server(false).record(recorder.clone()), |address, _| {
            let caller = Caller::new(Channel::to(address).unwrap());
            caller
                .unary::<String, String>("/t.T/Echo", &"a".to_owned())
                .unwrap();
        });
        assert!(HELD.set(recorder).is_ok());
    });
    let shown = command(&["show", path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{text}{shown:?}");
    assert!(text.contains("> Request 0.1 /t.T/Echo message 3"), "{text}");
    assert!(text.ends_with("the end\n"), "{text}");
}

fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maniple-rpc"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Killed if it is left.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn the_command_records_as_a_proxy_shows_and_replays() {
    run("command", |folder| {
        let path = folder.join("traffic.mrec");
        let name = path.to_str().unwrap().to_owned();
        with(server(false), |address, _| {
            let (name, own) = (name.clone(), address.clone());
            let (front, recording) = maniple::offload(move || {
                let mut recording = Command::new(env!("CARGO_BIN_EXE_maniple-rpc"))
                    .args(["record", "--listen", "127.0.0.1:0", "--to", &own, &name])
                    .stdout(Stdio::piped())
                    .spawn()
                    .map(Running)
                    .unwrap();
                let mut lines = BufReader::new(recording.0.stdout.take().unwrap()).lines();
                let line = lines.next().unwrap().unwrap();
                let front = line.split(' ').next().unwrap().to_owned();
                (front, (recording, lines))
            })
            .unwrap();
            let channel = Channel::to(front).unwrap();
            call_all(&channel);
            drop(channel);
            maniple::offload(move || {
                let (mut recording, mut lines) = recording;
                let id = recording.0.id().to_string();
                assert!(
                    Command::new("kill")
                        .args(["-TERM", &id])
                        .status()
                        .unwrap()
                        .success()
                );
                let line = lines.next().unwrap().unwrap();
                assert!(line.contains("0 left out"), "{line}");
                assert!(recording.0.wait().unwrap().success());
            })
            .unwrap();
        });
        let replay = |address: &str| {
            let (name, address) = (name.clone(), address.to_owned());
            maniple::offload(move || command(&["replay", "--to", &address, "--as-answered", &name]))
                .unwrap()
        };
        with(server(false), |address, _| {
            let replayed = replay(&address);
            let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
            assert_eq!(replayed.status.code(), Some(0), "{text}{replayed:?}");
            let counts = format!("{CALLS} calls: {} answered the same, 0 not", CALLS - 1);
            assert!(text.contains(&counts), "{text}");
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            let replayed = replay(&address);
            let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
            assert_eq!(replayed.status.code(), Some(2), "{text}");
            assert!(
                text.contains("the recording is damaged: it is cut within a record, at byte"),
                "{text}"
            );
            fs::write(&path, &whole).unwrap();
        });
        with(server(true), |address, _| {
            let replayed = replay(&address);
            let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
            assert_eq!(replayed.status.code(), Some(1), "{text}{replayed:?}");
            assert!(text.contains("/t.T/Repeat"), "{text}");
        });
        let wrong = maniple::offload(|| command(&["replay", "--speed", "fast", "x"])).unwrap();
        assert_eq!(wrong.status.code(), Some(2));
    });
}

#[test]
fn who_ends_a_recording_is_told_only_once_all_of_it_is_written() {
    run("ended", |folder| {
        let path = folder.join("whole.mrec");
        let recorder = Recorder::create(&path).unwrap();
        let ends = maniple::group::map(4, 0..4, |_| {
            let recorded = recorder.clone().finish();
            (recorded, fs::metadata(&path).unwrap().len())
        });
        for (recorded, length) in ends {
            assert_eq!(recorded.unwrap().bytes, length);
        }
        // Who waits no longer does not know, and neither does who asks later.
        let cut = Recorder::create(folder.join("cut.mrec")).unwrap();
        let token = maniple::cancel::CancelToken::new();
        token.cancel();
        let other = cut.clone();
        assert!(!matches!(token.run(|| cut.finish()), Ok(Ok(_))));
        assert!(other.finish().is_err());
    });
}

#[test]
fn the_command_tells_a_mistake_in_one_line() {
    for (arguments, told) in [
        (&[][..], "record, replay or show?"),
        (&["--wrong"], "what is \"--wrong\"?"),
        (&["show"], "the name of a file is missing"),
        (&["replay", "a"], "--to is missing"),
        (&["replay", "--to"], "--to without a value"),
        (
            &["replay", "--to", "x", "--speed", "y", "z"],
            "\"y\" is no number",
        ),
        (
            &["replay", "--to", "127.0.0.1:1", "--speed", "NaN", "no/file"],
            "no/file",
        ),
        (&["show", "no/file"], "no/file"),
        (&["show", "Cargo.toml"], "this is no recording"),
    ] {
        let Output {
            status,
            stdout,
            stderr,
        } = command(arguments);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            stdout.is_empty() && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
}
