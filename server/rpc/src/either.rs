//! Services that are written once and served over RPC and over gRPC: what their methods see of either.
//!
//! Generated code has the traits of these services, and makes a service of either kind from one that implements it; with
//! `Transport::Either` of `maniple-grpc-build`.

use std::time::Duration;

use prost::Message;

use crate::{
    client::Sending,
    service::{Call, Replies},
    status::Status,
};

/// A call, over whichever transport it came.
pub trait AnyCall {
    /// The first value of a field that the caller sent. Over gRPC, names that end with `-bin` have bytes, and others text.
    fn field(&self, name: &str) -> Option<Vec<u8>>;

    /// Adds a field that is sent behind the answer, as far as the transport has such names and values: false if not.
    fn answer_field(&mut self, name: &str, value: &[u8]) -> bool;

    /// How long the caller still waits, if it said so. The method's waits are cut then.
    fn remaining(&self) -> Option<Duration>;

    /// Who calls, for logs.
    fn peer(&self) -> String;
}

impl AnyCall for Call {
    fn field(&self, name: &str) -> Option<Vec<u8>> {
        self.metadata().get(name).map(<[u8]>::to_vec)
    }

    fn answer_field(&mut self, name: &str, value: &[u8]) -> bool {
        self.answer_metadata_mut().insert(name, value)
    }

    fn remaining(&self) -> Option<Duration> {
        Call::remaining(self)
    }

    fn peer(&self) -> String {
        Call::peer(self).to_string()
    }
}

/// Where a method's messages go.
pub trait AnyReplies<M> {
    /// Sends a message; waits while the caller has no room for it.
    ///
    /// # Errors
    /// If the caller is gone or waits no longer, or the message is larger than it takes.
    fn send(&mut self, message: &M) -> Result<(), Status>;
}

impl<M: Message> AnyReplies<M> for Replies<'_, M> {
    fn send(&mut self, message: &M) -> Result<(), Status> {
        Replies::send(self, message)
    }
}

/// The half of a client's call by which messages go.
pub trait AnySending<M>: Send {
    /// Sends a message; waits while the server has no room for it.
    ///
    /// # Errors
    /// If the call has ended, of which the answers say more; or as things are in the caller's scope.
    fn send(&mut self, message: &M) -> Result<(), Status>;

    /// Says that no more come.
    ///
    /// # Errors
    /// Those of [`send`](AnySending::send).
    fn finish(self: Box<Self>) -> Result<(), Status>;
}

impl<M: Message> AnySending<M> for Sending<M> {
    fn send(&mut self, message: &M) -> Result<(), Status> {
        Sending::send(self, message)
    }

    fn finish(self: Box<Self>) -> Result<(), Status> {
        Sending::finish(*self);
        Ok(())
    }
}

/// Messages that come, at either end.
pub type AnyMessages<'a, M> = dyn Iterator<Item = Result<M, Status>> + 'a;

/// Answers that come to a client.
pub type AnyAnswers<M> = Box<dyn Iterator<Item = Result<M, Status>> + Send>;
