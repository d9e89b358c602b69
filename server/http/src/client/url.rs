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
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("no scheme, expected http://HOST[:PORT]/PATH")?;
        let is_secure = scheme.eq_ignore_ascii_case("https");
        if !is_secure && !scheme.eq_ignore_ascii_case("http") {
            return Err("only http and https are spoken here");
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("user information is not sent");
        }
        let port_at = authority
            .rfind(':')
            .filter(|&at| !authority[at..].contains(']'));
        let name = &authority[..port_at.unwrap_or(authority.len())];
        if name.is_empty() {
            return Err("no host");
        }
        if !is_host(authority.as_bytes()) {
            return Err("invalid host");
        }
        let port = port_at.map(|at| &authority[at + 1..]);
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err("invalid port");
        }
        if !target.bytes().all(may_be_sent) {
            return Err("a character in the path or query must be percent-encoded");
        }
        let mut escapes = target.split('%').skip(1).map(str::as_bytes);
        let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
        if !escapes.all(|escape| is_hex(escape.first()) && is_hex(escape.get(1))) {
            return Err("a % in the path or query must begin a percent-encoded byte, or be %25");
        }
        let whole = scheme.len() + "://".len() + authority.len();
        Ok(Self {
            authority,
            is_secure,
            origin: if is_secure { &url[..whole] } else { authority },
            port_is_named: port.is_some(),
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

/// What a URI may have in its path and query (RFC 3986, appendix A), and the brackets that queries often have too. All
/// else is read in different ways by servers and by what stands before them.
fn may_be_sent(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte)
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
