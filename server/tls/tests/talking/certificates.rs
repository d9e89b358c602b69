//! Whose certificate is shown and asked for, and how new ones come in.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use maniple_tls::{Certificate, ClientConfig, ConfigError, Error, Info, ServerConfig, self_signed};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::{LONG, acquainted, connected, in_a_runtime, strangers, tls_error};

/// Who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The certificate and the key.
    fn sign(&self, name: &str, dns: &[&str]) -> (String, String) {
        let names: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = format!("spiffe://example/{name}").try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }

    fn certify(&self, name: &str, dns: &[&str]) -> Certificate {
        let (certificate, key) = self.sign(name, dns);
        Certificate::pem(certificate, key)
    }

    fn client(&self) -> maniple_tls::ClientBuilder {
        ClientConfig::builder().roots_pem(self.pem.clone())
    }
}

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("maniple-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the client learns of a server that it asks for by that name.
fn shown(server: &ServerConfig, client: &ClientConfig, name: &str) -> std::io::Result<Info> {
    let (to_server, to_client) = connected();
    let client = client.stream(to_server, name)?;
    let server = server.stream(to_client)?;
    let (seen, _) = maniple::join!(client.handshake().cloned(), server.handshake().map(drop));
    seen
}

#[test]
fn each_name_gets_its_certificate_and_wildcards_cover_one_label() {
    in_a_runtime(|| {
        let authority = Authority::new();
        let client = authority.client().build().unwrap();
        let builder = ServerConfig::builder()
            .certificate(authority.certify("first", &["first.example", "127.0.0.1"]))
            .certificate(authority.certify("second", &["second.example"]))
            .certificate(authority.certify("wild", &["*.wild.example"]));
        let server = builder.clone().build().unwrap();
        for (asked, gets) in [
            ("first.example", "first"),
            ("SECOND.example", "second"),
            ("a.wild.example", "wild"),
            ("b.wild.example", "wild"),
            ("127.0.0.1", "first"),
        ] {
            let info = shown(&server, &client, asked).unwrap();
            assert_eq!(info.peer_name().as_deref(), Some(gets), "{asked}");
        }
        // The first, which is not for it.
        for other in ["a.b.wild.example", "wild.example", "third.example"] {
            let error = tls_error(shown(&server, &client, other));
            assert!(
                matches!(
                    error,
                    Error::Handshake(rustls::Error::InvalidCertificate(_))
                ),
                "{error}"
            );
        }
        let strict = builder.refuse_unknown_names(true).build().unwrap();
        assert!(shown(&strict, &client, "a.wild.example").is_ok());
        let error = tls_error(shown(&strict, &client, "third.example"));
        assert!(
            matches!(error, Error::Handshake(rustls::Error::AlertReceived(_))),
            "{error}"
        );
    });
}

#[test]
fn a_clients_certificate_is_asked_for_checked_and_readable() {
    in_a_runtime(|| {
        let (authority, other) = (Authority::new(), Authority::new());
        let certified =
            |clients: fn(maniple_tls::ServerBuilder, String) -> maniple_tls::ServerBuilder| {
                let server =
                    ServerConfig::builder().certificate(authority.certify("s", &["localhost"]));
                clients(server, authority.pem.clone()).build().unwrap()
            };
        let required = certified(|builder, roots| builder.required_client_certificates_pem(roots));
        let optional = certified(|builder, roots| builder.optional_client_certificates_pem(roots));
        let nobody = authority.client().build().unwrap();
        let known = authority
            .client()
            .certificate(authority.certify("worker 7", &["w7.example"]));
        let known = known.build().unwrap();
        let stranger = authority
            .client()
            .certificate(other.certify("worker 7", &["w7.example"]));
        let stranger = stranger.build().unwrap();
        let seen = |server: &ServerConfig, client: &ClientConfig| {
            let (client, server) = strangers(&(server.clone(), client.clone()));
            let (_, seen) = maniple::join!(
                {
                    // A client learns only after its own handshake that the server does not want it.
                    let _ = client.handshake();
                    (&client).read(&mut [0])
                },
                {
                    let seen = server.handshake().cloned();
                    drop(server);
                    seen
                }
            );
            seen
        };
        for server in [&required, &optional] {
            let info = seen(server, &known).unwrap();
            assert_eq!(info.peer_name().as_deref(), Some("worker 7"));
            assert_eq!(info.peer_dns_names(), ["w7.example"]);
            assert_eq!(info.peer_uris(), ["spiffe://example/worker 7"]);
            assert_eq!(info.peer_certificates().len(), 1);
            let error = tls_error(seen(server, &stranger));
            assert!(
                matches!(
                    error,
                    Error::Handshake(rustls::Error::InvalidCertificate(_))
                ),
                "{error}"
            );
        }
        assert!(
            seen(&optional, &nobody)
                .unwrap()
                .peer_certificates()
                .is_empty()
        );
        let error = tls_error(seen(&required, &nobody));
        assert_eq!(
            error,
            Error::Handshake(rustls::Error::NoCertificatesPresented)
        );
    });
}

#[test]
fn who_resumes_still_has_its_certificate() {
    in_a_runtime(|| {
        let authority = Authority::new();
        let server = ServerConfig::builder()
            .certificate(authority.certify("s", &["localhost"]))
            .required_client_certificates_pem(authority.pem.clone());
        let client = authority
            .client()
            .certificate(authority.certify("worker 7", &[]));
        let configs = (server.build().unwrap(), client.build().unwrap());
        for turn in 0..2 {
            let (client, server) = acquainted(&configs);
            (&server).write_all(b"x").unwrap();
            (&client).read_exact(&mut [0]).unwrap();
            let info = server.info().unwrap();
            assert_eq!(
                (info.is_resumed(), info.peer_name().as_deref()),
                (turn > 0, Some("worker 7"))
            );
        }
    });
}

#[test]
fn new_certificates_are_for_new_connections_and_old_ones_go_on() {
    in_a_runtime(|| {
        let authority = Authority::new();
        let folder = Folder::new("reload");
        let write = |name: &str| {
            let (certificate, key) = authority.sign(name, &["localhost"]);
            (
                folder.write("site.crt", &certificate),
                folder.write("site.key", &key),
            )
        };
        let (certificate, key) = write("old");
        let server = ServerConfig::builder().certificate(Certificate::files(&certificate, &key));
        let server = server.build().unwrap();
        let client = || authority.client().build().unwrap();
        let name = |client: &ClientConfig| shown(&server, client, "localhost").unwrap().peer_name();
        let configs = (server.clone(), client());
        let (old_client, old_server) = acquainted(&configs);
        assert_eq!(name(&client()).as_deref(), Some("old"));
        assert!(!server.reload().unwrap(), "nothing is new");
        // Half of it: the key does not fit, and all stays as it was.
        let (half, _) = authority.sign("half", &["localhost"]);
        folder.write("site.crt", &half);
        let error = server.reload().unwrap_err();
        assert!(matches!(error, ConfigError::Mismatch { .. }), "{error}");
        assert_eq!(name(&client()).as_deref(), Some("old"));
        write("new");
        assert!(server.reload().unwrap());
        assert_eq!(name(&client()).as_deref(), Some("new"));
        (&old_client).write_all(b"still there").unwrap();
        (&old_server).read_exact(&mut [0; 11]).unwrap();
    });
}

#[test]
fn files_that_change_and_a_hangup_have_certificates_read_again() {
    in_a_runtime(|| {
        let authority = Authority::new();
        let folder = Folder::new("watch");
        let write = |name: &str| {
            let (certificate, key) = authority.sign(name, &["localhost"]);
            (
                folder.write("site.crt", &certificate),
                folder.write("site.key", &key),
            )
        };
        let (certificate, key) = write("first");
        let server = ServerConfig::builder().certificate(Certificate::files(&certificate, &key));
        let server = server.build().unwrap();
        let client = authority.client().build().unwrap();
        let until_it_is = |name: &str| {
            let until = Instant::now() + LONG;
            while shown(&server, &client, "localhost")
                .unwrap()
                .peer_name()
                .as_deref()
                != Some(name)
            {
                assert!(Instant::now() < until, "{name} is not shown");
                maniple::sleep(Duration::from_millis(5));
            }
        };
        let reloading = server.reload_on_change(Duration::from_millis(10)).unwrap();
        write("second");
        until_it_is("second");
        // Beyond repair for a while, as between two writes.
        folder.write("site.key", "");
        maniple::sleep(Duration::from_millis(30));
        until_it_is("second");
        write("third");
        until_it_is("third");
        drop(reloading);
        let _reloading = server.reload_at_hangup().unwrap();
        write("fourth");
        signal_hook::low_level::raise(signal_hook::consts::SIGHUP).unwrap();
        until_it_is("fourth");
    });
}

#[test]
fn what_is_wrong_with_settings_is_told_with_the_file() {
    let folder = Folder::new("wrong");
    let authority = Authority::new();
    let (certificate, key) = authority.sign("s", &["localhost"]);
    let (_, other_key) = authority.sign("o", &["localhost"]);
    let certificate_file = folder.write("site.crt", &certificate);
    let build = |chain: &PathBuf, key: &PathBuf| {
        let server = ServerConfig::builder().certificate(Certificate::files(chain, key));
        server.build().unwrap_err().to_string()
    };
    let missing = folder.0.join("none.key");
    assert_eq!(
        build(&certificate_file, &missing),
        format!(
            "read {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let other = folder.write("other.key", &other_key);
    assert_eq!(
        build(&certificate_file, &other),
        format!(
            "the private key in {} is not that of the first certificate in {}",
            other.display(),
            certificate_file.display()
        )
    );
    let key_file = folder.write("site.key", &key);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let junk = folder.write("junk.crt", &format!("{certificate}{junk}"));
    let line = 1 + certificate.lines().count();
    let error = build(&junk, &key_file);
    let begins = format!(
        "{}, line {line}: the certificate is malformed",
        junk.display()
    );
    assert!(error.starts_with(&begins), "{error}");
    let junk = folder.write(
        "junk.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let error = build(&certificate_file, &junk);
    let begins = format!("{}, line 1: the private key cannot be used", junk.display());
    assert!(error.starts_with(&begins), "{error}");
    assert!(matches!(
        ServerConfig::builder().build(),
        Err(ConfigError::NoCertificate)
    ));
    assert!(
        ClientConfig::builder().build().is_err(),
        "it would believe nobody"
    );
    let certificate = || ServerConfig::builder().certificate(self_signed(["h"]).unwrap());
    assert!(certificate().max_handshakes(0).build().is_err());
    assert!(
        certificate()
            .handshake_timeout(Duration::ZERO)
            .build()
            .is_err()
    );
}

#[test]
fn an_ocsp_response_is_sent_along() {
    // What rustls's client shows nobody, its verifier gets.
    use std::sync::{Arc, Mutex};

    use rustls::{
        DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    #[derive(Debug, Default)]
    struct Sees(Mutex<Vec<u8>>);

    impl ServerCertVerifier for Sees {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            ocsp: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            *self.0.lock().unwrap() = ocsp.to_vec();
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }

    let folder = Folder::new("ocsp");
    let staple = folder.write("site.ocsp", "a response of an authority");
    let certificate = self_signed(["localhost"]).unwrap().ocsp_file(&staple);
    let server = ServerConfig::builder()
        .certificate(certificate)
        .build()
        .unwrap();
    let sees = Arc::new(Sees::default());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(sees.clone())
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let (to_server, to_client) = connected();
    let client = std::thread::spawn(move || {
        let mut client = rustls::StreamOwned::new(client, to_server);
        client.write_all(b"x").unwrap();
    });
    server
        .stream(to_client)
        .unwrap()
        .read_exact(&mut [0])
        .unwrap();
    client.join().unwrap();
    assert_eq!(*sees.0.lock().unwrap(), b"a response of an authority");
}
