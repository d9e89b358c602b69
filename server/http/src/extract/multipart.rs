//! Forms with files: the parts of a `multipart/form-data` body, as they come.

use std::{
    io::{self, Read},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};
use maniple::{fs, log_limit::LogLimit, log_within};

use super::{
    FromRequest,
    parts::{PartHead, Parts, Step, boundary, part_head},
};
use crate::{body::BodyError, problem::Problem, request::Request};

/// The parts of a `multipart/form-data` body, which are read as they come; made by [`Request::multipart`].
///
/// What a part was not read of is passed over by the next. The body as a whole is bounded by the server's
/// `max_body_bytes`, parts by [`max_parts`](Self::max_parts), and what is taken into memory of one by
/// [`Part::read_bytes`].
#[derive(Debug)]
pub struct MultipartReader<'r> {
    request: &'r mut Request,
    parts: Parts,
    /// What was read of the body, and not taken yet.
    input: Vec<u8>,
    /// How far it was taken.
    taken: usize,
    max_parts: usize,
    /// Whether a part is in hand whose end has not come.
    in_part: bool,
}

/// A part of a form; made by [`MultipartReader::next_part`]. Its data is read from it.
#[derive(Debug)]
pub struct Part<'p, 'r> {
    head: PartHead,
    reader: &'p mut MultipartReader<'r>,
}

/// Parts of a form, unless another number is set.
const MOST_PARTS: usize = 1000;

/// Bytes of a field that are taken into memory by [`Multipart`].
const MOST_FIELD_BYTES: usize = 1024 * 1024;

/// A file is kept in memory by [`Multipart`] up to this, and beyond it on disk.
const FILE_IN_MEMORY: usize = 64 * 1024;

/// Read at a time.
const READ: usize = 16 * 1024;

impl Request {
    /// The parts of a body of type `multipart/form-data`, to be read as they come.
    ///
    /// # Errors
    /// A problem of 415 or 400 if the body is of another type, or its boundary malformed.
    ///
    /// # Examples
    /// ```
    /// use std::io;
    /// use maniple_server::{Problem, Request, Router};
    ///
    /// fn upload(request: &mut Request) -> Result<String, Problem> {
    ///     let mut parts = request.multipart()?;
    ///     let mut told = String::new();
    ///     while let Some(mut part) = parts.next_part()? {
    ///         let name = part.file_name().unwrap_or("no file").to_owned();
    ///         let bytes = io::copy(&mut part, &mut io::sink())
    ///             .map_err(|error| Problem::new(maniple_server::StatusCode::BAD_REQUEST, error.to_string()))?;
    ///         told += &format!("{name}: {bytes}\n");
    ///     }
    ///     Ok(told)
    /// }
    ///
    /// let router = Router::new().post("/", upload);
    /// let mut request = Request::for_test("POST", "/")
    ///     .with_header("content-type", "multipart/form-data; boundary=x")
    ///     .with_body("--x\r\ncontent-disposition: form-data; name=\"a\"; filename=\"a.txt\"\r\n\r\nhello\r\n--x--\r\n");
    /// assert_eq!(router.answer(&mut request).into_text().unwrap(), "a.txt: 5\n");
    /// ```
    pub fn multipart(&mut self) -> Result<MultipartReader<'_>, Problem> {
        let content_type = self.header_str(CONTENT_TYPE.as_str()).unwrap_or_default();
        let boundary = boundary(content_type).map_err(|reason| {
            let status = match content_type.starts_with("multipart/form-data") {
                true => StatusCode::BAD_REQUEST,
                false => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            };
            Problem::new(status, reason).with_field(CONTENT_TYPE.as_str())
        })?;
        let parts = Parts::new(boundary);
        Ok(MultipartReader {
            request: self,
            parts,
            input: Vec::new(),
            taken: 0,
            max_parts: MOST_PARTS,
            in_part: false,
        })
    }
}

impl<'r> MultipartReader<'r> {
    /// How many parts there may be. Default: 1,000. Beyond it 413.
    pub fn max_parts(mut self, parts: usize) -> Self {
        self.max_parts = parts;
        self
    }

    /// The next part; `None` behind the last.
    ///
    /// # Errors
    /// A problem with the status that fits, if the body is malformed, late or incomplete, or has too many parts.
    pub fn next_part(&mut self) -> Result<Option<Part<'_, 'r>>, Problem> {
        // What is left of the one before.
        while self.in_part {
            self.taken += self.next_data()?;
        }
        loop {
            match self.step()? {
                Step::Skip(count) | Step::Data(count) | Step::PartEnd(count) => self.taken += count,
                Step::Head(count) => {
                    if self.max_parts == 0 {
                        let status = StatusCode::PAYLOAD_TOO_LARGE;
                        return Err(Problem::new(status, "the form has too many parts"));
                    }
                    self.max_parts -= 1;
                    let head = &self.input[self.taken..self.taken + count];
                    let head = part_head(head).map_err(malformed)?;
                    self.taken += count;
                    self.in_part = true;
                    return Ok(Some(Part { head, reader: self }));
                }
                Step::End => return Ok(None),
                Step::More => self.fill()?,
            }
        }
    }

    /// How much data of the part in hand begins the input; 0 at its end.
    fn next_data(&mut self) -> Result<usize, Problem> {
        loop {
            match self.step()? {
                Step::Data(count) => return Ok(count),
                Step::PartEnd(count) => {
                    self.taken += count;
                    self.in_part = false;
                    return Ok(0);
                }
                Step::More => self.fill()?,
                // In a part there is nothing else.
                Step::Skip(_) | Step::Head(_) | Step::End => {
                    self.in_part = false;
                    return Ok(0);
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, Problem> {
        self.parts
            .step(&self.input[self.taken..])
            .map_err(malformed)
    }

    /// Reads more of the body.
    fn fill(&mut self) -> Result<(), Problem> {
        self.input.drain(..std::mem::take(&mut self.taken));
        let before = self.input.len();
        self.input.resize(before + READ, 0);
        let read = self.request.exchange.read_some(&mut self.input[before..]);
        let count = *read.as_ref().unwrap_or(&0);
        self.input.truncate(before + count);
        match read.map_err(BodyError::into_problem)? {
            0 => Err(malformed("the form ends before its last boundary")),
            _ => Ok(()),
        }
    }
}

fn malformed(reason: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, reason)
}

impl Part<'_, '_> {
    /// The name of its field.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The name of its file as the client gave it, without folders; `None` if it is no file.
    pub fn file_name(&self) -> Option<&str> {
        self.head.file_name.as_deref()
    }

    /// The type that the client gave.
    pub fn content_type(&self) -> Option<&str> {
        self.head.content_type.as_deref()
    }

    /// All of its data that has not been read, at most so many bytes.
    ///
    /// # Errors
    /// A problem of 413 if there are more, and as [`MultipartReader::next_part`].
    pub fn read_bytes(&mut self, max_bytes: usize) -> Result<Bytes, Problem> {
        let mut bytes = Vec::new();
        while let Some(data) = self.data()? {
            if data > max_bytes - bytes.len() {
                let detail = format!("larger than {max_bytes} bytes");
                let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail);
                return Err(problem.with_field(self.name()));
            }
            bytes.extend_from_slice(self.taken(data));
        }
        Ok(bytes.into())
    }

    /// All of its data that has not been read, as text: see [`Part::read_bytes`].
    ///
    /// # Errors
    /// As there, and one of 400 if it is not UTF-8.
    pub fn read_text(&mut self, max_bytes: usize) -> Result<String, Problem> {
        let bytes = self.read_bytes(max_bytes)?;
        String::from_utf8(bytes.into()).map_err(|_| malformed("not UTF-8").with_field(self.name()))
    }

    /// How much data begins the input, if there is any.
    fn data(&mut self) -> Result<Option<usize>, Problem> {
        if !self.reader.in_part {
            return Ok(None);
        }
        let count = self.reader.next_data()?;
        Ok(Some(count).filter(|count| *count > 0))
    }

    fn taken(&mut self, count: usize) -> &[u8] {
        let from = self.reader.taken;
        self.reader.taken += count;
        &self.reader.input[from..from + count]
    }
}

impl Read for Part<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let data = self.data().map_err(|problem| {
            io::Error::new(io::ErrorKind::InvalidData, problem.detail().to_owned())
        })?;
        let count = data.unwrap_or(0).min(buffer.len());
        buffer[..count].copy_from_slice(self.taken(count));
        Ok(count)
    }
}

/// A whole form with its files, read before the handler is called: fields in memory, at most 1 MiB each, and files in
/// memory up to 64 KiB and beyond it in a file of the folder for temporary ones, which has no name there.
///
/// The server's `max_body_bytes` bounds all of it, and there are at most 1,000 parts. To read parts as they come, or with
/// other bounds, use [`Request::multipart`].
///
/// # Examples
/// ```
/// use std::io::Read;
/// use maniple_server::{Problem, Request, Router, StatusCode, extract::Multipart};
///
/// fn publish(mut form: Multipart) -> Result<String, Problem> {
///     let title = form.text("title").unwrap_or("untitled").to_owned();
///     let missing = || Problem::new(StatusCode::BAD_REQUEST, "missing").with_field("picture");
///     let picture = form.file("picture").ok_or_else(missing)?;
///     Ok(format!("{title}: {} bytes of {:?}", picture.length(), picture.file_name()))
/// }
/// # let _ = Router::new().post("/", publish);
/// ```
#[derive(Debug, Default)]
pub struct Multipart {
    fields: Vec<(String, Bytes)>,
    files: Vec<Upload>,
}

/// A file of a form; see [`Multipart`]. It is read from its beginning.
#[derive(Debug)]
pub struct Upload {
    head: PartHead,
    length: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Memory(io::Cursor<Vec<u8>>),
    Disk(fs::File),
}

impl Multipart {
    /// The bytes of the first field of that name that is no file.
    pub fn bytes(&self, name: &str) -> Option<&Bytes> {
        let mut fields = self.fields.iter();
        fields
            .find(|(other, _)| other == name)
            .map(|(_, bytes)| bytes)
    }

    /// The text of the first field of that name that is no file, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// Names and bytes of all fields that are no files, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.fields.iter().map(|(name, bytes)| (&**name, bytes))
    }

    /// The first file of that name.
    pub fn file(&mut self, name: &str) -> Option<&mut Upload> {
        self.files.iter_mut().find(|file| file.head.name == name)
    }

    /// All files, in their order.
    pub fn into_files(self) -> Vec<Upload> {
        self.files
    }
}

impl FromRequest for Multipart {
    type Rejection = Problem;

    fn from_request(request: &mut Request) -> Result<Self, Problem> {
        let mut form = Self::default();
        let mut parts = request.multipart()?;
        while let Some(mut part) = parts.next_part()? {
            if part.file_name().is_some() {
                form.files.push(Upload::take(part)?);
            } else {
                let bytes = part.read_bytes(MOST_FIELD_BYTES)?;
                form.fields.push((part.head.name, bytes));
            }
        }
        Ok(form)
    }

    fn is_absent(request: &Request) -> bool {
        super::body::has_no_body(request) && request.header("content-type").is_none()
    }
}

impl Upload {
    /// Reads it all.
    fn take(mut part: Part<'_, '_>) -> Result<Self, Problem> {
        let (mut memory, mut disk, mut length) = (Vec::new(), None, 0_u64);
        while let Some(count) = part.data()? {
            length += count as u64;
            let bytes = part.taken(count);
            if disk.is_none() && memory.len() + count <= FILE_IN_MEMORY {
                memory.extend_from_slice(bytes);
                continue;
            }
            let kept = match disk.take() {
                Some(file) => write_all(file, bytes),
                None => nameless().and_then(|file| {
                    memory.extend_from_slice(bytes);
                    write_all(file, &std::mem::take(&mut memory))
                }),
            };
            disk = Some(kept.map_err(|error| not_kept(&error))?);
        }
        let data = match disk {
            None => Data::Memory(io::Cursor::new(memory)),
            Some(mut file) => {
                io::Seek::rewind(&mut file).map_err(|error| not_kept(&error))?;
                Data::Disk(file)
            }
        };
        Ok(Self {
            head: part.head,
            length,
            data,
        })
    }

    /// The name of its field.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// Its name as the client gave it, without folders.
    pub fn file_name(&self) -> &str {
        self.head.file_name.as_deref().unwrap_or_default()
    }

    /// The type that the client gave.
    pub fn content_type(&self) -> Option<&str> {
        self.head.content_type.as_deref()
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is kept on disk.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.data, Data::Disk(_))
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.data {
            Data::Memory(bytes) => bytes.read(buffer),
            Data::Disk(file) => file.read(buffer),
        }
    }
}

fn write_all(mut file: fs::File, bytes: &[u8]) -> io::Result<fs::File> {
    io::Write::write_all(&mut file, bytes)?;
    Ok(file)
}

/// A file without a name, which is gone once it is closed.
fn nameless() -> io::Result<fs::File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut options = fs::OpenOptions::new();
    // What somebody else has put there is not opened.
    options.read(true).write(true).create_new(true).mode(0o600);
    for _ in 0..MOST_TRIES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("maniple-upload-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match options.open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Names that may be taken by others, until it is given up.
const MOST_TRIES: u32 = 100;

#[cold]
fn not_kept(error: &io::Error) -> Problem {
    static RATE: LogLimit = LogLimit::new(1);
    log_within!(RATE, error, "an upload could not be kept: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
}
