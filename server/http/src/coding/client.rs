//! Answers that come to the client in a coding.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};

use super::{NAMES, Travels, decoder::Decoder};
use crate::{
    body::Decode,
    client::{Builder, shared::Decoding},
};

impl Builder {
    /// Asks for answers that are compressed, and has their bodies read as they were before. Default: no.
    ///
    /// With the feature `gzip`, which is on by default, and with `brotli` and `zstd` in these codings, too. A request says so in
    /// `Accept-Encoding`, unless it has that field already, or `Range`: then nothing is decompressed. An answer that was
    /// has neither `Content-Encoding` nor `Content-Length` in its headers any more. One in a coding that was not asked for is
    /// left as it is.
    ///
    /// The body is decompressed as it is read, in bounded memory; [`max_body_bytes`](Builder::max_body_bytes) bounds what comes
    /// out of it by `bytes`, `text` and `json`. One that breaks off, or is not in that coding, is
    /// [`ClientError::Protocol`](crate::ClientError::Protocol).
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::Client;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder().decompression(true).build();
    /// println!("{}", client.get("http://127.0.0.1:9001/report")?.text()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn decompression(mut self, decompresses: bool) -> Self {
        self.decoding = decompresses.then_some(Decoding {
            accepted: HeaderValue::from_static(NAMES),
            decoder,
        });
        self
    }
}

/// What reads the body of an answer with these fields; they are made those of what comes out.
fn decoder(headers: &mut HeaderMap) -> Option<Box<dyn Decode>> {
    let fields = headers.get_all(CONTENT_ENCODING).iter();
    let Travels::In(coding) = Travels::of(fields.map(HeaderValue::as_bytes)) else {
        return None;
    };
    let decoder = Decoder::new(coding, u64::MAX).ok()?;
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    Some(Box::new(decoder))
}
