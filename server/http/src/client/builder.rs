//! Settings of a client, and their defaults.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderName;

#[cfg(feature = "http2")]
use super::http2::{Http2, LINK, Links};
use super::{
    error::ClientError,
    jar::Jar,
    manner::Manner,
    phase,
    pool::{Limits, Pool},
    proxy::{Proxies, Proxy},
    servers::{Servers, Service, Services},
    shared::{Decoding, Shared},
    url::Url,
};
use crate::transport::{ClientTls, Connector};

/// Settings of a [`Client`](crate::Client); made by [`Client::builder`](crate::Client::builder).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    connector: Option<Connector>,
    servers: Vec<(String, Servers)>,
    pub(crate) security: ClientTls,
    cookies: bool,
    proxies: Proxies,
    pinned: HashMap<String, Vec<SocketAddr>>,
    limits: phase::Limits,
    manner: Manner,
    timeout: Option<Duration>,
    idle: Limits,
    max_body_bytes: u64,
    max_redirects: usize,
    pub(crate) decoding: Option<Decoding>,
    #[cfg(feature = "http2")]
    http2: Http2,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            connector: None,
            servers: Vec::new(),
            security: ClientTls::default(),
            cookies: false,
            proxies: Proxies::default(),
            pinned: HashMap::new(),
            limits: phase::Limits {
                queue: None,
                resolve: Some(Duration::from_secs(15)),
                connect: Duration::from_secs(5),
                body: None,
            },
            manner: Manner::default(),
            timeout: None,
            idle: Limits {
                total: 512,
                per_host: 64,
                age: Duration::from_secs(30),
                life: None,
                open: None,
                open_per_host: None,
                waiting: 1024,
            },
            max_body_bytes: 16 * 1024 * 1024,
            max_redirects: 0,
            decoding: None,
            #[cfg(feature = "http2")]
            http2: Http2::default(),
        }
    }

    /// Whether HTTP/2 is offered in handshakes of TLS, before HTTP/1.1 (ALPN). Default: yes, unless the settings of
    /// [`tls`](Self::tls) name the protocols to offer: then those are, and HTTP/2 is spoken if it is one and is agreed on. With the
    /// feature `http2`.
    ///
    /// All requests to a server go over one connection, as many at a time as it allows; more wait their turn, at most for
    /// [`queue_timeout`](Self::queue_timeout). What limits connections counts it as one. A request with `Upgrade`, a WebSocket and
    /// what a [`Proxy`](crate::Proxy) passes on go over HTTP/1.1.
    ///
    /// A request that the server has not looked at for certain, since it refused it or goes (`GOAWAY`), is made again, up to 8 times,
    /// whatever its method, if of a body that is made while it is sent nothing was made. Other requests are made again where they would
    /// be over HTTP/1.1: see [`Request::send`](super::Request::send).
    ///
    /// # Examples
    /// ```
    /// use maniple_server::Client;
    /// let client = Client::builder().http2(false).build();
    /// # drop(client);
    /// ```
    #[cfg(feature = "http2")]
    pub fn http2(mut self, is_offered: bool) -> Self {
        self.http2.is_offered = is_offered;
        self
    }

    /// Speaks HTTP/2 with all servers, in plain text, too, since they are known to (RFC 9113, 3.3). Default: no. With the
    /// feature `http2`.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Client, Request, Router, Server, Version};
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     let router = Router::new().get("/", |_: &mut Request| "over HTTP/2");
    ///     let server = Server::builder(router).bind("127.0.0.1:0")?;
    ///     let url = format!("http://{}/", server.local_addr());
    ///     let handle = server.handle();
    ///     let serving = maniple::spawn(move || server.serve());
    ///
    ///     let client = Client::builder().http2_prior_knowledge(true).build();
    ///     let answer = client.get(&url)?;
    ///     assert_eq!(answer.version(), Version::HTTP_2);
    ///     assert_eq!(answer.text()?, "over HTTP/2");
    ///
    ///     drop(client);
    ///     handle.drain();
    ///     serving.join()??;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[cfg(feature = "http2")]
    pub fn http2_prior_knowledge(mut self, is_known: bool) -> Self {
        self.http2.is_known = is_known;
        self
    }

    /// Settings of connections of HTTP/2: windows, the size of heads, and when a server is asked whether it is there. Their idle
    /// time is [`idle_timeout`](Self::idle_timeout). Default: those of [`LinkSettings`](crate::http2::LinkSettings). With the feature
    /// `http2`.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Client, http2::LinkSettings};
    /// use std::time::Duration;
    /// let link = LinkSettings::new().keep_alive(Duration::from_secs(30), Duration::from_secs(10));
    /// let client = Client::builder().http2_settings(link).build();
    /// # drop(client);
    /// ```
    #[cfg(feature = "http2")]
    pub fn http2_settings(mut self, settings: crate::http2::LinkSettings) -> Self {
        self.http2.link = settings.name(LINK);
        self
    }

    /// Sends all requests there, whatever host their URLs name: to a Unix-domain socket, or to a listener
    /// [in memory](crate::transport::memory). See [`Connector`]. The host of a URL is what the `Host` field says then, and
    /// is not looked up. Default: none, which connects by TCP to the host of the URL.
    ///
    /// # Errors
    /// If it is no address (`InvalidInput`): a path of more than 107 bytes, for instance.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::Client;
    /// use std::path::Path;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // curl --unix-socket /run/hello.sock http://hello/
    /// let client = Client::builder().connector(Path::new("/run/hello.sock"))?.build();
    /// println!("{}", client.get("http://hello/")?.text()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connector<C>(mut self, connector: C) -> io::Result<Self>
    where
        C: TryInto<Connector, Error = io::Error>,
    {
        self.connector = Some(connector.try_into()?);
        Ok(self)
    }

    /// Has URLs with that host, and no port, answered by these servers: `http://users/7` is asked of one of those that are `users`. The
    /// name is what `Host` says, and, for `https`, what a certificate is to be for; it is not looked up. They are reached straight,
    /// whatever [`connector`](Self::connector) and [`proxy`](Self::proxy) say. A server without a port has that of the scheme. Default:
    /// none.
    ///
    /// Each request goes to a server that its set [picks](maniple_parts::endpoints::Endpoints::pick), and is under way there until the
    /// answer's body has come, or the answer is dropped. How long it takes is the time to the answer's head. Errors of the connection,
    /// time that runs out and [5xx](Servers::failures) speak against the server.
    ///
    /// Another server is asked, as often as [`Servers::retry`] says, where that is **safe**: if nothing has left; or if the method is
    /// idempotent, nothing of a body was made that cannot be made again, and the connection failed before the answer's head had come,
    /// or the answer is 502, 503 or 504. Behind the head nothing is asked again. Where nobody does better, such an answer is returned.
    ///
    /// The set may change at any time. Idle connections to a server that leaves are closed at once; calls that are under way go on, and
    /// their connections are closed behind them.
    ///
    /// Metrics tell of sets and calls [by themselves](crate::middleware::Metrics).
    ///
    /// # Panics
    /// If the name is not one that a URL can have as its host without a port.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_parts::endpoints::Endpoints;
    /// use maniple_server::{Client, client::Servers};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let users = Endpoints::builder("users").limit(200).build(["10.0.0.7:80", "10.0.0.8:80"])?;
    /// let client = Client::builder().servers("users", Servers::new(users.clone())).build();
    /// println!("{}", client.get("http://users/7")?.text()?);
    /// users.set(["10.0.0.8:80", "10.0.0.9:80"])?; // while it runs
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn servers(mut self, host: &str, servers: Servers) -> Self {
        let url = format!("http://{host}/");
        let is_host = Url::parse(&url).is_ok_and(|url| url.authority == host && !url.port_is_named);
        assert!(is_host, "{host:?} is no host of a URL");
        self.servers
            .retain(|(name, _)| !name.eq_ignore_ascii_case(host));
        self.servers.push((host.to_owned(), servers));
        self
    }

    /// Keeps cookies that servers set, and sends them with the next requests. Default: no.
    ///
    /// **A cookie stays with its origin**: the scheme, host and port that set it, whatever its `Domain` says; paths, `Max-Age`,
    /// `Expires`, `Secure` and the prefixes of names are kept to (RFC 6265). All clones of the client have them together, in memory
    /// alone: a client of which several users' calls are made is one for all of them. A request that has a `Cookie` field sends
    /// that and no others. Kept are 50 cookies of each origin, of 4 KiB each, and 256 origins; 16 KiB are sent.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::Client;
    /// # fn main() -> Result<(), maniple_server::ClientError> {
    /// let client = Client::builder().cookies(true).build();
    /// client.post("http://127.0.0.1:9001/login").body("name=me").send()?.error_for_status()?;
    /// println!("{}", client.get("http://127.0.0.1:9001/account")?.text()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cookies(mut self, keeps: bool) -> Self {
        self.cookies = keeps;
        self
    }

    /// Asks through that proxy, `http` and `https` URLs alike: see [`Proxy`]. Default: none. Where a
    /// [`connector`](Self::connector) leads, no proxy is asked.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        let proxy = Some(Arc::new(proxy));
        self.proxies = Proxies {
            http: proxy.clone(),
            https: proxy,
        };
        self
    }

    /// Asks through the proxies that the environment names now, as other programs do: `http_proxy`, `https_proxy`, for what
    /// these leave open `all_proxy`, and but for the hosts in `no_proxy`, all of them in capitals, too. Default: the environment
    /// is not looked at.
    ///
    /// `HTTP_PROXY` in capitals is not taken where `REQUEST_METHOD` is set: under CGI a client may say what it is.
    ///
    /// # Errors
    /// [`ClientError::Url`] if what one of them names is no proxy.
    pub fn proxy_from_env(mut self) -> Result<Self, ClientError> {
        self.proxies = Proxies::of_environment(|name| std::env::var(name).ok())?;
        Ok(self)
    }

    /// Takes these for the addresses of a host, which is not looked up then. A port of 0 stands for that of the URL. Default:
    /// none.
    ///
    /// Other names are looked up by the system, and remembered for the whole process: for how long says
    /// [`set_name_ttl`](maniple::net::set_name_ttl). A connection that is kept leads on to where its name led when it was made:
    /// [`max_connection_age`](Self::max_connection_age) bounds that.
    pub fn resolve(mut self, host: &str, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let addresses = addresses.into_iter().collect();
        self.pinned.insert(host.to_ascii_lowercase(), addresses);
        self
    }

    /// How long a call may wait for a connection where [`max_connections`](Self::max_connections) or
    /// [`max_connections_per_host`](Self::max_connections_per_host) bounds them. Default: no limit but the caller's
    /// deadline.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.limits.queue = Some(timeout);
        self
    }

    /// How long looking a name up may take. Default: 15 s, in which the system's resolver asks three servers.
    pub fn resolve_timeout(mut self, timeout: Duration) -> Self {
        self.limits.resolve = Some(timeout);
        self
    }

    /// How long making a connection may take, to whichever address of the host answers first; and, besides, for a proxy to make
    /// its own. Default: 5 s. Zero lets no connection be made: requests end with
    /// [`ClientError::Connect`](crate::ClientError::Connect), of which
    /// [`ClientError::is_timeout`](crate::ClientError::is_timeout) is true.
    ///
    /// Of several addresses, IPv6 and IPv4 take turns, each attempt beginning when the one before has failed or has taken
    /// 250 ms (RFC 8305).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect = timeout;
        self
    }

    /// How long a request may take to leave, body and the leave for it (`Expect`) included. Default: no limit but the caller's
    /// deadline.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.manner.send = Some(timeout);
        self
    }

    /// How long the head of the answer may take, from when the request has left; interim answers do not prolong it. Default:
    /// no limit but the caller's deadline.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.manner.answer = Some(timeout);
        self
    }

    /// How long the answer's body may take, from its head to its end, and whatever its reader does meanwhile. Default: no limit
    /// but the deadlines of those who read.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.limits.body = Some(timeout);
        self
    }

    /// Tells the server how much time it has: the milliseconds until the deadline of the scope or of the request, whichever comes
    /// sooner, in a field of that name. A request that has the field already keeps its own; without a deadline there is none.
    /// Default: it is not told.
    ///
    /// It is told to any server that is asked, and says nothing but how patient the caller is.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Client, HeaderName};
    /// let field = HeaderName::from_static("x-request-timeout-ms");
    /// let client = Client::builder().deadline_field(field).build();
    /// # drop(client);
    /// ```
    pub fn deadline_field(mut self, name: HeaderName) -> Self {
        self.manner.deadline = Some(name);
        self
    }

    /// How long each read or write may wait. Default: no limit but the caller's deadline. With zero, which no answer
    /// can keep to, requests end with [`ClientError::Timeout`](crate::ClientError::Timeout) at once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Connections that are open at a time, busy or idle, to all hosts. Default: no limit.
    ///
    /// Who would need one more has the longest idle one of another host closed, or waits; the first who came is the first who
    /// is served. At most [`max_waiting`](Self::max_waiting) calls wait, for at most [`queue_timeout`](Self::queue_timeout). One is
    /// counted from before it is connected until it is closed: of an answer, until its body has been read, or the answer dropped.
    /// Those that another protocol takes over, WebSockets and tunnels, are not.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.idle.open = Some(connections);
        self
    }

    /// The same for each host and port.
    pub fn max_connections_per_host(mut self, connections: usize) -> Self {
        self.idle.open_per_host = Some(connections);
        self
    }

    /// Calls that may wait for a connection at a time. Default: 1024. Beyond that they end with
    /// [`ClientError::Full`](crate::ClientError::Full) at once.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.idle.waiting = calls;
        self
    }

    /// How long a connection is used, from when it was made: one that is older is closed behind its answer, or where it is
    /// idle. Default: no limit. With one, names that lead elsewhere by now are followed in time, and connections spread over
    /// servers that are new.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.idle.life = Some(age);
        self
    }

    /// Idle connections that are kept for all hosts. Default: 512. Beyond that the one is closed that has been idle for
    /// longest. With 0 none is kept.
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.idle.total = connections;
        self
    }

    /// Idle connections that are kept for each host and port. Default: 64. Beyond that the host's one is closed that has
    /// been idle for longest. With 0 none is kept.
    pub fn max_idle_per_host(mut self, connections: usize) -> Self {
        self.idle.per_host = connections;
        self
    }

    /// How long a connection is kept idle. Default: 30 s, which is less than servers allow. It is closed within a second
    /// after that, whether the client is used or not. With zero none is kept.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle.age = timeout;
        self
    }

    /// Bytes of a response body that are read into memory. Default: 16 MiB.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// How many redirects are followed for one request. Default: none, and the answer that tells of one is returned.
    /// Beyond that, requests end with [`ClientError::Redirect`](crate::ClientError::Redirect).
    ///
    /// 301, 302, 303, 307 and 308 with a `Location` are followed. 303 is followed by `GET`, or `HEAD` after one; so are 301
    /// and 302 after a `POST`. Any other time method and body stay (RFC 9110, 15.4). An answer that asks for a body again
    /// which was made while it was sent is returned, since that cannot be sent again.
    ///
    /// **Secrets stay with their origin**: to another scheme, host or port go the method, the body with the fields that
    /// describe it, and of the other fields `Accept` and its kin, `Cache-Control`, `Range`, `TE` and `User-Agent`. Not
    /// followed, but an error: from `https` to `http`; with user information; to a place that is no URL; to another
    /// origin where a [`connector`](Self::connector) leads to one server; from elsewhere to a [service](Self::servers).
    ///
    /// [`ClientResponse::redirected_to`](crate::ClientResponse::redirected_to) is where the answer came from in the end.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::Client;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder().max_redirects(5).build();
    /// let page = client.get("http://127.0.0.1:9001/latest")?;
    /// println!("found at {}", page.redirected_to().unwrap_or("the same place"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_redirects(mut self, redirects: usize) -> Self {
        self.max_redirects = redirects;
        self
    }

    pub(super) fn into_shared(self) -> Shared {
        let proxy = self.proxies.http.as_ref();
        let proxy = proxy.filter(|proxy| !proxy.is_socks());
        let forwarded = Manner {
            forwards: true,
            credentials: proxy.and_then(|proxy| proxy.authorization()),
            ..self.manner.clone()
        };
        let pool = Pool::new(self.idle);
        let closer = pool.closer();
        #[cfg(feature = "http2")]
        let links = Links::new(self.http2, self.idle.patience(), self.idle.life);
        #[cfg(feature = "http2")]
        let closer = closer.and_of(&links);
        let services = self.servers.into_iter();
        let services = services.map(|(host, servers)| Service::new(host, servers, closer.clone()));
        Shared {
            services: Services(services.collect()),
            pool,
            #[cfg(feature = "http2")]
            links,
            connector: self.connector,
            security: self.security,
            jar: self.cookies.then(Jar::default),
            proxies: self.proxies,
            pinned: self.pinned,
            limits: self.limits,
            straight: Arc::new(self.manner),
            forwarded: Arc::new(forwarded),
            timeout: self.timeout,
            max_body_bytes: self.max_body_bytes,
            max_redirects: self.max_redirects,
            decoding: self.decoding,
        }
    }
}
