//! Bodies that a function writes while they are sent.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// What [`Body::from_fn`](crate::Body::from_fn) and [`Body::duplex`](crate::Body::duplex) have their function write to.
///
/// What is written leaves as [`Flush`] says. A client that takes it slowly has the writer wait; one that takes nothing for the
/// server's `body_timeout`, or is gone, fails the write. Then nothing more can be sent.
pub struct BodyWriter<'a> {
    sink: &'a mut dyn Sink,
}

/// When what is written to a [`BodyWriter`] leaves. It does at the latest when 16 KiB are there, at
/// [`flush`](Write::flush) and at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flush {
    /// With each write: one call of the kernel each.
    Each,
    /// Once so many bytes are there, however long that takes.
    Bytes(usize),
    /// Once the function has waited for so long, for whatever it waits. Default: 1 ms.
    After(Duration),
}

impl Default for Flush {
    fn default() -> Self {
        Flush::After(Duration::from_millis(1))
    }
}

/// What has become of bytes that were to be sent without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// They have left.
    Sent,
    /// They have been taken: a flush sends them.
    Taken,
    /// Nothing has been done: a write sends them.
    Not,
}

/// Where a body goes.
pub(crate) trait Sink {
    /// Takes all of it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn flush(&mut self) -> io::Result<()>;
    /// Takes all of it, and sends what there is room for, without waiting.
    fn try_send(&mut self, bytes: &[u8]) -> io::Result<Tried> {
        let _ = bytes;
        Ok(Tried::Not)
    }
    fn set_policy(&mut self, policy: Flush);
    fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()>;
    /// The fields of the head, if it has not left yet.
    fn headers_mut(&mut self) -> Option<&mut HeaderMap> {
        None
    }
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink }
    }

    /// When what is written from now on leaves.
    pub fn set_flush(&mut self, policy: Flush) {
        self.sink.set_policy(policy);
    }

    /// Sends without waiting, if that can be done here.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<Tried> {
        self.sink.try_send(bytes)
    }

    /// Adds a field to what follows the body.
    ///
    /// Over HTTP/1.1 its name must be among those that the answer's `Trailer` field lists, and trailers need chunks, so those of a body whose
    /// length was told beforehand, and those for HTTP/1.0, are left out. Many clients and proxies drop them: what the client
    /// cannot do without does not belong here.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the name is not listed, in HTTP/1.1; or is one that says how the message is to be read, such as
    /// `Content-Length` (RFC 9110, 6.5.1), or all trailers together are longer than 8 KiB.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    /// use maniple_server::{Body, HeaderName, HeaderValue, Response};
    /// let body = Body::from_fn(|out| {
    ///     let mut sum = 0_u32;
    ///     for part in ["one", "other"] {
    ///         sum = part.bytes().fold(sum, |sum, byte| sum.wrapping_add(byte.into()));
    ///         out.write_all(part.as_bytes())?;
    ///     }
    ///     out.trailer(HeaderName::from_static("x-sum"), HeaderValue::from(sum))
    /// });
    /// let response = Response::text(body).with_header("trailer", "x-sum");
    /// # let _ = response;
    /// ```
    pub fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()> {
        self.sink.trailer(name, value)
    }

    /// The fields of the answer's head, as long as it is [kept back](crate::Response::with_late_head). None once it has left;
    /// in HTTP/1.1 it has left before the function is called.
    pub fn headers_mut(&mut self) -> Option<&mut HeaderMap> {
        self.sink.headers_mut()
    }
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)?;
        Ok(bytes.len())
    }

    /// Lets what is there leave.
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").finish_non_exhaustive()
    }
}

/// Keeps the whole body, for who wants it as bytes. Trailers are left out.
impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_policy(&mut self, _: Flush) {}

    fn trailer(&mut self, _: HeaderName, _: HeaderValue) -> io::Result<()> {
        Ok(())
    }
}
