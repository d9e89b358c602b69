//! So many requests of each client in so much time.

mod buckets;

use std::{
    fmt,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};

use super::chain::{Middleware, Next};
use crate::{
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
    server::overrun::report_rate,
};
use buckets::{Buckets, Taken};

/// Lets so many requests of each client through in so much time; further ones are answered with 429 and `Retry-After`.
///
/// It is a bucket for each client, full at first, from which each request takes one and which fills evenly: of
/// `RateLimit::new(100, Duration::from_secs(60))` a client that was quiet may send 100 at once, and then one every 0.6 s.
/// What is refused takes nothing. Nobody waits.
///
/// A client is told apart by its [address](Request::client_address), which is what a trusted proxy says if there is one; of
/// IPv6 by the network of 64 bits, all of which one subscriber has. Clients without an address, over a Unix-domain socket,
/// have one bucket together. [`RateLimit::by`] tells them apart by something else.
///
/// Memory is fixed: see [`RateLimit::keys`]. Nothing is thrown out of it, so nobody gets a fresh bucket by inventing
/// addresses or keys; who is busy with more than it is made for makes others be refused too early. It counts for this
/// process alone: of several behind a balancer, each lets so many through.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_server::{Request, Router, StatusCode, middleware::RateLimit};
///
/// let limit = RateLimit::new(2, Duration::from_secs(60));
/// let router = Router::new().with(limit).get("/", |_: &mut Request| "hello");
/// let ask = || router.answer(&mut Request::for_test("GET", "/"));
/// assert_eq!((ask().status(), ask().status()), (StatusCode::OK, StatusCode::OK));
/// let refused = ask();
/// assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
/// assert_eq!(refused.header("retry-after"), Some("30"));
/// ```
pub struct RateLimit {
    buckets: Buckets,
    began: Instant,
    /// Not to be guessed, so that nobody can find out who shares a bucket with whom.
    hashes: Hashes,
    key: Option<Box<KeyOf>>,
    settings: Settings,
}

type KeyOf = dyn Fn(&Request, &Hashes) -> Option<u64> + Send + Sync;

/// Keys of hashes: this process's own, or in a simulated world the seed's.
struct Hashes {
    process: RandomState,
    drawn: Option<u64>,
}

impl Hashes {
    fn draw() -> Self {
        Self {
            process: RandomState::new(),
            drawn: maniple::sim::random(),
        }
    }
}

impl BuildHasher for Hashes {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        match self.drawn {
            None => self.process.build_hasher(),
            Some(drawn) => {
                let mut hasher = DefaultHasher::new();
                hasher.write_u64(drawn);
                hasher
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    requests: u32,
    per: Duration,
    burst: u32,
    keys: usize,
    tells_all: bool,
}

impl Settings {
    /// Nanoseconds in which a request's worth comes back.
    fn each(self) -> u64 {
        let each = self.per.as_nanos() / u128::from(self.requests);
        u64::try_from(each).unwrap_or(u64::MAX)
    }

    fn buckets(self) -> Buckets {
        Buckets::new(self.keys, self.each(), self.burst)
    }
}

impl RateLimit {
    /// So many requests in so much time, and as many at once.
    ///
    /// # Panics
    /// If either is 0.
    #[track_caller]
    pub fn new(requests: u32, per: Duration) -> Self {
        assert!(requests > 0, "a limit of 0 requests");
        assert!(!per.is_zero(), "a limit of requests in no time");
        let settings = Settings {
            requests,
            per,
            burst: requests,
            keys: 16 * 1024,
            tells_all: false,
        };
        Self {
            buckets: settings.buckets(),
            began: maniple::time::now(),
            hashes: Hashes::draw(),
            key: None,
            settings,
        }
    }

    /// How many may come at once from a client that was quiet. Default: as many as in all the time.
    ///
    /// # Panics
    /// If it is 0: nothing would ever be let through.
    #[track_caller]
    pub fn burst(mut self, requests: u32) -> Self {
        assert!(requests > 0, "a burst of 0 requests");
        self.settings.burst = requests;
        self.buckets = self.settings.buckets();
        self
    }

    /// How many clients may be busy at a time without touching one another. Default: 16,384, which takes 1 MiB: 64 bytes
    /// each, rounded up to a power of two.
    pub fn keys(mut self, keys: usize) -> Self {
        self.settings.keys = keys;
        self.buckets = self.settings.buckets();
        self
    }

    /// Tells clients apart by what `key` returns. Where it returns `None`, by their address, in buckets of their own.
    ///
    /// What a client can invent, as a header field that nobody has checked, is no key: it would get a full bucket for each.
    /// Put what checks it outside of this.
    ///
    /// # Examples
    /// By account, for those who are known:
    /// ```
    /// use std::time::Duration;
    /// use maniple_server::{Request, middleware::RateLimit};
    ///
    /// #[derive(Clone, Hash)]
    /// struct Account(u64); // put there by a middleware that checks who asks
    ///
    /// let limit = RateLimit::new(600, Duration::from_secs(60))
    ///     .by(|request: &Request| request.extensions().get::<Account>().cloned());
    /// # let _ = limit;
    /// ```
    pub fn by<K: Hash>(
        mut self,
        key: impl Fn(&Request) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        self.key = Some(Box::new(move |request, hashes| {
            let key = key(request)?;
            Some(hashes.hash_one((true, key)))
        }));
        self
    }

    /// Whether all answers tell what is left, in the fields `RateLimit` and `RateLimit-Policy` of the IETF's draft, which those
    /// of 429 always do. Default: no.
    pub fn tell_all(mut self, tell: bool) -> Self {
        self.settings.tells_all = tell;
        self
    }

    fn hash(&self, request: &Request) -> u64 {
        let key = self.key.as_ref();
        key.and_then(|key| key(request, &self.hashes))
            .unwrap_or_else(|| {
                let client = request.client_address().map(subscriber);
                self.hashes.hash_one((false, client))
            })
    }

    fn now(&self) -> u64 {
        u64::try_from(
            maniple::time::now()
                .saturating_duration_since(self.began)
                .as_nanos(),
        )
        .unwrap_or(u64::MAX)
    }

    /// Sets the fields of draft-ietf-httpapi-ratelimit-headers.
    #[cold]
    fn tell(&self, response: &mut Response, left: u64, full_in: u64) {
        let window = seconds(u64::try_from(self.settings.per.as_nanos()).unwrap_or(u64::MAX));
        let quota = self.settings.requests;
        let fields = [
            (
                "ratelimit-policy",
                format!("\"default\";q={quota};w={window}"),
            ),
            (
                "ratelimit",
                format!("\"default\";r={left};t={}", seconds(full_in)),
            ),
        ];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::try_from(value) {
                let headers = response.headers_mut();
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    #[cold]
    fn refuse(&self, request: &Request, wait: u64) -> Response {
        report_rate(request.peer());
        let reason = "too many requests in this time";
        let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, reason).into_response();
        self.tell(&mut response, 0, wait);
        let after = HeaderValue::from(seconds(wait));
        response.headers_mut().insert(RETRY_AFTER, after);
        response
    }
}

/// What one subscriber has.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Whole ones, rounded up: who comes back at once would come too early.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

impl Middleware for RateLimit {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        match self.buckets.take(self.hash(request), self.now()) {
            Taken::No { wait } => self.refuse(request, wait),
            Taken::Yes { left, full_in } => {
                let mut response = next.run(request);
                if self.settings.tells_all && !response.status().is_informational() {
                    self.tell(&mut response, left, full_in);
                }
                response
            }
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RateLimit");
        debug.field("settings", &self.settings);
        debug.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    const LONG: Duration = Duration::from_secs(1_000_000);

    fn router(limit: RateLimit) -> Router {
        Router::new()
            .with(limit)
            .get("/", |_: &mut Request| "let through")
    }

    fn ask(router: &Router, key: &str) -> Response {
        router.answer(&mut Request::for_test("GET", "/").with_header("x-key", key))
    }

    fn by_key(limit: RateLimit) -> RateLimit {
        limit.by(|request| request.header("x-key").map(<[u8]>::to_vec))
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again() {
        let router = router(RateLimit::new(1, LONG));
        assert_eq!(ask(&router, "").status(), StatusCode::OK);
        let refused = ask(&router, "");
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.header("retry-after"), Some("1000000"));
        let policy = refused.header("ratelimit-policy");
        assert_eq!(policy, Some("\"default\";q=1;w=1000000"));
        let left = refused.header("ratelimit");
        assert_eq!(left, Some("\"default\";r=0;t=1000000"));
    }

    #[test]
    fn one_that_asks_too_often_leaves_the_others_alone() {
        let router = router(by_key(RateLimit::new(1, LONG)));
        assert_eq!(ask(&router, "one").status(), StatusCode::OK);
        let again = ask(&router, "one");
        assert_eq!(again.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(ask(&router, "other").status(), StatusCode::OK);
    }

    #[test]
    fn answers_tell_what_is_left_where_that_is_wanted() {
        let quiet = router(RateLimit::new(10, LONG));
        assert_eq!(ask(&quiet, "").header("ratelimit"), None);
        let telling = router(RateLimit::new(10, LONG).burst(3).tell_all(true));
        let left = ask(&telling, "");
        assert_eq!(left.header("ratelimit"), Some("\"default\";r=2;t=100000"));
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_and_a_mapped_address_is_that_of_ipv4() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn a_request_without_a_key_is_not_let_through_for_that() {
        let keyed = RateLimit::new(1, LONG).by(|_| None::<u8>);
        let router = router(keyed);
        assert_eq!(ask(&router, "").status(), StatusCode::OK);
        assert_eq!(ask(&router, "").status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
