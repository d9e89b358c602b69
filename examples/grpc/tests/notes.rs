//! A service that is written once is the same over both transports, and so are its clients.

use std::{sync::mpsc, thread, time::Duration};

use maniple_example_grpc::notes::{
    Note, Notes, NotesClient, NotesEither, NotesEitherClient, NotesRpcClient, Word,
};
use maniple_rpc::Code;

/// Runs a test in a runtime, with the same notes served over both, and fails it if it takes longer than any should.
fn with_both(test: impl FnOnce([NotesEitherClient; 2]) + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(|| {
            let notes = Notes::default();
            let rpc = maniple_rpc::Server::builder().service(notes.clone().into_rpc());
            let rpc = rpc.bind("127.0.0.1:0").unwrap();
            let grpc = maniple_server::Server::builder(notes.into_grpc().into_router());
            let grpc = grpc.bind("127.0.0.1:0").unwrap();
            let handles = (rpc.handle(), grpc.handle());
            let over_grpc = maniple_grpc::Channel::to(grpc.local_addr().to_string());
            let over_rpc = maniple_rpc::Channel::to(rpc.local_addr().to_string()).unwrap();
            let serving = (
                maniple::spawn(move || rpc.serve()),
                maniple::spawn(move || grpc.serve()),
            );
            test([
                NotesClient::new(over_grpc).into(),
                NotesRpcClient::new(over_rpc).into(),
            ]);
            handles.0.drain();
            handles.1.drain();
            serving.0.join().unwrap().unwrap();
            serving.1.join().unwrap().unwrap();
        });
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

fn note(text: &str) -> Note {
    Note {
        text: text.to_owned(),
    }
}

fn word(word: &str) -> Word {
    Word {
        word: word.to_owned(),
    }
}

#[test]
fn calls_of_each_kind_are_the_same_over_both_and_meet_the_same_service() {
    with_both(|clients| {
        let mut notes = 0;
        for client in &clients {
            notes += 1;
            assert_eq!(client.keep(&note("buy bread")).unwrap().notes, notes);
            let many = (0..100).map(|number| note(&format!("number {number}")));
            notes += 100;
            assert_eq!(client.keep_all(many).unwrap().notes, notes);
        }
        for client in &clients {
            let found = client.find(&word("bread")).unwrap();
            let found: Result<Vec<_>, _> = found.collect();
            assert_eq!(found.unwrap(), [note("buy bread"), note("buy bread")]);
            let (mut sending, mut answers) = client.count().unwrap();
            for (asked, count) in [("bread", 2), ("number", 200), ("milk", 0)] {
                sending.send(&word(asked)).unwrap();
                assert_eq!(answers.next().unwrap().unwrap().notes, count);
            }
            sending.finish().unwrap();
            assert!(answers.next().is_none());
        }
    });
}

#[test]
fn failures_and_fields_are_the_same_over_both() {
    with_both(|[over_grpc, over_rpc]| {
        for client in [&over_grpc, &over_rpc] {
            let refused = client.keep(&note("")).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!(refused.message(), "a note without text");
        }
        let (NotesEitherClient::Grpc(grpc), NotesEitherClient::Rpc(rpc)) = (over_grpc, over_rpc)
        else {
            panic!("made so above")
        };
        let mut metadata = maniple_grpc::Metadata::new();
        assert!(metadata.insert("author", "Ann"));
        let reply = grpc.with_metadata(metadata).keep(&note("a")).unwrap();
        assert_eq!(reply.trailers().get("author"), Some("Ann"));
        let mut metadata = maniple_rpc::Metadata::new();
        assert!(metadata.insert("author", "Ann"));
        let reply = rpc.with_metadata(metadata).keep(&note("b")).unwrap();
        assert_eq!(reply.metadata().get("author"), Some(&b"Ann"[..]));
    });
}
