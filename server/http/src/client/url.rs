//! The parts of a URL that a request needs.

use std::borrow::Cow;

use super::error::ClientError;
use crate::http1::target::is_host;

/// An `http` or `https` URL in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    /// Host, and port if it is named: what the `Host` field says.
    pub(crate) authority: &'a str,
    pub(crate) port_is_named: bool,
    /// The one that is named, or the scheme's.
    port: u16,
    /// Whether it is an `https` URL.
    pub(crate) is_secure: bool,
    /// What a connection is kept by: the authority, of `https` with the scheme in front.
    pub(crate) origin: &'a str,
    /// Path and query as they are sent, but for a `/` in front that may be missing.
    target: &'a str,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(url: &'a str) -> Result<Self, ClientError> {
        Self::split(url).map_err(|reason| ClientError::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn split(url: &'a str) -> Result<Self, &'static str> {
        let is_scheme = |scheme: &str| {
            let begins = url.as_bytes().get(..scheme.len());
            begins.is_some_and(|begins| begins.eq_ignore_ascii_case(scheme.as_bytes()))
        };
        let (is_secure, before) = if is_scheme("http://") {
            (false, "http://".len())
        } else if is_scheme("https://") {
            (true, "https://".len())
        } else if url.contains("://") {
            return Err("only http and https are spoken here");
        } else {
            return Err("no scheme, expected http://HOST[:PORT]/PATH");
        };
        // All that is looked for is ASCII, and stands at a boundary of characters.
        let rest = &url[before..];
        let rest = match memchr::memchr(b'#', rest.as_bytes()) {
            Some(fragment) => &rest[..fragment],
            None => rest,
        };
        // In one pass: where the authority ends, and what is in it.
        let (mut end, mut port_at, mut names_user) = (0, None, false);
        for &byte in rest.as_bytes() {
            match byte {
                b'/' | b'?' => break,
                b':' => port_at = Some(end),
                // A colon before it is one of an address.
                b']' => port_at = None,
                b'@' => names_user = true,
                _ => {}
            }
            end += 1;
        }
        let (authority, target) = rest.split_at(end);
        if names_user {
            return Err("user information is not sent");
        }
        let name = &authority[..port_at.unwrap_or(authority.len())];
        if name.is_empty() {
            return Err("no host");
        }
        if !is_host(authority.as_bytes()) {
            return Err("invalid host");
        }
        let port = port_at.map(|at| &authority[at + 1..]);
        let own = if is_secure { 443 } else { 80 };
        let number = port.map_or(Ok(own), |port| port.parse::<u16>());
        let number = number.map_err(|_| "invalid port")?;
        if !target.bytes().all(|byte| MAY_BE_SENT[usize::from(byte)]) {
            return Err("a character in the path or query must be percent-encoded");
        }
        if !escapes_are_whole(target.as_bytes()) {
            return Err("a % in the path or query must begin a percent-encoded byte, or be %25");
        }
        let whole = before + authority.len();
        Ok(Self {
            authority,
            is_secure,
            origin: if is_secure { &url[..whole] } else { authority },
            port_is_named: port.is_some(),
            port: number,
            target,
        })
    }

    /// The host's name or address, which a certificate is to be for.
    pub(crate) fn name(&self) -> &'a str {
        let name = match self.port_is_named {
            true => self.authority.rsplit_once(':').map_or("", |(name, _)| name),
            false => self.authority,
        };
        name.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    pub(crate) fn address(&self) -> Cow<'a, str> {
        match (self.port_is_named, self.is_secure) {
            (true, _) => Cow::Borrowed(self.authority),
            (false, false) => Cow::Owned(format!("{}:80", self.authority)),
            (false, true) => Cow::Owned(format!("{}:443", self.authority)),
        }
    }

    /// Appends the request target in origin form.
    pub(crate) fn write_target(&self, out: &mut Vec<u8>) {
        if !self.target.starts_with('/') {
            out.push(b'/');
        }
        out.extend_from_slice(self.target.as_bytes());
    }
}

fn escapes_are_whole(target: &[u8]) -> bool {
    let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    memchr::memchr_iter(b'%', target)
        .all(|at| is_hex(target.get(at + 1)) && is_hex(target.get(at + 2)))
}

/// [`may_be_sent`], for each byte.
static MAY_BE_SENT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = may_be_sent(byte as u8);
        byte += 1;
    }
    table
};

/// What a URI may have in its path and query (RFC 3986, appendix A), and the brackets that queries often have too. All
/// else is read in different ways by servers and by what stands before them.
const fn may_be_sent(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
        )
        || matches!(
            byte,
            b',' | b';' | b'=' | b':' | b'@' | b'/' | b'?' | b'%' | b'[' | b']'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        for (url, authority, target) in [
            ("http://h:81/a?b", "h:81", "/a?b"),
            ("HTTP://h", "h", "/"),
            ("http://h?a", "h", "/?a"),
            ("http://[::1]:80/#part", "[::1]:80", "/"),
            ("http://[::1]/a#b?c", "[::1]", "/a"),
            ("http://127.0.0.1:9001/x//y", "127.0.0.1:9001", "/x//y"),
            ("http://h/%3C%7b?a[]=1&b=~", "h", "/%3C%7b?a[]=1&b=~"),
        ] {
            let parts = Url::parse(url).unwrap();
            let mut written = Vec::new();
            parts.write_target(&mut written);
            assert_eq!(
                (parts.authority, written.as_slice()),
                (authority, target.as_bytes()),
                "{url}"
            );
        }
    }

    #[test]
    fn https_has_a_port_and_connections_of_its_own() {
        for (url, name, address, origin) in [
            ("https://h/a", "h", "h:443", "https://h"),
            ("https://h:8443", "h", "h:8443", "https://h:8443"),
            ("https://[::1]/?q", "::1", "[::1]:443", "https://[::1]"),
            ("https://[::1]:1/", "::1", "[::1]:1", "https://[::1]:1"),
            ("http://h/", "h", "h:80", "h"),
        ] {
            let parts = Url::parse(url).unwrap();
            let found = (parts.name(), &*parts.address(), parts.origin);
            assert_eq!(found, (name, address, origin), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_requested_is_refused_with_a_reason() {
        for (url, reason) in [
            ("ftp://h/", "only http"),
            ("h/", "no scheme"),
            ("/a", "no scheme"),
            ("http://u@h/", "user information"),
            ("http://", "no host"),
            ("http://:80/", "no host"),
            ("http://h:/", "invalid port"),
            ("http://h:99999/", "invalid port"),
            ("http://h:x/", "invalid host"),
            ("http://h i/", "invalid host"),
            ("http://h/\r\nx: y", "percent-encoded"),
            ("http://h/a b", "percent-encoded"),
            ("http://h/\u{e4}", "percent-encoded"),
            ("http://h/\u{7f}", "percent-encoded"),
            ("http://h/<", "percent-encoded"),
            ("http://h/a>b?c", "percent-encoded"),
            ("http://h/?a=\"", "percent-encoded"),
            ("http://h/{id}", "percent-encoded"),
            ("http://h/a\\b", "percent-encoded"),
            ("http://h/a^b", "percent-encoded"),
            ("http://h/?a|b", "percent-encoded"),
            ("http://h/`", "percent-encoded"),
            ("http://h/100%", "%25"),
            ("http://h/%4", "%25"),
            ("http://h/%4x", "%25"),
            ("http://h/?%%20", "%25"),
        ] {
            let error = Url::parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
