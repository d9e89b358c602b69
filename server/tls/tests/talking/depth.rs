//! How deep handshakes go: a coroutine's default stack is enough for them, and more than enough.

use std::io::{Read, Write};

use maniple::{
    Runtime,
    inspect::{self, MeasureDepths},
    net::{TcpListener, TcpStream},
};
use maniple_tls::{Certificate, ClientConfig, Provider, ServerConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384};

use super::LONG;

/// What coroutines have, unless they are told otherwise.
const DEFAULT_STACK: usize = 256 * 1024;

/// A chain of certificates below a root, and the last one's key, all of a large curve.
fn chain(length: usize) -> (String, String, String) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        (
            params,
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        )
    };
    let (params, key) = authority("root");
    let root = params.self_signed(&key).unwrap().pem();
    let mut issuer = Issuer::new(params, key);
    let mut between = Vec::new();
    for depth in 0..length {
        let (params, key) = authority(&format!("authority {depth}"));
        between.push(params.signed_by(&key, &issuer).unwrap().pem());
        issuer = Issuer::new(params, key);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    between.push(params.signed_by(&key, &issuer).unwrap().pem());
    between.reverse();
    (root, between.concat(), key.serialize_pem())
}

#[test]
fn half_the_default_stack_is_enough_for_chains_and_clients_certificates() {
    #[allow(unused_mut, reason = "there may be one provider alone")]
    let mut providers = vec![Provider::default()];
    #[cfg(all(feature = "ring", feature = "aws-lc-rs"))]
    providers.push(Provider::AwsLcRs);
    for provider in providers {
        let (root, chain, key) = chain(3);
        let certificate = Certificate::pem(chain, key);
        let server = ServerConfig::builder()
            .certificate(certificate.clone())
            .required_client_certificates_pem(root.clone())
            .provider(provider);
        let client = ClientConfig::builder()
            .certificate(certificate)
            .roots_pem(root)
            .provider(provider);
        let (server, client) = (server.build().unwrap(), client.build().unwrap());
        let runtime = Runtime::builder().workers(1).stack_size(DEFAULT_STACK);
        let runtime = runtime.build().unwrap();
        inspect::measure_depths(MeasureDepths::OnFreshStacks);
        runtime.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..3 {
                let config = client.clone();
                let asking = maniple::task::Builder::new().name("tls client");
                let asking = asking.spawn(move || {
                    let stream = TcpStream::connect(address).unwrap();
                    let mut stream = config.stream(stream, "localhost").unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    stream.write_all(b"x").unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                });
                let stream = server.stream(listener.accept().unwrap().0).unwrap();
                let answering = maniple::task::Builder::new().name("tls server");
                let answering = answering.spawn(move || {
                    let mut stream = stream;
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                    stream.write_all(b"x").unwrap();
                });
                asking.unwrap().join().unwrap();
                answering.unwrap().join().unwrap();
            }
        });
        inspect::measure_depths(MeasureDepths::Off);
        let depths = inspect::depths();
        for side in ["tls client", "tls server"] {
            let depths = depths.iter().filter(|depths| depths.name() == Some(side));
            let deepest = depths.map(|depths| depths.deepest()).max().unwrap();
            println!("{provider:?}, {side}: {deepest} bytes");
            assert!(deepest > 0, "it is measured");
            assert!(
                deepest <= DEFAULT_STACK / 2,
                "{provider:?}, {side}: {deepest}"
            );
        }
    }
}
