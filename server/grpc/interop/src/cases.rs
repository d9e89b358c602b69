//! The cases, as a client sees them. Each is named as in gRPC's list.

use std::time::Duration;

use maniple::cancel::CancelToken;
use maniple_grpc::{Caller, Channel, Code, Metadata, Status, client::Replies};

use crate::{
    INITIAL, TRAILING, payload,
    testing::{
        BoolValue, EchoStatus, Empty, ResponseParameters, SimpleRequest, StreamingInputCallRequest,
        StreamingOutputCallRequest, StreamingOutputCallResponse, TestServiceClient,
        UnimplementedServiceClient,
    },
};

/// A server that can be asked anything.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub channel: Channel,
    /// Whether it knows which messages came compressed, and can choose that for each that it sends: some cannot.
    pub sees_compression: bool,
    /// Whether it can compress what it answers.
    pub compresses: bool,
}

type Case = fn(&Server) -> Result<(), Status>;

/// All of them.
pub const ALL: [(&str, Case); 18] = [
    ("empty_unary", empty_unary),
    ("large_unary", large_unary),
    ("client_compressed_unary", client_compressed_unary),
    ("server_compressed_unary", server_compressed_unary),
    ("client_streaming", client_streaming),
    ("client_compressed_streaming", client_compressed_streaming),
    ("server_streaming", server_streaming),
    ("server_compressed_streaming", server_compressed_streaming),
    ("ping_pong", ping_pong),
    ("empty_stream", empty_stream),
    ("custom_metadata", custom_metadata),
    ("status_code_and_message", status_code_and_message),
    ("special_status_message", special_status_message),
    ("unimplemented_method", unimplemented_method),
    ("unimplemented_service", unimplemented_service),
    ("cancel_after_begin", cancel_after_begin),
    ("cancel_after_first_response", cancel_after_first_response),
    ("timeout_on_sleeping_server", timeout_on_sleeping_server),
];

impl Server {
    fn client(&self) -> TestServiceClient {
        TestServiceClient::new(self.channel.clone())
    }

    fn compressing(&self, compress: bool) -> TestServiceClient {
        let caller = Caller::new(self.channel.clone());
        TestServiceClient::with_caller(caller.with_compression(compress))
    }
}

const ASKED: i32 = 314_159;
const GIVEN: i32 = 271_828;

fn yes_or_no(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

fn large() -> Result<SimpleRequest, Status> {
    Ok(SimpleRequest {
        response_size: ASKED,
        payload: payload(GIVEN)?,
        ..SimpleRequest::default()
    })
}

fn empty_unary(server: &Server) -> Result<(), Status> {
    server.client().empty_call(&Empty {}).map(drop)
}

fn large_unary(server: &Server) -> Result<(), Status> {
    let reply = server.client().unary_call(&large()?)?;
    assert_eq!(reply.payload, payload(ASKED)?);
    Ok(())
}

fn client_compressed_unary(server: &Server) -> Result<(), Status> {
    let expecting = |value| -> Result<_, Status> {
        Ok(SimpleRequest {
            expect_compressed: yes_or_no(value),
            ..large()?
        })
    };
    if server.sees_compression {
        let probed = server.compressing(false).unary_call(&expecting(true)?);
        assert_eq!(probed.unwrap_err().code(), Code::InvalidArgument);
    }
    for compress in [true, false] {
        let reply = server
            .compressing(compress)
            .unary_call(&expecting(compress)?)?;
        assert_eq!(reply.payload, payload(ASKED)?);
    }
    Ok(())
}

fn server_compressed_unary(server: &Server) -> Result<(), Status> {
    for compressed in [true, false] {
        let reply = server.client().unary_call(&SimpleRequest {
            response_compressed: yes_or_no(compressed),
            ..large()?
        })?;
        assert_eq!(reply.was_compressed(), compressed && server.compresses);
        assert_eq!(reply.payload, payload(ASKED)?);
    }
    Ok(())
}

fn client_streaming(server: &Server) -> Result<(), Status> {
    let mut call = server.client().streaming_input_call()?;
    for size in [27_182, 8, 1_828, 45_904] {
        call.send(&StreamingInputCallRequest {
            payload: payload(size)?,
            expect_compressed: None,
        })?;
    }
    assert_eq!(call.finish()?.aggregated_payload_size, 74_922);
    Ok(())
}

fn client_compressed_streaming(server: &Server) -> Result<(), Status> {
    let expecting = |size, value| -> Result<_, Status> {
        Ok(StreamingInputCallRequest {
            payload: payload(size)?,
            expect_compressed: yes_or_no(value),
        })
    };
    let client = server.compressing(true);
    if server.sees_compression {
        let mut probing = client.streaming_input_call()?;
        probing.compress(false);
        // It may have ended before all is sent.
        let _ = probing.send(&expecting(27_182, true)?);
        assert_eq!(probing.finish().unwrap_err().code(), Code::InvalidArgument);
    }
    let mut call = client.streaming_input_call()?;
    for (size, compress) in [(27_182, true), (45_904, false)] {
        call.compress(compress);
        call.send(&expecting(size, compress)?)?;
    }
    assert_eq!(call.finish()?.aggregated_payload_size, 73_086);
    Ok(())
}

fn of_size(size: i32) -> ResponseParameters {
    ResponseParameters {
        size,
        ..ResponseParameters::default()
    }
}

fn sizes(replies: &mut Replies<StreamingOutputCallResponse>) -> Result<Vec<usize>, Status> {
    let size = |reply: Result<StreamingOutputCallResponse, Status>| {
        reply.map(|reply| reply.payload.unwrap_or_default().body.len())
    };
    replies.map(size).collect()
}

fn server_streaming(server: &Server) -> Result<(), Status> {
    let request = StreamingOutputCallRequest {
        response_parameters: [31_415, 9, 2_653, 58_979].map(of_size).into(),
        ..StreamingOutputCallRequest::default()
    };
    let mut replies = server.client().streaming_output_call(&request)?;
    assert_eq!(sizes(&mut replies)?, [31_415, 9, 2_653, 58_979]);
    Ok(())
}

fn server_compressed_streaming(server: &Server) -> Result<(), Status> {
    let parameters = |size, compressed| ResponseParameters {
        compressed: yes_or_no(compressed),
        ..of_size(size)
    };
    let request = StreamingOutputCallRequest {
        response_parameters: vec![parameters(31_415, true), parameters(92_653, false)],
        ..StreamingOutputCallRequest::default()
    };
    let mut replies = server.client().streaming_output_call(&request)?;
    for (size, compressed) in [(31_415, true), (92_653, false)] {
        let reply = replies.next().expect("another")?;
        assert_eq!(replies.was_compressed(), compressed && server.compresses);
        assert_eq!(reply.payload.unwrap_or_default().body.len(), size);
    }
    assert!(replies.next().is_none());
    Ok(())
}

fn ping(answered: i32, sent: i32) -> Result<StreamingOutputCallRequest, Status> {
    Ok(StreamingOutputCallRequest {
        response_parameters: vec![of_size(answered)],
        payload: payload(sent)?,
        ..StreamingOutputCallRequest::default()
    })
}

fn ping_pong(server: &Server) -> Result<(), Status> {
    let (mut out, mut replies) = server.client().full_duplex_call()?;
    for (answered, sent) in [(31_415, 27_182), (9, 8), (2_653, 1_828), (58_979, 45_904)] {
        out.send(&ping(answered, sent)?)?;
        let reply = replies.next().expect("a pong")?;
        assert_eq!(reply.payload, payload(answered)?);
    }
    out.finish()?;
    assert!(replies.next().is_none());
    Ok(())
}

fn empty_stream(server: &Server) -> Result<(), Status> {
    let (out, mut replies) = server.client().full_duplex_call()?;
    out.finish()?;
    assert!(replies.next().is_none());
    Ok(())
}

fn custom_metadata(server: &Server) -> Result<(), Status> {
    let (text, bytes) = ("test_initial_metadata_value", [0xab; 3]);
    let mut metadata = Metadata::new();
    assert!(metadata.insert(INITIAL, text) && metadata.insert_bytes(TRAILING, &bytes));
    let client = server.client().with_metadata(metadata);
    let reply = client.unary_call(&large()?)?;
    assert_eq!(reply.headers().get(INITIAL), Some(text));
    assert_eq!(reply.trailers().get_bytes(TRAILING), Some(bytes.into()));

    let (mut out, mut replies) = client.full_duplex_call()?;
    out.send(&ping(ASKED, GIVEN)?)?;
    assert_eq!(replies.headers()?.get(INITIAL), Some(text));
    assert!(replies.next().transpose()?.is_some());
    out.finish()?;
    assert!(replies.next().is_none());
    assert_eq!(replies.trailers().get_bytes(TRAILING), Some(bytes.into()));
    Ok(())
}

fn ends_with(server: &Server, message: &str, streams: bool) -> Result<(), Status> {
    let response_status = Some(EchoStatus {
        code: 2,
        message: message.to_owned(),
    });
    let one = server.client().unary_call(&SimpleRequest {
        response_status: response_status.clone(),
        ..SimpleRequest::default()
    });
    let check = |status: Status| {
        assert_eq!((status.code(), status.message()), (Code::Unknown, message));
    };
    check(one.unwrap_err());
    if streams {
        let (mut out, mut replies) = server.client().full_duplex_call()?;
        out.send(&StreamingOutputCallRequest {
            response_status,
            ..StreamingOutputCallRequest::default()
        })?;
        // The call may have ended meanwhile.
        let _ = out.finish();
        check(replies.next().expect("a status").unwrap_err());
    }
    Ok(())
}

fn status_code_and_message(server: &Server) -> Result<(), Status> {
    ends_with(server, "test status message", true)
}

fn special_status_message(server: &Server) -> Result<(), Status> {
    let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    ends_with(server, message, false)
}

fn unimplemented_method(server: &Server) -> Result<(), Status> {
    let status = server.client().unimplemented_call(&Empty {}).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    Ok(())
}

fn unimplemented_service(server: &Server) -> Result<(), Status> {
    let client = UnimplementedServiceClient::new(server.channel.clone());
    let status = client.unimplemented_call(&Empty {}).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    Ok(())
}

fn cancel_after_begin(server: &Server) -> Result<(), Status> {
    let call = server.client().streaming_input_call()?;
    let token = CancelToken::new();
    token.cancel();
    let mut ended = None;
    let _ = token.run(|| ended = Some(call.finish().unwrap_err().code()));
    assert_eq!(ended, Some(Code::Cancelled));
    // Others go on.
    empty_unary(server)
}

fn cancel_after_first_response(server: &Server) -> Result<(), Status> {
    let (mut out, mut replies) = server.client().full_duplex_call()?;
    out.send(&ping(31_415, 27_182)?)?;
    let reply = replies.next().expect("a pong")?;
    assert_eq!(reply.payload, payload(31_415)?);
    let token = CancelToken::new();
    token.cancel();
    let mut ended = None;
    let _ = token.run(|| ended = replies.next().map(|reply| reply.unwrap_err().code()));
    assert_eq!(ended, Some(Code::Cancelled));
    drop((out, replies));
    empty_unary(server)
}

fn timeout_on_sleeping_server(server: &Server) -> Result<(), Status> {
    let mut ended = None;
    let _ = maniple::timeout(Duration::from_millis(1), || {
        let called = || -> Result<(), Status> {
            let (mut out, mut replies) = server.client().full_duplex_call()?;
            let mut request = ping(31_415, 27_182)?;
            request.response_parameters[0].interval_us = 60_000_000;
            out.send(&request)?;
            replies.next().map_or(Ok(()), |reply| reply.map(drop))
        };
        ended = Some(called().unwrap_err().code());
    });
    assert_eq!(ended, Some(Code::DeadlineExceeded));
    empty_unary(server)
}
