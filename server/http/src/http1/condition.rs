//! Conditions that a client puts to its request (RFC 9110, 13): entity tags and dates, and the order in which they count.

use std::time::{SystemTime, UNIX_EPOCH};

/// What tells versions of a thing apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Version<'a> {
    /// Whether there is any version of it.
    pub(crate) exists: bool,
    /// Its entity tag as it is sent.
    pub(crate) tag: Option<&'a [u8]>,
    /// When it was last changed, in seconds since 1970.
    pub(crate) modified: Option<u64>,
}

/// The fields of a request that are conditions. Lists are given field by field, as there may be several of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions<'a> {
    pub(crate) if_match: Vec<&'a [u8]>,
    pub(crate) if_none_match: Vec<&'a [u8]>,
    pub(crate) if_modified_since: Option<&'a [u8]>,
    pub(crate) if_unmodified_since: Option<&'a [u8]>,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is carried out.
    Proceed,
    /// The client has what it asks for: 304.
    NotModified,
    /// It is not what the client takes it for: 412.
    Failed,
}

impl Conditions<'_> {
    /// In the order of RFC 9110, 13.2.2; `reads` is whether the method is `GET` or `HEAD`.
    pub(crate) fn judge(&self, version: Version<'_>, reads: bool) -> Verdict {
        if !self.if_match.is_empty() {
            if !names(&self.if_match, version, strongly) {
                return Verdict::Failed;
            }
        } else if let (Some(since), Some(modified)) =
            (self.if_unmodified_since.and_then(seconds), version.modified)
            && modified > since
        {
            return Verdict::Failed;
        }
        if !self.if_none_match.is_empty() {
            return match names(&self.if_none_match, version, weakly) {
                false => Verdict::Proceed,
                true if reads => Verdict::NotModified,
                true => Verdict::Failed,
            };
        }
        match (self.if_modified_since.and_then(seconds), version.modified) {
            (Some(since), Some(modified)) if reads && modified <= since => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }
}

/// Whether the value of an `If-Range` field names this version for sure: by a strong tag, or by the date, if that is sure to
/// tell versions apart (RFC 9110, 13.1.5).
pub(crate) fn is_this(if_range: &[u8], version: Version<'_>, date_is_sure: bool) -> bool {
    let value = if_range.trim_ascii();
    if value.ends_with(b"\"") {
        return is_tag(value) && version.tag.is_some_and(|tag| strongly(tag, value));
    }
    date_is_sure && version.modified.is_some() && seconds(value) == version.modified
}

/// Whether that is an entity tag: quoted, with `W/` before it if it is weak.
pub(crate) fn is_tag(bytes: &[u8]) -> bool {
    matches!(tag(bytes), Some((_, b"")))
}

fn names(lists: &[&[u8]], version: Version<'_>, alike: fn(&[u8], &[u8]) -> bool) -> bool {
    if lists.iter().any(|list| list.trim_ascii() == b"*") {
        return version.exists;
    }
    let Some(this) = version.tag.filter(|_| version.exists) else {
        return false;
    };
    lists.iter().any(|list| {
        let mut rest = *list;
        loop {
            while let [b' ' | b'\t' | b',', behind @ ..] = rest {
                rest = behind;
            }
            // What is no tag ends the list: what stands behind it could be part of one.
            let Some((one, behind)) = tag(rest) else {
                return false;
            };
            if alike(one, this) {
                return true;
            }
            rest = behind;
        }
    })
}

/// The entity tag that `bytes` begin with, and what is behind it.
fn tag(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = bytes.strip_prefix(b"W/").unwrap_or(bytes);
    let opaque = quoted.strip_prefix(b"\"")?;
    let end = opaque.iter().position(|&byte| byte == b'"')?;
    let allowed = |&byte: &u8| byte > b' ' && byte != 0x7f;
    if !opaque[..end].iter().all(allowed) {
        return None;
    }
    let length = bytes.len() - quoted.len() + end + 2;
    Some(bytes.split_at(length))
}

/// Equal, and both strong (RFC 9110, 8.8.3.2).
fn strongly(one: &[u8], other: &[u8]) -> bool {
    one == other && !one.starts_with(b"W/")
}

/// Equal, whatever strength they have.
fn weakly(one: &[u8], other: &[u8]) -> bool {
    opaque(one) == opaque(other)
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// A date of any of the three forms; `None` of what is none, which is as if it had not been sent.
fn seconds(date: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(date).ok()?.trim();
    let date: SystemTime = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::{Verdict::*, *};

    const THEN: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &[u8] = b"Sunday, 06-Nov-94 08:49:36 GMT";
    const AFTER: &[u8] = b"Sun Nov  6 08:49:38 1994";
    const MODIFIED: u64 = 784_111_777;

    fn version(tag: &[u8]) -> Version<'_> {
        Version {
            exists: true,
            tag: Some(tag),
            modified: Some(MODIFIED),
        }
    }

    #[test]
    fn tags_are_compared_as_each_field_says() {
        let none_match = |list: &'static [u8], tag: &[u8]| {
            let conditions = Conditions {
                if_none_match: vec![list],
                ..Conditions::default()
            };
            conditions.judge(version(tag), true)
        };
        let if_match = |list: &'static [u8], tag: &[u8]| {
            let conditions = Conditions {
                if_match: vec![list],
                ..Conditions::default()
            };
            conditions.judge(version(tag), true)
        };
        for (list, tag, of_none, of_match) in [
            (&b"\"a\""[..], &b"\"a\""[..], NotModified, Proceed),
            (b"W/\"a\"", b"\"a\"", NotModified, Failed),
            (b"\"a\"", b"W/\"a\"", NotModified, Failed),
            (b"W/\"a\"", b"W/\"a\"", NotModified, Failed),
            (b"\"b\"", b"\"a\"", Proceed, Failed),
            (b"*", b"\"a\"", NotModified, Proceed),
            (b" , \"b\",\t\"a\" ", b"\"a\"", NotModified, Proceed),
            (b"\"x,\", \"a,b\"", b"\"a,b\"", NotModified, Proceed),
            (b"\"x, \"a\"", b"\"a\"", Proceed, Failed),
            (b"a", b"\"a\"", Proceed, Failed),
            (b"\"a", b"\"a\"", Proceed, Failed),
            (b"w/\"a\"", b"\"a\"", Proceed, Failed),
            (b"", b"\"a\"", Proceed, Failed),
        ] {
            let told = String::from_utf8_lossy(list);
            assert_eq!(none_match(list, tag), of_none, "If-None-Match: {told}");
            assert_eq!(if_match(list, tag), of_match, "If-Match: {told}");
        }
    }

    #[test]
    fn conditions_count_in_the_order_of_the_standard() {
        let (same, other): (&[u8], &[u8]) = (b"\"a\"", b"\"b\"");
        let judge = |conditions: &Conditions<'_>| conditions.judge(version(same), true);
        let none = Conditions::default();
        assert_eq!(judge(&none), Proceed);
        let mut conditions = Conditions {
            if_modified_since: Some(THEN),
            ..none.clone()
        };
        assert_eq!(judge(&conditions), NotModified);
        assert_eq!(conditions.judge(version(same), false), Proceed, "of a PUT");
        conditions.if_modified_since = Some(BEFORE);
        assert_eq!(judge(&conditions), Proceed);
        // A tag goes before a date.
        conditions.if_none_match = vec![same];
        assert_eq!(judge(&conditions), NotModified);
        assert_eq!(conditions.judge(version(same), false), Failed, "of a PUT");
        conditions.if_modified_since = Some(AFTER);
        conditions.if_none_match = vec![other];
        assert_eq!(judge(&conditions), Proceed);
        // What must hold goes before what must not.
        conditions.if_none_match = vec![same];
        conditions.if_unmodified_since = Some(BEFORE);
        assert_eq!(judge(&conditions), Failed);
        conditions.if_match = vec![other, same];
        assert_eq!(judge(&conditions), NotModified, "the date does not count");
        conditions.if_match = vec![other];
        assert_eq!(judge(&conditions), Failed);
    }

    #[test]
    fn what_is_not_there_matches_nothing() {
        let star = Conditions {
            if_none_match: vec![b"*"],
            ..Conditions::default()
        };
        assert_eq!(star.judge(Version::default(), false), Proceed);
        let star = Conditions {
            if_match: vec![b"*"],
            ..Conditions::default()
        };
        assert_eq!(star.judge(Version::default(), false), Failed);
    }

    #[test]
    fn dates_that_are_none_do_not_count() {
        for date in [&b"yesterday"[..], b"", b"\xff", b"Sun, 06 Nov 1994"] {
            let conditions = Conditions {
                if_modified_since: Some(date),
                if_unmodified_since: Some(date),
                ..Conditions::default()
            };
            assert_eq!(conditions.judge(version(b"\"a\""), true), Proceed);
        }
    }

    #[test]
    fn a_range_is_of_this_version_only_for_sure() {
        assert!(is_this(b"\"a\"", version(b"\"a\""), false));
        assert!(!is_this(b"W/\"a\"", version(b"W/\"a\""), true));
        assert!(!is_this(b"\"b\"", version(b"\"a\""), true));
        assert!(is_this(THEN, version(b"\"a\""), true));
        assert!(!is_this(THEN, version(b"\"a\""), false));
        assert!(!is_this(AFTER, version(b"\"a\""), true));
        assert!(!is_this(b"nonsense", version(b"\"a\""), true));
        assert!(!is_this(b"nonsense", Version::default(), true));
    }
}
