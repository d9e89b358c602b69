//! Proxies that a client asks through: which, for which hosts, and what is agreed on with one before it passes bytes on.

use std::{
    fmt,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use base64::Engine;
use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;

use super::{
    error::ClientError,
    exceptions::Exceptions,
    socks::{self, Refused, Target},
    url::Url,
};
use crate::{
    http1::{
        conversation::{Awaiting, MAX_HEAD},
        reply::{Reply, Search},
        target::is_host,
    },
    transport::Transport,
};

/// A proxy that a [`Client`](crate::Client) asks through: set by [`Builder::proxy`](super::Builder::proxy).
///
/// | URL of the proxy | `http` URLs are asked | `https` URLs are asked |
/// |---|---|---|
/// | `http://`, `https://` | by the proxy, which is sent the whole URL | through a tunnel, by `CONNECT` |
/// | `socks5://` | through a connection by the proxy, to an address that is looked up here | likewise |
/// | `socks5h://` | through a connection by the proxy, which looks the name up | likewise |
///
/// `https` URLs are asked by TLS with the server itself: a proxy sees names and ports, and no more. To one that has an `https`
/// URL of its own TLS is spoken, too.
///
/// # Examples
/// ```
/// use maniple_server::{Client, client::Proxy};
/// # fn main() -> Result<(), maniple_server::ClientError> {
/// let proxy = Proxy::new("http://user:secret@proxy.example:3128")?.except("localhost, .example, 10.0.0.0/8");
/// let client = Client::builder().proxy(proxy).build();
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Proxy {
    pub(super) kind: Kind,
    /// Host and port.
    pub(super) address: String,
    /// The host alone.
    pub(super) name: String,
    credentials: Option<(String, String)>,
    except: Exceptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    /// Names are looked up here.
    Socks,
    SocksByName,
}

/// The proxies of a client, by the scheme of what is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    pub(super) http: Option<Arc<Proxy>>,
    pub(super) https: Option<Arc<Proxy>>,
}

impl Proxy {
    /// Of a URL: `http://`, `https://`, `socks5://` or `socks5h://`, maybe a user and a password in front of the host, and a
    /// port. Without a scheme it is `http`; the ports are 80, 443 and 1080 unless it says so.
    ///
    /// # Errors
    /// [`ClientError::Url`] if it is none of these. The message has no password in it.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::split(url).map_err(|reason| {
            let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
            ClientError::Url {
                url: shown.to_owned(),
                reason: reason.to_owned(),
            }
        })
    }

    fn split(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" => (Kind::Socks, 1080),
            "socks5h" => (Kind::SocksByName, 1080),
            _ => return Err("a proxy is asked by http, https, socks5 or socks5h"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if !matches!(&rest[end..], "" | "/") {
            return Err("the URL of a proxy has no path");
        }
        let (who, authority) = match rest[..end].rsplit_once('@') {
            Some((who, authority)) => (Some(who), authority),
            None => (None, &rest[..end]),
        };
        let port_at = authority
            .rfind(':')
            .filter(|&at| !authority[at..].contains(']'));
        let name = &authority[..port_at.unwrap_or(authority.len())];
        if name.is_empty() || !is_host(authority.as_bytes()) {
            return Err("invalid host");
        }
        let port = match port_at {
            Some(at) => authority[at + 1..]
                .parse::<u16>()
                .map_err(|_| "invalid port")?,
            None => port,
        };
        let credentials = match who {
            None => None,
            Some(who) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                let decoded = |text| percent_decode_str(text).decode_utf8();
                let user = decoded(user).map_err(|_| "the user's name is not UTF-8")?;
                let password = decoded(password).map_err(|_| "the password is not UTF-8")?;
                Some((user.into_owned(), password.into_owned()))
            }
        };
        let proxy = Self {
            kind,
            address: format!("{name}:{port}"),
            name: name
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            credentials,
            except: Exceptions::default(),
        };
        match &proxy.credentials {
            Some((user, _)) if user.contains(':') => Err("a user's name has no colon"),
            _ => Ok(proxy),
        }
    }

    /// What the proxy is told of who asks. It is sent to the proxy alone.
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Hosts that are asked without it, in the form of `NO_PROXY`: names, which stand for themselves and all names below them,
    /// addresses and networks (`10.0.0.0/8`), each maybe with a port; `*` for all. Commas or blanks are between them. Default:
    /// none, so that this machine itself is asked through the proxy, too.
    ///
    /// What is looked at is the host as the URL has it. A name is not looked up for this.
    pub fn except(mut self, hosts: &str) -> Self {
        self.except = Exceptions::parse(hosts);
        self
    }

    fn is_for(&self, url: &Url<'_>) -> bool {
        let port = url.port();
        !self.except.have(url.name(), port)
    }

    /// What an HTTP proxy is told of who asks.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials.as_ref()?;
        let coded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::try_from(format!("Basic {coded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(super) fn is_socks(&self) -> bool {
        matches!(self.kind, Kind::Socks | Kind::SocksByName)
    }

    /// Has the proxy connect its stream with the host of the URL, of which the address is known if names are looked up here.
    pub(super) fn open_way(
        &self,
        stream: &Transport,
        url: &Url<'_>,
        address: Option<SocketAddr>,
    ) -> Result<(), ClientError> {
        let agreed = match self.is_socks() {
            true => {
                let target = match address {
                    Some(address) => Target::Address(address),
                    None => match url.name().parse() {
                        Ok(ip) => Target::Address(SocketAddr::new(ip, url.port())),
                        Err(_) => Target::Name(url.name(), url.port()),
                    },
                };
                let who = self.credentials.as_ref();
                let who = who.map(|(user, password)| (user.as_str(), password.as_str()));
                socks::connect(&mut Talk(stream), target, who)
            }
            false => self.tunnel(stream, &url.address()),
        };
        agreed.map_err(|refused| match refused {
            Refused::Said(reason) => ClientError::Proxy {
                host: url.origin.to_owned(),
                proxy: self.address.clone(),
                reason,
            },
            Refused::Io(error) => ClientError::connect(&self.address, error),
        })
    }

    /// `CONNECT` (RFC 9110, 9.3.6).
    fn tunnel(&self, stream: &Transport, to: &str) -> Result<(), Refused> {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
        if let Some(authorization) = self.authorization() {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let mut talk = Talk(stream);
        talk.write_all(&request)?;
        talk.flush()?;
        let malformed = |reason: &str| Refused::Said(format!("malformed answer: {reason}"));
        let (mut bytes, mut search) = (Vec::new(), Search::default());
        let mut awaiting = Awaiting::default();
        let mut room = [0; 1024];
        loop {
            while let Some(length) = search.find(&bytes).map_err(malformed)? {
                // As to HEAD, no content follows a tunnel's head.
                let reply = Reply::parse(&bytes[..length], &Method::HEAD);
                let reply = reply.map_err(|reason| malformed(&reason))?;
                bytes.drain(..length);
                if !awaiting.is_final(reply.status, length).map_err(malformed)? {
                    search = Search::default();
                    continue;
                }
                if !reply.status.is_success() {
                    return Err(Refused::Said(format!("answered {}", reply.status)));
                }
                // The server does not speak first, so these bytes are not its own.
                return match bytes.is_empty() {
                    true => Ok(()),
                    false => Err(malformed("bytes behind it")),
                };
            }
            if bytes.len() > MAX_HEAD {
                return Err(malformed("head too large"));
            }
            match talk.read(&mut room)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => bytes.extend_from_slice(&room[..count]),
            }
        }
    }
}

impl fmt::Debug for Proxy {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Proxies {
    /// Those that the environment names, read by `get`.
    pub(super) fn of_environment(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ClientError> {
        let named = |names: &[&str]| {
            let values = names.iter().filter_map(|name| get(name));
            values
                .map(|value| value.trim().to_owned())
                .find(|value| !value.is_empty())
        };
        let except = named(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let all = named(&["all_proxy", "ALL_PROXY"]);
        let made = |url: Option<String>| {
            let proxy = url.or_else(|| all.clone()).map(|url| Proxy::new(&url));
            let proxy = proxy.transpose()?;
            Ok::<_, ClientError>(proxy.map(|proxy| Arc::new(proxy.except(&except))))
        };
        // Under CGI, HTTP_PROXY is what a client says in a field `Proxy`.
        let of_http: &[&str] = match get("REQUEST_METHOD") {
            Some(_) => &["http_proxy"],
            None => &["http_proxy", "HTTP_PROXY"],
        };
        Ok(Self {
            http: made(named(of_http))?,
            https: made(named(&["https_proxy", "HTTPS_PROXY"]))?,
        })
    }

    /// The one through which that URL is asked.
    pub(super) fn of(&self, url: &Url<'_>) -> Option<&Arc<Proxy>> {
        let proxy = match url.is_secure {
            true => &self.https,
            false => &self.http,
        };
        proxy.as_ref().filter(|proxy| proxy.is_for(url))
    }
}

/// A connection on which something is agreed.
struct Talk<'t>(&'t Transport);

impl Read for Talk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Talk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url() {
        for (url, kind, address, who) in [
            ("proxy.test:3128", Kind::Http, "proxy.test:3128", None),
            ("http://proxy.test", Kind::Http, "proxy.test:80", None),
            ("HTTPS://proxy.test/", Kind::Https, "proxy.test:443", None),
            ("socks5://[::1]", Kind::Socks, "[::1]:1080", None),
            ("socks5h://a:9", Kind::SocksByName, "a:9", None),
            (
                "http://u%40x:p%3Aw@a:1",
                Kind::Http,
                "a:1",
                Some(("u@x", "p:w")),
            ),
            ("http://u@a:1", Kind::Http, "a:1", Some(("u", ""))),
        ] {
            let proxy = Proxy::new(url).unwrap();
            let found = proxy.credentials.as_ref();
            let found = found.map(|(user, password)| (user.as_str(), password.as_str()));
            let found = (proxy.kind, proxy.address.as_str(), found);
            assert_eq!(found, (kind, address, who), "{url}");
        }
        assert_eq!(Proxy::new("socks5://[::1]").unwrap().name, "::1");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for url in [
            "",
            "ftp://u:secret@h",
            "socks4://u:secret@h",
            "http://u:secret@",
            "http://u:secret@h:99999",
            "http://u:secret@h/path",
            "http://u:secret@h?q",
            "http://u%3Ax:secret@h",
            "http://%ff:secret@h",
        ] {
            let error = Proxy::new(url).unwrap_err();
            assert!(matches!(error, ClientError::Url { .. }));
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        let proxy = Proxy::new("http://u:secret@h").unwrap();
        let shown = format!("{proxy:?} {:?}", proxy.authorization());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_environment_says_what_other_programs_take_from_it() {
        let proxies = |vars: &[(&str, &str)]| {
            let get = |name: &str| {
                let found = vars.iter().find(|(given, _)| *given == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Proxies::of_environment(get).unwrap()
        };
        let asked = |proxies: &Proxies, url: &str| {
            let url = Url::parse(url).unwrap();
            proxies.of(&url).map(|proxy| proxy.address.clone())
        };
        let both = proxies(&[
            ("http_proxy", "a:1"),
            ("HTTPS_PROXY", "http://b:2"),
            ("no_proxy", "c.test,10.0.0.0/8"),
        ]);
        assert_eq!(asked(&both, "http://h/").as_deref(), Some("a:1"));
        assert_eq!(asked(&both, "https://h/").as_deref(), Some("b:2"));
        for direct in ["http://c.test/", "https://x.C.test:4/", "http://10.1.1.1/"] {
            assert_eq!(asked(&both, direct), None, "{direct}");
        }
        // The name of an IPv6 zone is no name below a domain.
        assert!(Url::parse("http://[::1%25.c.test]:80/").is_err());
        let all = proxies(&[("ALL_PROXY", "socks5://s"), ("https_proxy", " ")]);
        assert_eq!(asked(&all, "http://h/").as_deref(), Some("s:1080"));
        assert_eq!(asked(&all, "https://h/").as_deref(), Some("s:1080"));
        let cgi = proxies(&[("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(asked(&cgi, "http://h/"), None);
        assert_eq!(asked(&proxies(&[]), "http://h/"), None);
        let wrong = |name: &str| (name == "http_proxy").then(|| "ftp://x".to_owned());
        assert!(Proxies::of_environment(wrong).is_err());
    }
}
