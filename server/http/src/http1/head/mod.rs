//! The head of a request: where its parts are, and how its body is framed.
//!
//! Each byte is looked at once, on the way from the method to the empty line. The rules are strict where
//! two readings of a message could differ, because a proxy in front may have chosen the other one (request
//! smuggling): one `Content-Length` of digits only, never together with `Transfer-Encoding`, line ends of
//! CR LF only, one valid `Host`.

mod limits;
mod lines;
mod meaning;
mod parts;
#[cfg(test)]
mod rules;

use http::Method;

use self::{
    limits::{LINE_TOO_LONG, TOO_MANY_FIELDS, check_partial, check_sizes},
    lines::{HTTP_11, Stop, read_method, read_value, read_version, unexpected},
    meaning::Meaning,
};
pub(crate) use self::{
    limits::{Limits, MOST_FIELDS, MOST_TARGET_BYTES},
    parts::{Field, Framing, Head, ascii, header_map},
};
use super::{Reject, scan::token_end, target};

/// Parses the head at the start of `bytes` into `head`; false if its end has not come yet.
#[inline]
pub(crate) fn parse(
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<bool, Reject> {
    parse_behind(None, bytes, limits, fields, head)
}

/// Parses a head like [`parse`], with the [field lines](Head::field_lines) of another at hand, which `fields` and `head`
/// still describe: a client that sends many requests at once says the same of each, and it need not be read again.
#[inline]
pub(crate) fn parse_behind(
    former: Option<&[u8]>,
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<bool, Reject> {
    match read(former, bytes, limits, fields, head) {
        Ok(()) => Ok(true),
        Err(stop) => {
            fields.clear();
            match stop {
                Stop::Short => check_partial(bytes, limits).map(|()| false),
                Stop::Wrong(reject) => Err(reject),
            }
        }
    }
}

#[inline]
fn read(
    former: Option<&[u8]>,
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<(), Stop> {
    // Whether the target is in origin form is clear for the method that most requests have.
    let (method, start, is_origin_form) = match bytes.starts_with(b"GET /") {
        true => (Method::GET, 4, true),
        false => read_method(bytes)?,
    };
    let (path_end, end) = match is_origin_form {
        true => target::origin_form_ends(bytes, start),
        false => target::any_form_ends(bytes, start)?,
    };
    // Before all else, so that the answer does not depend on how much has come.
    if end - start > limits.line_bytes {
        return Err(LINE_TOO_LONG.into());
    }
    let (http_11, lines) = match bytes[end..].starts_with(HTTP_11) {
        true => (true, end + HTTP_11.len()),
        false => read_version(bytes, end)?,
    };
    // A target in another form is held against the `Host`, and behind a tunnel that was not made comes nothing.
    let same = former.filter(|former| {
        is_origin_form
            && http_11 == head.http_11
            && head.method != Method::CONNECT
            && bytes[lines..].starts_with(former)
    });
    let mut meaning = Meaning::default();
    let length = match same {
        Some(same) => {
            move_fields(fields, head.fields, lines);
            lines + same.len()
        }
        None => read_fields(bytes, lines, limits, fields, &mut meaning)?,
    };
    if length > limits.unsuspicious() {
        check_sizes(&bytes[..length], limits, fields)?;
    }
    let (path, query) = match is_origin_form {
        true => (start..path_end, (path_end < end).then(|| path_end + 1..end)),
        false => target::split(bytes, start..end, &method, meaning.host)?,
    };
    if same.is_none() {
        (head.framing, head.keep_alive) = meaning.conclude(http_11)?;
        // What comes behind it may have been sent for the tunnel, which another answer than 2xx does not make.
        head.keep_alive &= is_origin_form || method != Method::CONNECT;
        head.expects_continue = meaning.expects_continue && http_11;
    }
    head.of_head = method == Method::HEAD;
    head.method = method;
    head.target = start..end;
    head.path = path;
    head.query = query;
    head.http_11 = http_11;
    head.fields = lines;
    head.length = length;
    Ok(())
}

/// Has fields whose lines began at `from` be those of the same lines at `to`.
#[inline]
fn move_fields(fields: &mut [Field], from: usize, to: usize) {
    if from != to {
        for Field { name, value } in fields {
            for at in [
                &mut name.start,
                &mut name.end,
                &mut value.start,
                &mut value.end,
            ] {
                *at = *at - from + to;
            }
        }
    }
}

/// Reads the field lines from `at` on; where the head ends. Inlined, so that what they mean need not be laid out in
/// memory.
#[inline(always)]
fn read_fields<'b>(
    bytes: &'b [u8],
    mut at: usize,
    limits: &Limits,
    fields: &mut Vec<Field>,
    meaning: &mut Meaning<'b>,
) -> Result<usize, Stop> {
    fields.clear();
    // The field that most requests begin with needs no look at its name.
    if let Some(end) = target::usual_host_line(&bytes[at..]) {
        let (name, value) = (at..at + 4, at + 6..at + end - 2);
        meaning.host = Some(&bytes[value.clone()]);
        fields.push(Field { name, value });
        at += end;
    }
    loop {
        if bytes[at..].starts_with(b"\r\n") {
            return Ok(at + 2);
        }
        let name = at..token_end(bytes, at);
        if name.is_empty() || bytes.get(name.end) != Some(&b':') {
            return match bytes[at..] {
                [b'\r'] => Err(Stop::Short),
                _ => Err(unexpected(bytes, name.end, "invalid header name")),
            };
        }
        let value = read_value(bytes, name.end + 1)?;
        at = value.line_end;
        let value = value.start..value.end;
        if Meaning::may_lie_in(name.len()) {
            meaning.take_in(&bytes[name.clone()], &bytes[value.clone()])?;
        }
        if fields.len() >= limits.fields {
            return Err(TOO_MANY_FIELDS.into());
        }
        fields.push(Field { name, value });
    }
}

/// Whether a head that need not be well-formed is that of a `HEAD` request, whose answer has no body.
#[cold]
pub(crate) fn is_of_head(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"HEAD ")
}

/// Whether more bytes make it worth parsing a head again, of which the first `searched` bytes were not
/// enough: its end may have come, or it is beyond a limit.
pub(crate) fn may_be_complete(bytes: &[u8], searched: usize, limits: &Limits) -> bool {
    let from = searched.saturating_sub(3);
    let ends = |end: &[u8]| memchr::memmem::find(&bytes[from..], end).is_some();
    ends(b"\n\r\n") || ends(b"\n\n") || check_partial(bytes, limits).is_err()
}
