//! What a tool is told of a server.

use maniple_grpc::{Caller, Channel, Reflection};
use maniple_grpc_interop::testing::FILE_DESCRIPTOR_SET;
use maniple_server::Server;

/// Of the service's messages, what is used here.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, optional, tag = "3")]
    file: Option<String>,
    #[prost(string, optional, tag = "4")]
    symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    services: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    failure: Option<Failure>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Failure {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[test]
fn both_versions_tell_of_services_and_of_the_file_of_a_symbol() {
    maniple::run(|| {
        let reflection = Reflection::new().files(FILE_DESCRIPTOR_SET).unwrap();
        let server = Server::builder(reflection.into_router());
        let server = server.bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let caller = Caller::new(Channel::to(address.to_string()));
        for path in [
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            let (mut out, mut answers) = caller.streaming::<Asked, Answer>(path).unwrap();
            let mut ask = |asked: Asked| {
                out.send(&asked).unwrap();
                answers.next().unwrap().unwrap()
            };
            let services = ask(Asked {
                services: Some(String::new()),
                ..Asked::default()
            });
            let names = services.services.unwrap().services;
            let names: Vec<_> = names.iter().map(|named| &*named.name).collect();
            let (tested, missing) = (
                "grpc.testing.TestService",
                "grpc.testing.UnimplementedService",
            );
            assert_eq!(names, [tested, missing]);
            for symbol in [
                "grpc.testing.TestService",
                "grpc.testing.TestService.UnaryCall",
                "grpc.testing.SimpleRequest",
                "grpc.testing.SimpleRequest.payload",
                "grpc.testing.PayloadType",
            ] {
                let answer = ask(Asked {
                    symbol: Some(symbol.to_owned()),
                    ..Asked::default()
                });
                assert_eq!(answer.files.expect(symbol).files.len(), 1);
            }
            for unknown in ["grpc.testing.Missing", "", ".", "grpc"] {
                let answer = ask(Asked {
                    symbol: Some(unknown.to_owned()),
                    ..Asked::default()
                });
                assert_eq!(answer.failure.expect(unknown).code, 5);
            }
            let answer = ask(Asked {
                file: Some("missing.proto".to_owned()),
                ..Asked::default()
            });
            assert_eq!(answer.failure.unwrap().code, 5);
            out.finish().unwrap();
            assert!(answers.next().is_none());
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn what_is_no_set_of_descriptors_is_refused() {
    assert!(Reflection::new().files(b"\xff\xff\xff").is_err());
    assert!(Reflection::new().files(b"").is_ok());
}
