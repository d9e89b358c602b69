//! The service of gRPC's interoperability tests; `bin` has the server and the client.

use std::time::Duration;

use maniple_grpc::{
    Call, Code, Status,
    server::{Replies, Requests},
};

use testing::{
    BoolValue, EchoStatus, Empty, Payload, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse, TestService,
};

/// The cases, of a client.
pub mod cases;

/// The messages, the service and the client.
pub mod testing {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/grpc.testing.rs"));
}

/// A field that comes back before the answer, and one that comes back behind it.
pub const INITIAL: &str = "x-grpc-test-echo-initial";
/// As bytes.
pub const TRAILING: &str = "x-grpc-test-echo-trailing-bin";

/// The service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tested;

/// So many zeros.
pub fn payload(size: i32) -> Result<Option<Payload>, Status> {
    let size = usize::try_from(size).ok().filter(|&size| size <= MOST);
    let size = size.ok_or_else(|| Status::new(Code::InvalidArgument, "no such size"))?;
    Ok(Some(Payload {
        body: vec![0; size],
        ..Payload::default()
    }))
}

const MOST: usize = 64 << 20;

/// What the caller asked the call to end with.
fn asked(status: Option<EchoStatus>) -> Result<(), Status> {
    let Some(EchoStatus { code, message }) = status else {
        return Ok(());
    };
    match Code::from_number(code.unsigned_abs()) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, message)),
    }
}

fn expect(expected: Option<BoolValue>, was_compressed: bool) -> Result<(), Status> {
    match expected {
        Some(BoolValue { value }) if value != was_compressed => {
            let text = format!("compressed: {was_compressed}, expected: {value}");
            Err(Status::new(Code::InvalidArgument, text))
        }
        _ => Ok(()),
    }
}

/// Fields that are asked back; the first goes before the answer.
fn give_back(call: &mut Call) -> Option<String> {
    if let Some(bytes) = call.metadata().get_bytes(TRAILING) {
        let _ = call.trailers_mut().insert_bytes(TRAILING, &bytes);
    }
    call.metadata().get(INITIAL).map(str::to_owned)
}

fn answer(
    request: StreamingOutputCallRequest,
    replies: &mut Replies<'_, '_, StreamingOutputCallResponse>,
) -> Result<(), Status> {
    // The caller learns of compression at the beginning, or never.
    if request
        .response_parameters
        .iter()
        .any(|one| one.compressed.is_some_and(|one| one.value))
    {
        replies.compress(true);
    }
    for parameters in request.response_parameters {
        let pause = u64::try_from(parameters.interval_us).unwrap_or(0);
        maniple::sleep(Duration::from_micros(pause));
        replies.compress(parameters.compressed.is_some_and(|one| one.value));
        let payload = payload(parameters.size)?;
        replies.send(&StreamingOutputCallResponse { payload })?;
    }
    asked(request.response_status)
}

impl TestService for Tested {
    fn empty_call(&self, _: &mut Call, _: Empty) -> Result<Empty, Status> {
        Ok(Empty {})
    }

    fn unary_call(
        &self,
        call: &mut Call,
        request: SimpleRequest,
    ) -> Result<SimpleResponse, Status> {
        if let Some(text) = give_back(call) {
            let _ = call.headers_mut().insert(INITIAL, &text);
        }
        expect(request.expect_compressed, call.was_compressed())?;
        asked(request.response_status)?;
        call.compress(request.response_compressed.is_some_and(|one| one.value));
        Ok(SimpleResponse {
            payload: payload(request.response_size)?,
        })
    }

    fn streaming_output_call(
        &self,
        _: &mut Call,
        request: StreamingOutputCallRequest,
        replies: &mut Replies<'_, '_, StreamingOutputCallResponse>,
    ) -> Result<(), Status> {
        answer(request, replies)
    }

    fn streaming_input_call(
        &self,
        _: &mut Call,
        requests: &mut Requests<'_, StreamingInputCallRequest>,
    ) -> Result<StreamingInputCallResponse, Status> {
        let mut sum = 0_usize;
        while let Some(request) = requests.next().transpose()? {
            expect(request.expect_compressed, requests.was_compressed())?;
            sum = sum.saturating_add(request.payload.unwrap_or_default().body.len());
        }
        Ok(StreamingInputCallResponse {
            aggregated_payload_size: i32::try_from(sum).unwrap_or(i32::MAX),
        })
    }

    fn full_duplex_call(
        &self,
        call: &mut Call,
        requests: &mut Requests<'_, StreamingOutputCallRequest>,
        replies: &mut Replies<'_, '_, StreamingOutputCallResponse>,
    ) -> Result<(), Status> {
        if let Some(text) = give_back(call) {
            let _ = replies.headers_mut().insert(INITIAL, &text);
        }
        for request in requests {
            answer(request?, replies)?;
        }
        Ok(())
    }

    fn half_duplex_call(
        &self,
        _: &mut Call,
        requests: &mut Requests<'_, StreamingOutputCallRequest>,
        replies: &mut Replies<'_, '_, StreamingOutputCallResponse>,
    ) -> Result<(), Status> {
        let all: Vec<_> = requests.collect::<Result<_, _>>()?;
        all.into_iter().try_for_each(|one| answer(one, replies))
    }

    fn unimplemented_call(&self, _: &mut Call, _: Empty) -> Result<Empty, Status> {
        Err(Status::new(Code::Unimplemented, "nobody has it"))
    }
}
