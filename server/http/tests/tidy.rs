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
