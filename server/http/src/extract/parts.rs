//! The parts of a `multipart/form-data` body (RFC 7578): bytes in, parts out. It reads nothing by itself.
//!
//! ```text
//!   preamble ──delimiter──► head ──empty line──► data ──delimiter──► head ...
//!                 └──────────────── "--" behind a delimiter ────────────────► end, and an epilogue
//! ```
//!
//! A delimiter is a line end, `--` and the boundary, with `--` or a line end behind it. Bytes that begin like one and go
//! on otherwise are data.

#![deny(clippy::arithmetic_side_effects)]

use memchr::memmem::Finder;

/// Where in a body it is.
#[derive(Debug)]
pub(crate) struct Parts {
    /// With the line end before it.
    delimiter: Finder<'static>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter, which may lack its line end at the very beginning.
    Preamble {
        at_start: bool,
    },
    Head,
    Data,
    End,
}

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Whatever it is, it is not all there.
    More,
    /// So many bytes are of no interest.
    Skip(usize),
    /// So many bytes are a part's head.
    Head(usize),
    /// So many bytes are data of the part.
    Data(usize),
    /// The part ends with so many bytes, which are a delimiter's.
    PartEnd(usize),
    /// There are no more parts.
    End,
}

/// What a part's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
}

/// Bytes of a part's head.
pub(crate) const MOST_HEAD_BYTES: usize = 8 * 1024;

/// Fields of a part's head.
const MOST_FIELDS: usize = 16;

/// Bytes of a boundary (RFC 2046, 5.1.1).
const MOST_BOUNDARY_BYTES: usize = 70;

/// Blanks behind a boundary, as gateways may add them.
const MOST_PADDING: usize = 64;

impl Parts {
    /// Of a body with that boundary.
    pub(crate) fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Self {
            delimiter: Finder::new(&delimiter).into_owned(),
            state: State::Preamble { at_start: true },
        }
    }

    /// What the input begins with. All of it but [`Step::More`] and the end is to be taken out of the input before the
    /// next call.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, &'static str> {
        match self.state {
            State::Preamble { at_start: true } => Ok(self.start(input)),
            State::Preamble { at_start: false } => Ok(self.up_to_delimiter(input, Step::Skip)),
            State::Data => Ok(self.up_to_delimiter(input, Step::Data)),
            State::Head => self.head(input),
            State::End => Ok(Step::End),
        }
    }

    /// A delimiter at the very beginning has no line end before it.
    fn start(&mut self, input: &[u8]) -> Step {
        let dashes = &self.delimiter.needle()[2..];
        let seen = input.len().min(dashes.len());
        if input[..seen] == dashes[..seen] {
            let Some(behind) = input.get(dashes.len()..) else {
                return Step::More;
            };
            let before = dashes.len();
            match after_boundary(behind) {
                Behind::Unknown => return Step::More,
                Behind::Part(count) => {
                    self.state = State::Head;
                    return Step::Skip(before.saturating_add(count));
                }
                Behind::End => {
                    self.state = State::End;
                    return Step::End;
                }
                Behind::Other => {}
            }
        }
        self.state = State::Preamble { at_start: false };
        self.up_to_delimiter(input, Step::Skip)
    }

    /// What is before the next delimiter, which is `of` something; or the delimiter, if there is nothing before it.
    fn up_to_delimiter(&mut self, input: &[u8], of: fn(usize) -> Step) -> Step {
        let length = self.delimiter.needle().len();
        let Some(at) = self.delimiter.find(input) else {
            // What it ends with may be the beginning of one.
            let open = (1..length)
                .rev()
                .find(|&count| input.ends_with(&self.delimiter.needle()[..count]));
            return match input.len().saturating_sub(open.unwrap_or(0)) {
                0 => Step::More,
                count => of(count),
            };
        };
        if at > 0 {
            return of(at);
        }
        match after_boundary(&input[length..]) {
            Behind::Unknown => Step::More,
            // It only begins like one: its first byte begins nothing else.
            Behind::Other => of(1),
            Behind::Part(count) => self.ends(State::Head, length.saturating_add(count)),
            Behind::End => self.ends(State::End, length.saturating_add(2)),
        }
    }

    fn ends(&mut self, next: State, count: usize) -> Step {
        match std::mem::replace(&mut self.state, next) {
            State::Data => Step::PartEnd(count),
            _ if next == State::End => Step::End,
            _ => Step::Skip(count),
        }
    }

    fn head(&mut self, input: &[u8]) -> Result<Step, &'static str> {
        let seen = &input[..input.len().min(MOST_HEAD_BYTES)];
        if seen.starts_with(b"\r\n") {
            return Err("a part has no name");
        }
        match memchr::memmem::find(seen, b"\r\n\r\n") {
            Some(at) => {
                self.state = State::Data;
                Ok(Step::Head(at.saturating_add(4)))
            }
            None if seen.len() == MOST_HEAD_BYTES => Err("a part's head is too long"),
            None => Ok(Step::More),
        }
    }
}

enum Behind {
    /// More bytes are needed to tell.
    Unknown,
    /// So many bytes, then a part.
    Part(usize),
    End,
    /// It was no delimiter.
    Other,
}

/// What is behind a boundary.
fn after_boundary(input: &[u8]) -> Behind {
    if input.starts_with(b"--") {
        return Behind::End;
    }
    let is_blank = |byte: &&u8| **byte == b' ' || **byte == b'\t';
    let blanks = input.iter().take(MOST_PADDING).take_while(is_blank).count();
    match &input[blanks..] {
        [] => Behind::Unknown,
        [b'\r'] => Behind::Unknown,
        [b'-'] if blanks == 0 => Behind::Unknown,
        [b'\r', b'\n', ..] => Behind::Part(blanks.saturating_add(2)),
        _ => Behind::Other,
    }
}

/// The boundary of a `multipart/form-data` type.
pub(crate) fn boundary(content_type: &str) -> Result<&str, &'static str> {
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err("expected a body of type multipart/form-data");
    }
    let boundary = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim())
        .ok_or("a body of type multipart/form-data has a boundary")?;
    let inner = boundary
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let boundary = inner.unwrap_or(boundary);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    if boundary.is_empty()
        || boundary.len() > MOST_BOUNDARY_BYTES
        || boundary.ends_with(' ')
        || !boundary.bytes().all(is_allowed)
    {
        return Err("the boundary is malformed");
    }
    Ok(boundary)
}

/// Reads a part's head, which ends with an empty line.
pub(crate) fn part_head(bytes: &[u8]) -> Result<PartHead, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(bytes, &mut fields)
    else {
        return Err("a part's head is malformed");
    };
    let value = |name: &str| {
        let field = fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let disposition = value("content-disposition").ok_or("a part has no name")?;
    let (kind, parameters) = disposition.split_once(';').unwrap_or((&disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err("a part is not form-data");
    }
    let name = parameter(parameters, "name").ok_or("a part has no name")?;
    let file_name = parameter(parameters, "filename").and_then(|name| last_segment(&name));
    Ok(PartHead {
        name,
        file_name,
        content_type: value("content-type"),
    })
}

/// The value of a parameter of that name; in quotes a backslash may stand before a quote or another.
fn parameter(mut rest: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = behind.find(';').unwrap_or(behind.len());
                (behind[..end].trim().to_owned(), &behind[end..])
            }
        };
        if name
            .trim_matches([';', ' ', '\t'])
            .eq_ignore_ascii_case(wanted)
        {
            return Some(value);
        }
        rest = next;
    }
}

/// A text up to its closing quote, and what is behind that.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                return (
                    value,
                    quoted.get(at.saturating_add(1)..).unwrap_or_default(),
                );
            }
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, next)) => value.push(next),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    (value, "")
}

/// A file's name without folders, which some clients send, and which would lead out of a folder of ours.
fn last_segment(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    (!matches!(last, "" | "." | "..") && !last.contains('\0')).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with their data, if the body is given in pieces of that size.
    fn read(body: &[u8], piece: usize) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
        let mut parts = Parts::new("B");
        let (mut input, mut pieces) = (Vec::new(), body.chunks(piece.max(1)));
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let used = match parts.step(&input)? {
                Step::More => match pieces.next() {
                    Some(piece) => {
                        input.extend_from_slice(piece);
                        continue;
                    }
                    None => return Err("cut"),
                },
                Step::Skip(count) | Step::PartEnd(count) => count,
                Step::Head(count) => {
                    found.push((part_head(&input[..count])?.name, Vec::new()));
                    count
                }
                Step::Data(count) => {
                    found
                        .last_mut()
                        .unwrap()
                        .1
                        .extend_from_slice(&input[..count]);
                    count
                }
                Step::End => return Ok(found),
            };
            assert!(used > 0);
            input.drain(..used);
        }
    }

    const HEAD: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";

    #[test]
    fn parts_are_the_same_wherever_the_body_is_cut() {
        let body = format!(
            "before\r\n--B\r\n{HEAD}one\r\n--Bx\r\n--\r\n-- B\r\n--B \t\r\n{HEAD}\r\n--B\r\n{HEAD}\r\n\r\n--B--after\r\n--B\r\n"
        );
        let expected = [&b"one\r\n--Bx\r\n--\r\n-- B"[..], b"", b"\r\n"];
        for piece in 1..=body.len() {
            let found = read(body.as_bytes(), piece).unwrap();
            let data: Vec<_> = found.iter().map(|(_, data)| &data[..]).collect();
            assert_eq!(data, expected, "{piece}");
        }
    }

    #[test]
    fn the_first_delimiter_may_be_at_the_very_beginning() {
        let body = format!("--B\r\n{HEAD}x\r\n--B--");
        for piece in 1..=body.len() {
            assert_eq!(
                read(body.as_bytes(), piece).unwrap(),
                [("a".to_owned(), b"x".to_vec())]
            );
        }
        assert_eq!(read(b"--B--", 1), Ok(Vec::new()));
        assert_eq!(read(b"\r\n--B--\r\n", 1), Ok(Vec::new()));
    }

    #[test]
    fn what_is_cut_or_wrong_is_no_body() {
        let whole = format!("--B\r\n{HEAD}x\r\n--B--");
        for end in 0..whole.len() {
            assert_eq!(read(&whole.as_bytes()[..end], 3), Err("cut"), "{end}");
        }
        for (body, expected) in [
            ("--B\r\n\r\nx\r\n--B--", "a part has no name"),
            (
                "--B\r\nContent-Type: a\r\n\r\nx\r\n--B--",
                "a part has no name",
            ),
            (
                "--B\r\nno field\r\n\r\nx\r\n--B--",
                "a part's head is malformed",
            ),
            (
                "--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--B--",
                "a part is not form-data",
            ),
        ] {
            assert_eq!(read(body.as_bytes(), 4), Err(expected), "{body}");
        }
        let long = format!("--B\r\nA: {}\r\n\r\n", "x".repeat(MOST_HEAD_BYTES));
        assert_eq!(
            read(long.as_bytes(), 1000),
            Err("a part's head is too long")
        );
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        let head =
            |text: &str| part_head(format!("Content-Disposition: {text}\r\n\r\n").as_bytes());
        for (text, name, file_name) in [
            (r#"form-data; name="a b""#, "a b", None),
            (r"form-data; name=a", "a", None),
            (
                r#"FORM-DATA ;filename="x;y.txt" ; NAME = "n""#,
                "n",
                Some("x;y.txt"),
            ),
            (r#"form-data; name="a\"b\\c\d""#, "a\"b\\c\\d", None),
            (
                r#"form-data; name="a"; filename="C:\dir\é.txt""#,
                "a",
                Some("é.txt"),
            ),
            (
                r#"form-data; name="a"; filename="../../etc/passwd""#,
                "a",
                Some("passwd"),
            ),
            (r#"form-data; name="a"; filename="..""#, "a", None),
            (r#"form-data; name="a"; filename="""#, "a", None),
            (r#"form-data; name="open"#, "open", None),
        ] {
            let found = head(text).unwrap();
            assert_eq!(
                (&*found.name, found.file_name.as_deref()),
                (name, file_name),
                "{text}"
            );
        }
        assert!(head("form-data; filename=a").is_err());
    }

    #[test]
    fn boundaries_are_taken_with_and_without_quotes() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Ok("abc"));
        assert_eq!(
            boundary("Multipart/Form-Data;charset=x; Boundary=\"a b\""),
            Ok("a b")
        );
        for wrong in [
            "multipart/mixed; boundary=a",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a \"",
            "multipart/form-data; boundary=a\u{e9}",
        ] {
            assert!(boundary(wrong).is_err(), "{wrong}");
        }
        let long = format!("multipart/form-data; boundary={}", "a".repeat(71));
        assert!(boundary(&long).is_err());
    }
}
