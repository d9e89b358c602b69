//! Calls over Unix-domain sockets and over TLS are as those over TCP.

mod driven;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use maniple::net::{TcpStream, UnixListener};
use maniple_rpc::{
    Address, Call, Caller, Channel, Code, Replies, Requests, Server, ServerHandle, Service, Status,
    channel, server,
    tls::{ClientConfig, ServerConfig, self_signed},
};

/// Runs a test in a runtime, with a folder of its own.
fn run(name: &str, test: impl FnOnce(&Path) + Send + 'static) {
    let folder = Folder::new(name);
    let path = folder.0.clone();
    driven::run(move || test(&path));
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

fn builder() -> server::Builder {
    let service = Service::new("t.T")
        .unary("Echo", |call: &mut Call, text: String| {
            call.attach_to_answer(call.attachment().clone());
            let peer = call.peer().to_string();
            assert!(call.answer_metadata_mut().insert("peer", peer));
            Ok::<_, Status>(text)
        })
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
        );
    Server::builder().service(service)
}

fn serve(server: Server, test: impl FnOnce(String, ServerHandle)) {
    let (address, handle) = (server.address().to_string(), server.handle());
    let serving = maniple::spawn(move || server.serve());
    test(address, handle.clone());
    handle.drain();
    serving.join().unwrap().unwrap();
}

/// Many calls at a time with attachments that fill sockets, and a stream both ways.
fn call_all(channel: channel::Builder) {
    let caller = Caller::new(channel.open().unwrap());
    maniple::group(|g| {
        for number in 0..20_u8 {
            let caller = &caller;
            g.spawn(move || {
                for turn in 0..10_usize {
                    let large = vec![number; turn * 40_000];
                    let caller = caller.clone().with_attachment(large.clone());
                    let text = format!("{number} in {turn}");
                    let reply = caller.unary::<String, String>("/t.T/Echo", &text).unwrap();
                    assert_eq!(
                        (reply.as_str(), &reply.attachment()[..]),
                        (text.as_str(), &large[..])
                    );
                }
            });
        }
        g.spawn(|| {
            let (mut sending, replies) = caller.streaming::<String, String>("/t.T/Talk").unwrap();
            maniple::group(|g| {
                g.spawn(move || {
                    for number in 0..500 {
                        sending
                            .send_with(&number.to_string(), vec![7; 5000])
                            .unwrap();
                    }
                    sending.finish();
                });
                let texts: Vec<_> = replies.map(Result::unwrap).collect();
                assert!(
                    texts
                        .iter()
                        .enumerate()
                        .all(|(number, text)| *text == number.to_string())
                );
                assert_eq!(texts.len(), 500);
                Ok::<_, ()>(())
            })
            .unwrap();
        });
        Ok::<_, ()>(())
    })
    .unwrap();
}

#[test]
fn calls_go_over_a_unix_socket_by_its_path_or_its_name() {
    run("unix", |folder| {
        let path = folder.join("t.sock");
        let name = format!("@maniple-rpc-{}", std::process::id());
        for at in [path.to_str().unwrap(), &name] {
            serve(builder().bind_unix(at).unwrap(), |address, handle| {
                assert_eq!(address, format!("unix:{at}"));
                call_all(Channel::builder(address.as_str()).checksums(true));
                let caller = Caller::new(Channel::to(address).unwrap());
                let reply = caller
                    .unary::<String, String>("/t.T/Echo", &"a".to_owned())
                    .unwrap();
                // A client has none.
                assert_eq!(reply.metadata().get("peer"), Some(&b"unix:"[..]));
                let here = Address::Unix(at.to_owned());
                assert!(handle.connections().iter().any(|each| each.local == here));
                assert!(handle.metrics().contains(&format!("local=\"unix:{at}\"")));
            });
        }
        assert!(!path.exists(), "its socket is removed with it");
    });
}

#[test]
fn a_path_is_the_guard_of_a_single_instance_and_what_a_dead_process_left_is_replaced() {
    run("guard", |folder| {
        let path = folder.join("t.sock");
        // As after a crash: a file, and nobody behind it.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        serve(builder().bind_unix(&path).unwrap(), |address, _| {
            let second = builder().bind_unix(&path).unwrap_err();
            assert_eq!(second.kind(), ErrorKind::AddrInUse);
            call_all(Channel::builder(address));
        });
        let other = folder.join("other");
        fs::write(&other, "a file of somebody's").unwrap();
        assert!(builder().bind_unix(&other).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "a file of somebody's");
        serve(builder().bind_unix(&path).unwrap(), |address, _| {
            call_all(Channel::builder(address));
        });
    });
}

#[test]
fn a_client_meets_the_next_process_on_a_path() {
    run("restart", |folder| {
        let path = folder.join("t.sock");
        let channel = Channel::to(format!("unix:{}", path.display())).unwrap();
        let caller = Caller::new(channel);
        for _ in 0..3 {
            serve(builder().bind_unix(&path).unwrap(), |_, _| {
                for turn in 0..20 {
                    let text = turn.to_string();
                    assert_eq!(
                        *caller.unary::<String, String>("/t.T/Echo", &text).unwrap(),
                        text
                    );
                }
            });
        }
    });
}

fn configs() -> (ServerConfig, ClientConfig) {
    let certificate = self_signed(["127.0.0.1"]).unwrap();
    let believed = certificate.chain_pem();
    (
        ServerConfig::builder()
            .certificate(certificate)
            .build()
            .unwrap(),
        ClientConfig::builder().roots_pem(believed).build().unwrap(),
    )
}

#[test]
fn calls_go_over_tls() {
    run("tls", |_| {
        let (ours, theirs) = configs();
        let server = builder().tls(ours).bind("127.0.0.1:0").unwrap();
        serve(server, |address, handle| {
            call_all(Channel::builder(address.as_str()).tls(theirs.clone()));
            let channel = Channel::builder(address).tls(theirs).open().unwrap();
            let caller = Caller::new(channel.clone());
            let reply = caller
                .unary::<String, String>("/t.T/Echo", &"a".to_owned())
                .unwrap();
            let here = channel.connection().unwrap().local.to_string();
            assert_eq!(reply.metadata().get("peer"), Some(here.as_bytes()));
            assert!(!handle.connections().is_empty());
        });
    });
}

#[test]
fn who_speaks_no_tls_or_another_certificate_is_not_answered_and_others_are() {
    run("no tls", |_| {
        let (ours, theirs) = configs();
        let (_, strangers) = configs();
        let server = builder().tls(ours).bind("127.0.0.1:0").unwrap();
        serve(server, |address, _| {
            // It says nothing at all, for as long as it likes.
            let silent = TcpStream::connect(&address).unwrap();
            let patience = Duration::from_millis(300);
            for channel in [
                Channel::builder(address.as_str()),
                Channel::builder(address.as_str()).tls(strangers),
            ] {
                let caller = Caller::new(channel.connect_timeout(patience).open().unwrap());
                let failed = caller.unary::<String, String>("/t.T/Echo", &String::new());
                assert_eq!(failed.unwrap_err().code(), Code::Unavailable);
            }
            call_all(Channel::builder(address).tls(theirs));
            drop(silent);
        });
        let refused = builder().tls(configs().0).bind_unix("@maniple-rpc-never");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}
