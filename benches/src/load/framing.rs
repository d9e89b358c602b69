//! Where answers end: by their `Content-Length`, or their last chunk.

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;

/// Finds the ends of a connection's answers in what it receives, however that is split.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// The beginning of a head that is not yet complete.
    head: Vec<u8>,
    /// Bytes of the current body, or of its current chunk with the line end behind it, that are still to come.
    body_left: usize,
    /// Whether the current body is in chunks: then so much of the line before the next one has come.
    chunk_line: Option<Vec<u8>>,
}

/// The head of an answer, with its empty line, and the length of the body.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    head: Vec<u8>,
    /// `None` for one in chunks.
    body_length: Option<usize>,
}

impl Framing {
    /// How many answers `received` completes. `usual` is the last answer of any connection, so that a head that is
    /// the same, which it is but for its date, is not parsed again.
    pub(crate) fn feed(&mut self, mut received: &[u8], usual: &mut Answer) -> Result<usize> {
        let mut answers = 0;
        while !received.is_empty() {
            if self.body_left == 0 && self.chunk_line.is_some() {
                received = self.take_chunk_line(received)?;
                answers += usize::from(self.chunk_line.is_none());
                continue;
            }
            if self.body_left == 0 {
                let Some(rest) = self.take_head(received, usual)? else {
                    return Ok(answers);
                };
                received = rest;
                if self.chunk_line.is_some() {
                    continue;
                }
            }
            let now = self.body_left.min(received.len());
            self.body_left -= now;
            received = &received[now..];
            if self.body_left == 0 && self.chunk_line.is_none() {
                answers += 1;
            }
        }
        Ok(answers)
    }

    /// Takes the size of a chunk off `received`, or the end of the body: what comes behind is the next answer. There are no
    /// trailers.
    fn take_chunk_line<'a>(&mut self, received: &'a [u8]) -> Result<&'a [u8]> {
        let Some(line) = &mut self.chunk_line else {
            return Ok(received);
        };
        for (at, &byte) in received.iter().enumerate() {
            line.push(byte);
            ensure!(line.len() < 64, "a chunk's size does not end");
            let is_last = line.starts_with(b"0");
            if !line.ends_with(if is_last { b"\r\n\r\n" } else { b"\r\n" }) {
                continue;
            }
            if is_last {
                self.chunk_line = None;
            } else {
                let size = std::str::from_utf8(line).context("a chunk's size")?;
                let size = usize::from_str_radix(size.trim_end(), 16).context("a chunk's size")?;
                self.body_left = size + 2;
                line.clear();
            }
            return Ok(&received[at + 1..]);
        }
        Ok(&[])
    }

    fn begin_body(&mut self, length: Option<usize>) {
        self.body_left = length.unwrap_or(0);
        self.chunk_line = length.is_none().then(Vec::new);
    }

    /// Takes a head off `received`; without a result if it is not complete yet.
    fn take_head<'a>(
        &mut self,
        received: &'a [u8],
        usual: &mut Answer,
    ) -> Result<Option<&'a [u8]>> {
        if self.head.is_empty() && !usual.head.is_empty() && received.starts_with(&usual.head) {
            self.begin_body(usual.body_length);
            return Ok(Some(&received[usual.head.len()..]));
        }
        let known = self.head.len();
        self.head.extend_from_slice(received);
        // The empty line may have begun in what was known.
        let from = known.saturating_sub(3);
        let Some(end) = memmem::find(&self.head[from..], b"\r\n\r\n").map(|at| from + at + 4)
        else {
            ensure!(self.head.len() < 64 * 1024, "an answer's head does not end");
            return Ok(None);
        };
        self.head.truncate(end);
        let length = body_length(&self.head)?;
        self.begin_body(length);
        usual.head.clone_from(&self.head);
        usual.body_length = length;
        self.head.clear();
        Ok(Some(&received[end - known..]))
    }
}

/// `None` for one in chunks.
fn body_length(head: &[u8]) -> Result<Option<usize>> {
    let head = std::str::from_utf8(head).context("an answer's head is not text")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("answered {status:?}");
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let is_chunked = |(name, value): (&str, &str)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.trim() == "chunked"
    };
    if fields.clone().any(is_chunked) {
        return Ok(None);
    }
    let (_, length) = { fields }
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without Content-Length")?;
    let length = length
        .trim()
        .parse()
        .context("an answer's Content-Length")?;
    ensure!(length > 0, "an answer without a body");
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: a\r\n\r\nhello\
        HTTP/1.1 200 Ok\r\nContent-Length:13\r\n\r\nHello, World!";

    #[test]
    fn answers_are_counted_however_they_are_split() {
        for first in 0..=TWO.len() {
            for second in first..=TWO.len() {
                let (mut framing, mut usual) = (Framing::default(), Answer::default());
                let parts = [&TWO[..first], &TWO[first..second], &TWO[second..], TWO];
                let counts: Vec<usize> = parts
                    .iter()
                    .map(|part| framing.feed(part, &mut usual).unwrap())
                    .collect();
                assert_eq!(counts.iter().sum::<usize>(), 4, "{first} {second}");
                assert_eq!(counts[3], 2, "{first} {second}");
            }
        }
    }

    #[test]
    fn an_answer_byte_by_byte_counts_with_its_last_byte() {
        let (mut framing, mut usual) = (Framing::default(), Answer::default());
        let ends: Vec<usize> = (0..TWO.len())
            .filter(|&at| framing.feed(&TWO[at..=at], &mut usual).unwrap() == 1)
            .collect();
        let first = memmem::find(TWO, b"hello").unwrap() + 4;
        assert_eq!(ends, [first, TWO.len() - 1]);
    }

    #[test]
    fn answers_in_chunks_are_counted_however_they_are_split() {
        let chunked: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
        let all = [chunked, TWO, chunked, chunked].concat();
        for split in 0..=all.len() {
            let (mut framing, mut usual) = (Framing::default(), Answer::default());
            let (one, other) = all.split_at(split);
            let mut count = |part| framing.feed(part, &mut usual).unwrap();
            assert_eq!(count(one) + count(other), 5, "{split}");
        }
        let (mut framing, mut usual) = (Framing::default(), Answer::default());
        let singly = all.iter().map(std::slice::from_ref);
        let counts = singly.map(|byte| framing.feed(byte, &mut usual).unwrap());
        assert_eq!(counts.sum::<usize>(), 5);
    }

    #[test]
    fn the_usual_head_is_told_from_one_of_another_length() {
        let (mut framing, mut usual) = (Framing::default(), Answer::default());
        let short = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx";
        let long = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxy";
        for answer in [&short[..], short, long, short, long, long] {
            assert_eq!(framing.feed(answer, &mut usual).unwrap(), 1);
        }
    }

    #[test]
    fn an_answer_that_is_no_success_or_has_no_length_is_an_error() {
        let cases = [
            ("HTTP/1.1 500 Oh\r\ncontent-length: 1\r\n\r\n", "500"),
            ("HTTP/1.1 200 OK\r\n\r\n", "Content-Length"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
                "Content-Length",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "body"),
        ];
        for (answer, cause) in cases {
            let (mut framing, mut usual) = (Framing::default(), Answer::default());
            let error = framing.feed(answer.as_bytes(), &mut usual).unwrap_err();
            assert!(format!("{error:#}").contains(cause), "{error:#}");
        }
    }
}
