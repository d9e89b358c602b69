//! Holds the sources against their map in ARCHITECTURE.md, and the one file that knows rustls's connections.

use maniple_tidy::Crate;

fn tls() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`server/tls/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = tls().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn one_file_alone_knows_the_connections_of_rustls() {
    for source in tls().sources() {
        let code = source.code();
        if source.name != "session" {
            for unwanted in ["unbuffered", "UnbufferedServer", "UnbufferedClient"] {
                assert!(!code.contains(unwanted), "{}.rs: {unwanted}", source.name);
            }
        } else {
            for unwanted in ["maniple", "std::io::Read", "std::net", "Instant"] {
                assert!(!code.contains(unwanted), "{}.rs: {unwanted}", source.name);
            }
        }
    }
}

#[test]
fn files_say_what_lives_in_them() {
    for source in tls().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}
