//! Forms with files, as a request's body: `multipart/form-data` (RFC 7578).

use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    path::Path,
};

use bytes::{Buf, Bytes};
use http::HeaderValue;
use maniple::fs::File;

use crate::response::Body;

/// A form with files, for [`Request::form`](super::Request::form): its parts are sent in their order, and those that are read
/// from somewhere as they are read.
///
/// If the length of each part is known, the request says how long its body is; else that goes in chunks. A form that has only
/// what is in memory may be sent again, as any body in memory.
///
/// # Examples
/// ```no_run
/// use maniple_server::{Client, client::Form};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let form = Form::new().text("title", "at the sea").file("photo", "sea.jpg", "image/jpeg")?;
/// Client::new().post("http://127.0.0.1:9001/photos").form(form).send()?.error_for_status()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a form does nothing until it is sent"]
pub struct Form {
    boundary: String,
    pieces: VecDeque<Piece>,
    /// Of the pieces, as long as it is known.
    length: Option<u64>,
    /// A media type that is none.
    pub(super) bad_type: Option<String>,
}

enum Piece {
    Memory(Bytes),
    /// Of that length, if it is known: so much is still to come.
    Reader(Box<dyn Read + Send>, Option<u64>),
}

impl Form {
    /// One without parts.
    pub fn new() -> Self {
        let random = RandomState::new();
        let [first, second] =
            [0, 1].map(|nth| maniple::sim::random().unwrap_or_else(|| random.hash_one(nth)));
        Self {
            boundary: format!("maniple-{first:016x}{second:016x}"),
            pieces: VecDeque::new(),
            length: Some(0),
            bad_type: None,
        }
    }

    /// A field with a text.
    pub fn text(mut self, name: &str, value: impl Into<String>) -> Self {
        self.open(name, None, None);
        self.push(value.into().into());
        self.close()
    }

    /// A file of these bytes, with the name that the server is told.
    pub fn bytes(
        mut self,
        name: &str,
        file_name: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Self {
        self.open(name, Some(file_name), Some(media_type));
        self.push(bytes.into());
        self.close()
    }

    /// A file from the disk, which is opened now and read while it is sent. The server is told the last part of its path.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn file(self, name: &str, path: impl AsRef<Path>, media_type: &str) -> io::Result<Self> {
        let path = path.as_ref();
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.reader(name, &file_name, media_type, file, Some(length)))
    }

    /// A file of what a reader gives, of that length if it is known. One that ends before its length breaks the request off,
    /// with [`ClientError::Body`](crate::ClientError::Body); what it gives beyond is not read.
    pub fn reader(
        mut self,
        name: &str,
        file_name: &str,
        media_type: &str,
        reader: impl Read + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        self.open(name, Some(file_name), Some(media_type));
        self.length = match (self.length, length) {
            (Some(so_far), Some(length)) => so_far.checked_add(length),
            _ => None,
        };
        self.pieces
            .push_back(Piece::Reader(Box::new(reader), length));
        self.close()
    }

    /// What `Content-Type` says, and the body.
    pub(super) fn into_parts(mut self) -> (HeaderValue, Body) {
        let content_type = format!("multipart/form-data; boundary={}", self.boundary);
        let content_type = HeaderValue::try_from(content_type)
            .unwrap_or_else(|_| HeaderValue::from_static("multipart/form-data"));
        self.push(format!("--{}--\r\n", self.boundary).into());
        let in_memory = |piece: &Piece| matches!(piece, Piece::Memory(_));
        let length = self.length;
        let body = match (self.pieces.iter().all(in_memory), length) {
            (true, _) => {
                let mut whole = Vec::new();
                for piece in &self.pieces {
                    if let Piece::Memory(bytes) = piece {
                        whole.extend_from_slice(bytes);
                    }
                }
                whole.into()
            }
            (false, Some(length)) => Body::from_sized_reader(Pieces(self.pieces), length),
            (false, None) => Body::from_reader(Pieces(self.pieces)),
        };
        (content_type, body)
    }

    fn open(&mut self, name: &str, file_name: Option<&str>, media_type: Option<&str>) {
        let mut head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{}\"",
            self.boundary,
            escaped(name)
        );
        if let Some(file_name) = file_name {
            head += &format!("; filename=\"{}\"", escaped(file_name));
        }
        if let Some(media_type) = media_type {
            match HeaderValue::from_str(media_type) {
                Ok(_) => head += &format!("\r\nContent-Type: {media_type}"),
                Err(_) => self.bad_type = Some(media_type.to_owned()),
            }
        }
        self.push((head + "\r\n\r\n").into());
    }

    fn close(mut self) -> Self {
        self.push(Bytes::from_static(b"\r\n"));
        self
    }

    fn push(&mut self, bytes: Bytes) {
        self.length = self
            .length
            .and_then(|length| length.checked_add(bytes.len() as u64));
        self.pieces.push_back(Piece::Memory(bytes));
    }
}

impl Default for Form {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// As browsers write names between quotes.
fn escaped(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

struct Pieces(VecDeque<Piece>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match self.0.front_mut() {
                None => return Ok(0),
                Some(Piece::Memory(bytes)) => {
                    let count = bytes.len().min(buffer.len());
                    bytes.copy_to_slice(&mut buffer[..count]);
                    count
                }
                Some(Piece::Reader(_, Some(0))) => 0,
                Some(Piece::Reader(reader, None)) => reader.read(buffer)?,
                Some(Piece::Reader(reader, Some(left))) => {
                    let room =
                        usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    let count = reader.read(&mut buffer[..room])?;
                    if count == 0 && room > 0 {
                        let text =
                            format!("a file of the form ended {left} bytes before its length");
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                    }
                    *left -= count as u64;
                    count
                }
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, step: usize) -> io::Result<String> {
        let mut form = form;
        form.push(format!("--{}--\r\n", form.boundary).into());
        let boundary = form.boundary.clone();
        let (mut pieces, mut all) = (Pieces(form.pieces), Vec::new());
        let mut part = vec![0; step];
        loop {
            match pieces.read(&mut part)? {
                0 => break,
                count => all.extend_from_slice(&part[..count]),
            }
        }
        Ok(String::from_utf8(all).unwrap().replace(&boundary, "X"))
    }

    #[test]
    fn a_form_is_its_parts_between_boundaries_however_it_is_read() {
        let form = || {
            Form::new()
                .text("a", "b\r\nc")
                .bytes("f", "x\"y\r\nz", "text/plain", "data")
                .reader("r", "ä", "image/png", &b"pixels and more"[..], Some(6))
                .reader("e", "", "text/plain", io::empty(), None)
        };
        let expected = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\nc\r\n\
            --X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x%22y%0D%0Az\"\r\n\
            Content-Type: text/plain\r\n\r\ndata\r\n\
            --X\r\nContent-Disposition: form-data; name=\"r\"; filename=\"ä\"\r\n\
            Content-Type: image/png\r\n\r\npixels\r\n\
            --X\r\nContent-Disposition: form-data; name=\"e\"; filename=\"\"\r\n\
            Content-Type: text/plain\r\n\r\n\r\n--X--\r\n";
        for step in [1, 7, 4096] {
            assert_eq!(read(form(), step).unwrap(), expected);
        }
    }

    #[test]
    fn a_length_is_told_if_each_part_has_one_and_is_kept_to() {
        let sized = Form::new().reader("r", "r", "a/b", &b"four"[..], Some(4));
        assert!(sized.length.is_some());
        let open = Form::new().reader("r", "r", "a/b", &b"four"[..], None);
        assert_eq!(open.length, None);
        let huge = Form::new().reader("r", "r", "a/b", io::empty(), Some(u64::MAX));
        assert_eq!(huge.length, None, "it is more than can be told");
        let short = Form::new().reader("r", "r", "a/b", &b"four"[..], Some(5));
        assert!(read(short, 64).unwrap_err().to_string().contains("1 bytes"));
        let odd = Form::new().bytes("r", "r", "a/b\r\nc: d", "x");
        assert_eq!(odd.bad_type.as_deref(), Some("a/b\r\nc: d"));
    }
}
