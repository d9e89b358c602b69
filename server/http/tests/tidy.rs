//! Holds the sources against their map in ARCHITECTURE.md, and the protocol against what it must not know.

use maniple_tidy::Crate;

fn server() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`server/http/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = server().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_protocol_knows_no_sockets_and_no_runtime() {
    let server = server();
    let protocol = server
        .sources()
        .iter()
        .filter(|source| source.name.starts_with("http1/"));
    let mut files = 0;
    for source in protocol {
        let code = source.code();
        for unwanted in ["maniple", "std::net", "std::io", "std::thread", "Instant"] {
            assert!(!code.contains(unwanted), "{}.rs: {unwanted}", source.name);
        }
        files += 1;
    }
    assert!(files > 3, "the protocol is found");
}

#[test]
fn only_transports_know_sockets() {
    for source in server().sources() {
        // What a builder binds is TCP's.
        let may = ["transport/", "server/mod"];
        if !may.iter().any(|part| source.name.starts_with(part)) {
            let code = source.code();
            for unwanted in ["TcpStream", "UnixStream", "TcpListener", "UnixListener"] {
                assert!(!code.contains(unwanted), "{}.rs: {unwanted}", source.name);
            }
        }
    }
}

#[test]
fn files_say_what_lives_in_them() {
    for source in server().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}

#[test]
fn two_files_alone_know_tls() {
    for source in server().sources() {
        let may = ["transport/tls", "secure", "lib"];
        if !may.contains(&source.name.as_str()) {
            let code = source.code();
            assert!(!code.contains("maniple_tls"), "{}.rs", source.name);
        }
    }
}

/// Test programs that run over each driver: `MANIPLE_DRIVER=sim` has their tests in worlds.
const DRIVEN: &[&str] = &[
    "attacks.rs",
    "handlers",
    "http2",
    "lifecycle.rs",
    "served",
    "websocket",
];

/// Files of theirs that talk to other programs, and one that says itself where it is.
const BESIDE: &[&str] = &[
    "http2/main.rs",
    "http2/peers.rs",
    "http2/secure.rs",
    "websocket/clients.rs",
];

#[test]
fn tests_over_each_driver_ask_for_what_both_have() {
    let unwanted = [
        "std::thread::s",
        "std::net::Tcp",
        "std::sync::mpsc",
        "Instant::now",
        "maniple::run(",
        "maniple::Runtime",
    ];
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut paths = Vec::new();
    for program in DRIVEN.iter().map(|program| tests.join(program)) {
        match program.is_dir() {
            true => paths.extend(
                std::fs::read_dir(program)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            ),
            false => paths.push(program),
        }
    }
    let is_source = |path: &&std::path::PathBuf| {
        let is_beside = BESIDE.iter().any(|beside| path.ends_with(beside));
        path.extension().is_some_and(|extension| extension == "rs") && !is_beside
    };
    let sources: Vec<_> = paths.iter().filter(is_source).collect();
    assert!(sources.len() > 40, "the tests are found");
    for path in sources {
        let text = std::fs::read_to_string(path).unwrap();
        for unwanted in unwanted {
            let path = path.display();
            assert!(
                !text.contains(unwanted),
                "{path}: {unwanted}, which is not from `driven`"
            );
        }
    }
}
