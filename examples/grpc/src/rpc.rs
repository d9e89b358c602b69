//! The same service over RPC: a trait of its own, since what is beside the messages is another.

use std::time::Duration;

use maniple_rpc::{Call, Code, Replies, Requests, Status};

use crate::{
    Service,
    chat::{ChatRpc, Empty, Line},
};

impl ChatRpc for Service {
    fn echo(&self, call: &mut Call, request: Line) -> Result<Line, Status> {
        // What came beside it goes back with it, and is not copied.
        let attachment = call.attachment().clone();
        call.attach_to_answer(attachment);
        match Code::from_number(request.number) {
            Code::Ok => Ok(request),
            code => Err(Status::new(code, request.text).with_details(request.payload)),
        }
    }

    fn nothing(&self, call: &mut Call, _: Empty) -> Result<Empty, Status> {
        let process = std::process::id().to_string();
        let _ = call.answer_metadata_mut().insert("process", process);
        Ok(Empty {})
    }

    fn repeat(
        &self,
        _: &mut Call,
        request: Line,
        replies: &mut Replies<'_, Line>,
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
        replies: &mut Replies<'_, Line>,
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
