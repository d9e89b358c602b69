//! Where an engine is, such as a broker, and who asks it: URLs of settings, and secrets that are not to be seen.

use std::{fmt, io, str};

use percent_encoding::percent_decode_str;

/// Text that no log shows: its `Debug` hides it, and it has no `Display`.
///
/// # Examples
/// ```
/// use maniple_parts::engine::Secret;
///
/// let password = Secret::new("open sesame");
/// assert_eq!(format!("{password:?}"), "***");
/// assert_eq!(password.reveal(), "open sesame");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who asks an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login {
    /// A name, which may be empty, and a password.
    User(String, Secret),
    /// A token, without a name.
    Token(Secret),
}

/// Where an engine is, and who asks it: `scheme://user:password@host:port`, `scheme://token@host:port`, or `host:port`.
///
/// What is not a letter, a digit or one of `-._~` in a name, password or token is written with a percent sign, as in all URLs:
/// `%40` for `@`.
///
/// # Examples
/// ```
/// use maniple_parts::engine::{EngineUrl, Login, Secret};
///
/// let url = EngineUrl::parse("rediss://shop:p%40ss@cache.example", 6379).unwrap();
/// assert_eq!(url.scheme.as_deref(), Some("rediss"));
/// assert_eq!(url.authority(), "cache.example:6379");
/// assert_eq!(url.login, Some(Login::User("shop".into(), Secret::new("p@ss"))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineUrl {
    /// What stands before `://`, in lower case, if anything.
    pub scheme: Option<String>,
    /// Who asks, as far as the URL says so.
    pub login: Option<Login>,
    /// A name or an address; one of IPv6 without what is around it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands behind, without the slash before it.
    pub path: String,
}

impl EngineUrl {
    /// Reads it; where it has no port, this is it.
    ///
    /// # Errors
    /// If it cannot be one (`InvalidInput`). The error says what is wrong, and has nothing of the text: there may be a password in it.
    pub fn parse(text: &str, port: u16) -> io::Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let is_scheme = |scheme: &String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            !scheme.is_empty() && scheme.chars().all(fits)
        };
        if !scheme.as_ref().is_none_or(is_scheme) {
            return Err(wrong("its scheme is none"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        if login.is_some() && scheme.is_none() {
            return Err(wrong("who asks stands behind a scheme alone"));
        }
        // As it is where a password has a slash that is not written as `%2F`.
        if path.contains('@') {
            return Err(wrong("there is an `@` in its path"));
        }
        let (host, given) = split_port(place)?;
        Ok(Self {
            scheme,
            login: login.map(read_login).transpose()?,
            host: host.to_owned(),
            port: given.unwrap_or(port),
            path: path.strip_prefix('/').unwrap_or(path).to_owned(),
        })
    }

    /// `host:port`, which is what may stand in logs.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

fn read_login(text: &str) -> io::Result<Login> {
    let (name, password) = match text.split_once(':') {
        Some((name, password)) => (Some(name), password),
        None => (None, text),
    };
    if password.contains(['@', ':']) || name.is_some_and(|name| name.contains('@')) {
        return Err(wrong(
            "in who asks, `@` is written as `%40` and `:` as `%3A`",
        ));
    }
    let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(wrong("who asks is no text")),
    };
    let secret = Secret(decoded(password)?);
    Ok(match name {
        Some(name) => Login::User(decoded(name)?, secret),
        None => Login::Token(secret),
    })
}

fn split_port(place: &str) -> io::Result<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or_default())),
            None => return Err(wrong("an address has no end")),
        },
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong("it has no host"));
    }
    let is_number = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => None,
        Some(port) => {
            let number = Some(port)
                .filter(is_number)
                .and_then(|port| port.parse().ok());
            let number = number.filter(|&port| port != 0);
            Some(number.ok_or_else(|| wrong("its port is none"))?)
        }
    };
    Ok((host, port))
}

fn wrong(text: &str) -> io::Error {
    let text = format!("a URL of an engine: {text}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: &str) -> Option<Login> {
        Some(Login::User(name.into(), Secret::new(password)))
    }

    #[test]
    fn urls_say_where_and_who() {
        let token = Some(Login::Token(Secret::new("s3cr3t")));
        let table = [
            ("host", None, "host:7", None, ""),
            ("host:1", None, "host:1", None, ""),
            ("10.0.0.1:65535", None, "10.0.0.1:65535", None, ""),
            ("[::1]", None, "[::1]:7", None, ""),
            ("[::1]:9", None, "[::1]:9", None, ""),
            ("HTTPS://host:1/", Some("https"), "host:1", None, ""),
            ("redis://host:1/0", Some("redis"), "host:1", None, "0"),
            ("x://u:p@h:1", Some("x"), "h:1", user("u", "p"), ""),
            ("x://:p@h", Some("x"), "h:7", user("", "p"), ""),
            ("x://u:@h", Some("x"), "h:7", user("u", ""), ""),
            (
                "x://u%3A:%40%2f%25@h",
                Some("x"),
                "h:7",
                user("u:", "@/%"),
                "",
            ),
            (
                "x://s3cr3t@[fe80::1]:2",
                Some("x"),
                "[fe80::1]:2",
                token,
                "",
            ),
        ];
        for (text, scheme, authority, login, path) in table {
            let url = EngineUrl::parse(text, 7).unwrap();
            assert_eq!(url.scheme.as_deref(), scheme, "{text}");
            assert_eq!(url.authority(), authority, "{text}");
            assert_eq!(url.login, login, "{text}");
            assert_eq!(url.path, path, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_without_a_word_of_it() {
        for text in [
            "",
            "x://",
            ":1",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            "h:1:2",
            "h h:1",
            "[::1",
            "[::1]9",
            "://h:1",
            "sw ordfish://h",
            "u:swordfish@h:1",
            "swordfish@h:1",
            "x://u:sword/fish@h:1",
            "x://u:12/swordfish@h:1",
            "x://u:sword@fish@h:1",
            "x://u:sword:fish@h:1",
            "x://u:swordfish%ff@h:1",
            "x://u:sword#fish@h:1",
        ] {
            let error = EngineUrl::parse(text, 7).unwrap_err().to_string();
            assert!(
                !error.contains("sword") && !error.contains("fish"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn nothing_that_is_shown_has_a_secret() {
        for text in ["x://u:swordfish@h", "x://swordfish@h"] {
            let shown = format!("{:?}", EngineUrl::parse(text, 7).unwrap());
            assert!(
                shown.contains("***") && !shown.contains("swordfish"),
                "{shown}"
            );
        }
    }
}
