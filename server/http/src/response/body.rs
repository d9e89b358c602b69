//! Bodies of responses.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Read},
};

use bytes::Bytes;

use crate::{
    problem::Problem,
    server::upgrade::Takeover,
    source::{Plain, Source},
    writer::BodyWriter,
};

/// The body of a response: bytes, or a reader that is sent as it is read.
pub struct Body {
    pub(crate) kind: BodyKind,
}

pub(crate) enum BodyKind {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Bytes),
    Reader {
        reader: Box<dyn Source>,
        length: Option<u64>,
    },
    /// What the function writes, which is lent the request's body.
    Writer {
        write: Write,
        length: Option<u64>,
    },
    /// None: the connection is to be handed over.
    Takeover(Takeover),
    /// A line of text, unless there is another form for all of them.
    Problem(Box<Problem>),
}

/// A function that writes a body, and may read that of the request meanwhile.
pub(crate) type Write =
    Box<dyn FnOnce(&mut (dyn Read + Send), &mut BodyWriter<'_>) -> io::Result<()> + Send>;

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self {
            kind: BodyKind::Static(b""),
        }
    }

    /// What `reader` gives, of unknown length: sent in chunks. An error of the reader breaks the
    /// connection off, so that the client sees that the body is incomplete.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self {
            kind: BodyKind::Reader {
                reader: Box::new(Plain(reader)),
                length: None,
            },
        }
    }

    /// The first `length` bytes that `reader` gives; fewer break the connection off.
    pub fn from_sized_reader(reader: impl Read + Send + 'static, length: u64) -> Self {
        Self::from_source(Plain(reader.take(length)), length)
    }

    /// What a source gives, which is of that length.
    pub(crate) fn from_source(source: impl Source + 'static, length: u64) -> Self {
        Self {
            kind: BodyKind::Reader {
                reader: Box::new(source),
                length: Some(length),
            },
        }
    }

    /// What `write` writes, of unknown length: sent in chunks, as [`Flush`](crate::Flush) says. It is called once the head is
    /// on its way, in the connection's coroutine, and may wait.
    ///
    /// An error of the function, or a panic, breaks the connection off, so that the client sees that the body is
    /// incomplete.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    /// use maniple_server::{Body, Request, Response};
    /// fn count(_: &mut Request) -> Response {
    ///     Response::text(Body::from_fn(|out| {
    ///         for number in 1..=3 {
    ///             writeln!(out, "{number}")?;
    ///             maniple::sleep(std::time::Duration::from_millis(5)); // it leaves meanwhile
    ///         }
    ///         Ok(())
    ///     }))
    /// }
    /// let answer = count(&mut Request::for_test("GET", "/"));
    /// assert_eq!(answer.into_text().unwrap(), "1\n2\n3\n");
    /// ```
    pub fn from_fn(
        write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::written(None, |_, out| write(out))
    }

    /// A body like [`Body::from_fn`]'s, with a length that the client is told. Fewer bytes break the connection off; a write beyond
    /// them is an error of kind `InvalidInput`.
    pub fn from_sized_fn(
        length: u64,
        write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::written(Some(length), |_, out| write(out))
    }

    /// A body like [`Body::from_fn`]'s, with what is left of the request's body to read meanwhile: an echo, or a proxy. A
    /// client that does not take what is written has the function wait, and so is no longer read from.
    ///
    /// Clients that send all before they read anything, as many do, stand still once what is between is full: the answer
    /// is then cut after `body_timeout`. Errors of the reader carry a [`BodyError`](crate::BodyError). A client
    /// that expects `100 Continue` is sent it before the head.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Body, Request, Response, Router};
    /// let router = Router::new().post("/echo", |_: &mut Request| {
    ///     Response::new(http::StatusCode::OK).with_body(Body::duplex(|request, out| {
    ///         maniple::io::copy(request, out).map(drop)
    ///     }))
    /// });
    /// # let _ = router;
    /// ```
    pub fn duplex(
        write: impl FnOnce(&mut (dyn Read + Send), &mut BodyWriter<'_>) -> io::Result<()>
        + Send
        + 'static,
    ) -> Self {
        Self::written(None, write)
    }

    pub(crate) fn written(
        length: Option<u64>,
        write: impl FnOnce(&mut (dyn Read + Send), &mut BodyWriter<'_>) -> io::Result<()>
        + Send
        + 'static,
    ) -> Self {
        let write = Box::new(write);
        Self {
            kind: BodyKind::Writer { write, length },
        }
    }

    /// The bytes, or itself if they are still to be made.
    pub(crate) fn into_at_hand(self) -> Result<Bytes, Self> {
        match self.kind {
            BodyKind::Static(bytes) => Ok(Bytes::from_static(bytes)),
            BodyKind::Owned(bytes) => Ok(bytes.into()),
            BodyKind::Shared(bytes) => Ok(bytes),
            BodyKind::Problem(problem) => Ok(problem.line().to_owned().into()),
            BodyKind::Takeover(_) => Ok(Bytes::new()),
            BodyKind::Reader { .. } | BodyKind::Writer { .. } => Err(self),
        }
    }

    /// Whether it is made while it is sent.
    #[cold]
    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.kind, BodyKind::Reader { .. } | BodyKind::Writer { .. })
    }

    /// Whether what makes it may read the request's body meanwhile.
    #[cold]
    pub(crate) fn may_read(&self) -> bool {
        matches!(self.kind, BodyKind::Writer { .. })
    }

    /// Whether there is memory to give back, and no more.
    #[inline]
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.kind, BodyKind::Owned(_))
    }

    /// Whether dropping it runs code that is not ours.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        !matches!(self.kind, BodyKind::Static(_) | BodyKind::Owned(_))
    }

    /// The bytes, unless it is a reader.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match &self.kind {
            BodyKind::Static(bytes) => Some(bytes),
            BodyKind::Owned(bytes) => Some(bytes),
            BodyKind::Shared(bytes) => Some(bytes),
            BodyKind::Problem(problem) => Some(problem.line().as_bytes()),
            BodyKind::Reader { .. } | BodyKind::Writer { .. } | BodyKind::Takeover(_) => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            None => f.write_str(match self.kind {
                BodyKind::Takeover(_) => "Body(takes the connection over)",
                BodyKind::Writer { .. } => "Body(function)",
                _ => "Body(reader)",
            }),
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self {
            kind: BodyKind::Static(bytes),
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            kind: BodyKind::Owned(bytes),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            kind: BodyKind::Shared(bytes),
        }
    }
}
