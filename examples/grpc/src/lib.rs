//! A service with a method of each kind, as blocking code; its servers and clients are in `bin`.

use std::time::Duration;

use maniple_grpc::{
    Call, Code, Status,
    server::{Replies, Requests},
};

use chat::{Chat, Empty, Line};

/// The messages, the trait and the client of `proto/chat.proto`.
pub mod chat {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/chat.v1.rs"));
}

pub mod notes;
mod rpc;

/// The service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service;

impl Chat for Service {
    fn echo(&self, call: &mut Call, request: Line) -> Result<Line, Status> {
        // What came with it goes back with it.
        if let Some(text) = call.metadata().get("x-echo-initial").map(str::to_owned) {
            let _ = call.headers_mut().insert("x-echo-initial", &text);
        }
        if let Some(bytes) = call.metadata().get_bytes("x-echo-trailing-bin") {
            let _ = call
                .trailers_mut()
                .insert_bytes("x-echo-trailing-bin", &bytes);
        }
        match Code::from_number(request.number) {
            Code::Ok => Ok(request),
            code => Err(Status::new(code, request.text).with_details(request.payload)),
        }
    }

    fn nothing(&self, _: &mut Call, _: Empty) -> Result<Empty, Status> {
        Ok(Empty {})
    }

    fn repeat(
        &self,
        _: &mut Call,
        request: Line,
        replies: &mut Replies<'_, '_, Line>,
    ) -> Result<(), Status> {
        for number in 0..request.number {
            replies.send(&Line {
                number,
                ..request.clone()
            })?;
        }
        Ok(())
    }

    fn join(&self, _: &mut Call, requests: &mut Requests<'_, Line>) -> Result<Line, Status> {
        let mut joined = Line::default();
        for request in requests {
            joined.text += &request?.text;
            joined.number += 1;
        }
        Ok(joined)
    }

    fn talk(
        &self,
        _: &mut Call,
        requests: &mut Requests<'_, Line>,
        replies: &mut Replies<'_, '_, Line>,
    ) -> Result<(), Status> {
        for request in requests {
            replies.send(&request?)?;
        }
        Ok(())
    }

    fn wait(&self, _: &mut Call, request: Line) -> Result<Line, Status> {
        maniple::sleep(Duration::from_millis(request.number.into()));
        Ok(request)
    }
}
