//! How many requests there are, how long they take and how much they carry: for Prometheus.

mod calls;
mod exposition;
mod series;
mod servers;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Write},
    mem,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use maniple::{inspect, panics};

pub(crate) use calls::CallCounts;
pub use exposition::Exposition;
use exposition::Kind;
use series::{BYTES, Counted, ENDS, Histogram, Owner, SECONDS, Series};
use servers::Asked;
pub(crate) use servers::ServerNumbers;

use super::{
    chain::{Middleware, Next},
    refused::Refused,
};
use crate::{
    request::Request,
    response::{Body, BodyKind, Response},
    server::overrun,
    source::Source,
    writer::{BodyWriter, Flush, Sink, Tried},
};

/// Counts what goes through it, and [tells](Self::handler) Prometheus: by route, method and class of status.
///
/// Put it around all routes, outside of [`Compression`](super::Compression) for sizes as they travel. Clones count together.
/// Requests that no route has are `none`, methods that are not among the nine of RFC 9110 and 5789 `other`, so that nobody
/// can make series. A request counts with the end of its answer: where a body is made while it is sent, with the end
/// of that, or where its client goes away. Each thread counts for itself, and there is no lock on a request's way.
///
/// | metric | labels | what |
/// |---|---|---|
/// | `http_server_requests_total` | `route`, `method`, `code` | by class of status; `none` where a handler was cut or panicked |
/// | `http_server_responses_cut_total` | `route`, `method` | answers whose body broke off |
/// | `http_server_requests_in_flight` | | being answered now |
/// | `http_server_requests_refused_total` | `code` | by status, what was no request: malformed, too long, too late, from too many ([`Refused`]) |
/// | `http_server_request_duration_seconds` | `route`, `method` | histogram, 1 ms to 10 s |
/// | `http_server_request_body_bytes` | `route`, `method` | histogram of lengths that were told, 256 B to 16 MiB |
/// | `http_server_response_body_bytes` | `route`, `method` | histogram, without chunks' framing |
/// | `http_server_connections` | `server`, `state` | `new`, `idle`, `busy`, `ending`, `handed_over`; for servers that [report](crate::ServerHandle::report_to) |
/// | `http_server_connections_refused_total` | `server` | for want of a stack |
/// | `http_server_tls_handshakes_total` | `server`, `result` | `full`, `resumed`, `failed`; of servers that speak TLS |
/// | `http_server_limits_exceeded_total` | `limit` | peers that went beyond a limit, in all servers of the process |
/// | `http_client_calls_total`, `_retries_total`, `_hedges_total` | `service` | of clients with [servers](crate::client::Builder::servers) |
/// | `endpoints_calls_total` | `set`, `server`, `result` | of each set of servers in the process: `succeeded`, `failed` |
/// | `endpoints_in_flight`, `_limit`, `_weight`, `_latency_seconds`, `_ejections_total` | `set`, `server` | see `maniple_parts::endpoints::EndpointStats` |
/// | `endpoints_state` | `set`, `server`, `state` | 1 for the state that it has: `serving`, `returning`, `ejected`, `down`, `draining` |
/// | `endpoints_waiting` | `set` | calls that wait for a place |
/// | `circuit_breaker_state` | `breaker`, `state` | of breakers with a name, 1 for the state that it has: `closed`, `half_open`, `open` |
/// | `circuit_breaker_opened_total`, `_refused_total` | `breaker` | see `maniple_parts::resilience::BreakerStats` |
/// | `retry_budget_left`, `_calls_total`, `_retries_total`, `_refused_total` | `budget` | of budgets with a name: see `maniple_parts::resilience::BudgetStats` |
/// | `connection_pool_open`, `_idle`, `_waiting`, `_lent_total`, `_waited_seconds_total`, `_late_total`, `_connects_total`, `_connect_failures_total`, `_discarded_total` | `pool` | of pools of connections with a name: see `maniple_parts::connections::Stats` |
/// | `maniple_workers`, `maniple_workers_busy` | | threads, and those that run a coroutine now |
/// | `maniple_coroutines`, `_ready`, `_unstarted`, `_timers`, `_descriptors`, `_offload_queued` | | what they have in hand |
/// | `maniple_turns_total`, `_begun_total`, `_steals_total`, `_polls_total`, `_sleeps_total` | | what they have done |
///
/// Numbers of your own, and those of pools and hubs, come by [`collect`](Self::collect). To ask looks at each
/// coroutine of the process, which with a million of them takes a good part of a second.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::Metrics};
///
/// let metrics = Metrics::new();
/// metrics.collect(|out| out.gauge("mails_waiting", "Mails that are to be sent.", 3.0));
/// let router = Router::new()
///     .with(metrics.clone())
///     .get("/users/{id}", |_: &mut Request| "Ann")
///     .get("/metrics", metrics.handler());
///
/// router.answer(&mut Request::for_test("GET", "/users/7"));
/// let told = router.answer(&mut Request::for_test("GET", "/metrics")).into_text().unwrap();
/// assert!(told.contains("http_server_requests_total{route=\"/users/{id}\",method=\"GET\",code=\"2xx\"} 1\n"));
/// assert!(told.contains("\nmails_waiting 3\n"));
/// ```
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    /// Of these, among all that the process has.
    id: u64,
    series: Mutex<Vec<Arc<Series>>>,
    collectors: Mutex<Vec<Collector>>,
    servers: Mutex<Vec<Asked>>,
    /// What was no request, by its answer.
    refused: [AtomicU64; REFUSALS.len()],
}

impl Owner for Shared {
    fn id(&self) -> u64 {
        self.id
    }

    fn keep(&self, series: Arc<Series>) {
        locked(&self.series).push(series);
    }
}

/// What the server answers to what is no request; the last is any other.
const REFUSALS: [&str; 9] = [
    "400", "408", "413", "414", "429", "431", "501", "505", "other",
];

type Collector = Arc<dyn Fn(&mut Exposition) + Send + Sync>;

impl Metrics {
    /// With nothing counted yet.
    pub fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self {
            shared: Arc::new(Shared {
                id: IDS.fetch_add(1, Relaxed),
                series: Mutex::default(),
                collectors: Mutex::default(),
                servers: Mutex::default(),
                refused: [const { AtomicU64::new(0) }; REFUSALS.len()],
            }),
        }
    }

    /// Has `collector` called whenever the numbers are asked for. What it writes before a panic stays.
    ///
    /// # Examples
    /// The queue of a pool:
    /// ```
    /// use maniple::offload::OffloadPool;
    /// use maniple_server::middleware::Metrics;
    ///
    /// fn tell(metrics: &Metrics, pool: &'static OffloadPool) {
    ///     metrics.collect(move |out| {
    ///         out.gauge("thumbnails_queued", "Pictures that wait for a thread.", pool.queued() as f64);
    ///     });
    /// }
    /// # let _ = tell;
    /// ```
    pub fn collect(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        locked(&self.shared.collectors).push(Arc::new(collector));
    }

    /// Asks a server for its numbers, too.
    pub(crate) fn ask_server(
        &self,
        name: String,
        ask: impl Fn() -> Option<ServerNumbers> + Send + Sync + 'static,
    ) {
        let mut servers = locked(&self.shared.servers);
        // A name is asked for once, and may be another server's by now.
        servers.retain(|of| of.name != name);
        servers.push(Asked {
            name,
            ask: Arc::new(ask),
        });
    }

    /// A handler that tells the numbers: in Prometheus' text format 0.0.4, or in OpenMetrics 1.0 to who accepts that. Do not
    /// have the world ask it: put it on a listener of its own, or behind authentication.
    pub fn handler(&self) -> impl Fn(&mut Request) -> Response + Send + Sync + 'static {
        let metrics = self.clone();
        move |request| {
            let is_open = request.header_values("accept").any(|value| {
                memchr::memmem::find(value, b"application/openmetrics-text").is_some()
            });
            let kind = match is_open {
                true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
                false => "text/plain; version=0.0.4; charset=utf-8",
            };
            Response::text(metrics.text(is_open)).with_header(CONTENT_TYPE.as_str(), kind)
        }
    }

    fn text(&self, is_open: bool) -> String {
        let mut out = Exposition::new(is_open);
        self.requests(&mut out);
        let servers = locked(&self.shared.servers).clone();
        servers::tell(&mut out, &servers);
        calls::tell(&mut out);
        limits(&mut out);
        runtime(&mut out);
        let collectors = locked(&self.shared.collectors).clone();
        for collector in collectors {
            panics::catch(|| collector(&mut out));
        }
        out.finish()
    }

    fn requests(&self, out: &mut Exposition) {
        let all = locked(&self.shared.series).clone();
        // Those of all threads, by route and method.
        let mut sorted: BTreeMap<(&str, &str), Vec<&Series>> = BTreeMap::new();
        for series in &all {
            let of = sorted.entry((series.route, series.method)).or_default();
            of.push(series);
        }
        out.begin(
            "http_server_requests_total",
            "Requests that were answered.",
            Kind::Counter,
        );
        for (&(route, method), of) in &sorted {
            for (at, code) in ENDS.iter().enumerate() {
                let count: u64 = of.iter().map(|one| one.ended[at].load(Relaxed)).sum();
                if count > 0 {
                    let labels = [("route", route), ("method", method), ("code", code)];
                    out.sample("", &labels, count);
                }
            }
        }
        out.begin(
            "http_server_responses_cut_total",
            "Answers whose body broke off.",
            Kind::Counter,
        );
        for (&(route, method), of) in &sorted {
            let count: u64 = of.iter().map(|one| one.cut.load(Relaxed)).sum();
            out.sample("", &[("route", route), ("method", method)], count);
        }
        // In this order: what begins and ends meanwhile must not make it negative.
        let ended = all.iter().flat_map(|one| &one.ended);
        let ended: u64 = ended.map(|count| count.load(Relaxed)).sum();
        let begun: u64 = all.iter().map(|one| one.begun.load(Relaxed)).sum();
        let in_flight = begun.saturating_sub(ended);
        out.begin(
            "http_server_requests_in_flight",
            "Requests that are being answered.",
            Kind::Gauge,
        );
        out.sample("", &[], in_flight);
        out.begin(
            "http_server_requests_refused_total",
            "What was no request.",
            Kind::Counter,
        );
        for (code, count) in REFUSALS.iter().zip(&self.shared.refused) {
            out.sample("", &[("code", code)], count.load(Relaxed));
        }
        let families = &sorted;
        histograms(
            out,
            (
                "http_server_request_duration_seconds",
                "Until the end of the answer.",
            ),
            (&SECONDS, 1e9),
            families,
            |series| &series.took,
        );
        histograms(
            out,
            ("http_server_request_body_bytes", "Lengths that were told."),
            (&BYTES, 1.0),
            families,
            |series| &series.received,
        );
        histograms(
            out,
            ("http_server_response_body_bytes", "Bodies that were sent."),
            (&BYTES, 1.0),
            families,
            |series| &series.sent,
        );
    }
}

fn histograms<const N: usize>(
    out: &mut Exposition,
    (name, help): (&str, &str),
    (ends, unit): (&[f64; N], f64),
    families: &BTreeMap<(&str, &str), Vec<&Series>>,
    which: impl Fn(&Series) -> &Histogram<N>,
) {
    out.begin(name, help, Kind::Histogram);
    for (&(route, method), of) in families {
        let sum_of = |number: &dyn Fn(&Histogram<N>) -> u64| -> u64 {
            of.iter().map(|series| number(which(series))).sum()
        };
        let mut count = 0;
        for (at, end) in ends.iter().enumerate() {
            count += sum_of(&|one| one.below[at].load(Relaxed));
            let end = end.to_string();
            let labels = [("route", route), ("method", method), ("le", &end)];
            out.sample("_bucket", &labels, count);
        }
        count += sum_of(&|one| one.above.load(Relaxed));
        let labels = [("route", route), ("method", method), ("le", "+Inf")];
        out.sample("_bucket", &labels, count);
        let sum = sum_of(&|one| one.sum.load(Relaxed)) as f64 / unit;
        out.sample("_sum", &labels[..2], sum);
        out.sample("_count", &labels[..2], count);
    }
}

fn limits(out: &mut Exposition) {
    let name = "http_server_limits_exceeded_total";
    out.begin(name, "Peers that went beyond a limit.", Kind::Counter);
    for (limit, count) in overrun::counts() {
        out.sample("", &[("limit", limit)], count);
    }
}

fn runtime(out: &mut Exposition) {
    let seen = inspect::snapshot();
    let workers = seen.workers();
    let all =
        |count: fn(&inspect::Worker) -> usize| workers.iter().map(count).sum::<usize>() as f64;
    let ever = |count: fn(&inspect::Worker) -> u64| workers.iter().map(count).sum::<u64>();
    out.gauge(
        "maniple_workers",
        "Threads that run coroutines.",
        workers.len() as f64,
    );
    out.gauge(
        "maniple_workers_busy",
        "Of these, those that run one now.",
        all(|one| one.is_busy().into()),
    );
    out.gauge(
        "maniple_coroutines",
        "Coroutines that have begun.",
        all(|one| one.coroutines().len()),
    );
    out.gauge(
        "maniple_ready",
        "Coroutines that wait for their turn.",
        all(inspect::Worker::ready),
    );
    out.gauge(
        "maniple_unstarted",
        "Coroutines that have not begun.",
        all(inspect::Worker::unstarted),
    );
    out.gauge(
        "maniple_timers",
        "Timers that are set.",
        all(inspect::Worker::timers),
    );
    out.gauge(
        "maniple_descriptors",
        "Descriptors that are waited for.",
        all(inspect::Worker::descriptors),
    );
    out.gauge(
        "maniple_offload_queued",
        "Jobs that wait for a thread.",
        seen.offload_queued() as f64,
    );
    out.counter(
        "maniple_turns_total",
        "Turns of coroutines.",
        ever(inspect::Worker::turns),
    );
    out.counter(
        "maniple_begun_total",
        "Coroutines that were begun.",
        ever(inspect::Worker::begun),
    );
    out.counter(
        "maniple_steals_total",
        "Coroutines that another worker took over.",
        ever(inspect::Worker::steals),
    );
    out.counter(
        "maniple_polls_total",
        "Times that the kernel was asked for events.",
        ever(inspect::Worker::polls),
    );
    out.counter(
        "maniple_sleeps_total",
        "Times that a worker slept.",
        ever(inspect::Worker::sleeps),
    );
}

/// Nothing that is done under these locks panics but for want of memory.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poison| poison.into_inner())
}

impl Middleware for Metrics {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let route = request.route().unwrap_or("none");
        let received = request.header_str("content-length");
        let received = received.and_then(|length| length.parse().ok());
        let mut counted = Counted::begin(&*self.shared, route, request.method(), received);
        let mut response = next.run(request);
        counted.answered(response.status.as_u16());
        match response.body.bytes() {
            Some(bytes) => counted.sent = bytes.len() as u64,
            None => {
                let counted = counted.held_by(self.shared.clone());
                response.body = until_its_end(response.body, counted);
            }
        }
        response
    }

    fn refused(&self, refused: &Refused<'_>) {
        let status = refused.status();
        let at = REFUSALS.iter().position(|code| *code == status.as_str());
        self.shared.refused[at.unwrap_or(REFUSALS.len() - 1)].fetch_add(1, Relaxed);
    }
}

/// The same body, which counts what is sent of it, and its request when it ends.
fn until_its_end(mut body: Body, counted: Counted<Arc<Shared>>) -> Body {
    match mem::replace(&mut body.kind, BodyKind::Static(b"")) {
        BodyKind::Reader { reader, length } => {
            let reader = Box::new(CountedReader { reader, counted });
            body.kind = BodyKind::Reader { reader, length };
        }
        BodyKind::Writer { write, length } => {
            let write: crate::response::Write = Box::new(move |asked, out| {
                // As a whole, or the closure would have copies of its fields.
                let mut counted = counted;
                let mut sink = CountedSink { out, sent: 0 };
                // Where it unwinds, or never comes to an end, it was cut.
                counted.is_cut = true;
                let written = write(asked, &mut BodyWriter::new(&mut sink));
                counted.sent = sink.sent;
                counted.is_cut = written.is_err();
                written
            });
            body.kind = BodyKind::Writer { write, length };
        }
        BodyKind::Takeover(takeover) => {
            body.kind = BodyKind::Takeover(Box::new(move |connection| {
                let _counted = counted;
                takeover(connection);
            }));
        }
        kind => body.kind = kind,
    }
    body
}

struct CountedReader {
    reader: Box<dyn Source>,
    counted: Counted<Arc<Shared>>,
}

impl Source for CountedReader {
    fn in_file(&self) -> Option<(&Arc<File>, Range<u64>)> {
        self.reader.in_file()
    }

    fn pass(&mut self, bytes: u64) {
        self.counted.sent += bytes;
        self.reader.pass(bytes);
    }

    fn at_once(&self) -> usize {
        self.reader.at_once()
    }
}

impl Read for CountedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.counted.is_cut = true;
        let read = self.reader.read(buffer);
        self.counted.is_cut = match &read {
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::Interrupted,
        };
        self.counted.sent += *read.as_ref().unwrap_or(&0) as u64;
        read
    }
}

struct CountedSink<'a, 'b> {
    out: &'a mut BodyWriter<'b>,
    sent: u64,
}

impl Sink for CountedSink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn try_send(&mut self, bytes: &[u8]) -> io::Result<Tried> {
        let tried = self.out.try_send(bytes)?;
        if tried != Tried::Not {
            self.sent += bytes.len() as u64;
        }
        Ok(tried)
    }

    fn set_policy(&mut self, policy: Flush) {
        self.out.set_flush(policy);
    }

    fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()> {
        self.out.trailer(name, value)
    }

    fn headers_mut(&mut self) -> Option<&mut HeaderMap> {
        self.out.headers_mut()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("series", &locked(&self.shared.series).len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::router::Router;

    fn router(metrics: &Metrics) -> Router {
        Router::new()
            .with(metrics.clone())
            .get("/users/{id}", |_: &mut Request| "hello")
            .get("/panic", |_: &mut Request| -> StatusCode {
                panic!("intended")
            })
            .get("/read", |_: &mut Request| {
                Response::text(Body::from_reader(io::Cursor::new(vec![b'x'; 5000])))
            })
            .get("/cut", |_: &mut Request| {
                Response::text(Body::from_fn(|out| {
                    out.write_all(&[b'x'; 300])?;
                    Err(io::Error::other("no more"))
                }))
            })
            .get("/metrics", metrics.handler())
    }

    fn line<'a>(told: &'a str, begins: &str) -> &'a str {
        let mut lines = told.lines();
        let line = lines.find(|line| {
            line.strip_prefix(begins)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.unwrap_or_else(|| panic!("no {begins} in {told}"))
            .rsplit(' ')
            .next()
            .unwrap()
    }

    #[test]
    fn requests_are_counted_by_route_method_and_class() {
        let metrics = Metrics::new();
        let router = router(&metrics);
        let ask =
            |method: &str, target: &str| router.answer(&mut Request::for_test(method, target));
        for id in 0..5 {
            ask("GET", &format!("/users/{id}"));
        }
        ask("HEAD", "/users/1");
        ask("POST", "/users/1");
        ask("BREW", "/users/1");
        ask("GET", "/no/such");
        let panics = std::panic::AssertUnwindSafe(|| ask("GET", "/panic"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(ask("GET", "/read").into_bytes().unwrap().len(), 5000);
        assert!(ask("GET", "/cut").into_bytes().is_err());
        // One that is not at its end.
        let open = ask("GET", "/read");

        let told = ask("GET", "/metrics").into_text().unwrap();
        let total = |of: &str| line(&told, &format!("http_server_requests_total{{{of}}}"));
        let user = "route=\"/users/{id}\"";
        assert_eq!(total(&format!("{user},method=\"GET\",code=\"2xx\"")), "5");
        assert_eq!(total(&format!("{user},method=\"HEAD\",code=\"2xx\"")), "1");
        assert_eq!(total(&format!("{user},method=\"POST\",code=\"4xx\"")), "1");
        assert_eq!(total(&format!("{user},method=\"other\",code=\"5xx\"")), "1");
        assert_eq!(total("route=\"none\",method=\"GET\",code=\"4xx\""), "1");
        assert_eq!(total("route=\"/panic\",method=\"GET\",code=\"none\""), "1");
        assert_eq!(total("route=\"/read\",method=\"GET\",code=\"2xx\""), "1");
        let cut = "http_server_responses_cut_total{route=\"/cut\",method=\"GET\"}";
        assert_eq!(line(&told, cut), "1");
        // The one, and the one that asks.
        assert_eq!(line(&told, "http_server_requests_in_flight"), "2");
        let bytes = "http_server_response_body_bytes";
        let read = "route=\"/read\",method=\"GET\"";
        assert_eq!(
            line(&told, &format!("{bytes}_bucket{{{read},le=\"4096\"}}")),
            "0"
        );
        assert_eq!(
            line(&told, &format!("{bytes}_bucket{{{read},le=\"16384\"}}")),
            "1"
        );
        assert_eq!(line(&told, &format!("{bytes}_sum{{{read}}}")), "5000");
        drop(open);
        let told = ask("GET", "/metrics").into_text().unwrap();
        assert_eq!(line(&told, "http_server_requests_in_flight"), "1");
    }

    #[test]
    fn a_request_is_counted_where_it_ends() {
        let metrics = Metrics::new();
        let router = router(&metrics);
        let open = router.answer(&mut Request::for_test("GET", "/read"));
        let read = std::thread::spawn(|| open.into_bytes().unwrap().len());
        assert_eq!(read.join().unwrap(), 5000);

        // Late, when that thread has no values of its own any more.
        struct Late(std::cell::Cell<Option<Response>>);
        thread_local!(static LATE: Late = const { Late(std::cell::Cell::new(None)) });
        let [early, late] = [(); 2].map(|()| router.answer(&mut Request::for_test("GET", "/read")));
        let ending = std::thread::spawn(|| {
            LATE.with(|kept| kept.0.set(Some(late)));
            // Values are dropped in the opposite order.
            drop(early);
        });
        ending.join().unwrap();

        let told = router.answer(&mut Request::for_test("GET", "/metrics"));
        let told = told.into_text().unwrap();
        // The one that asks.
        assert_eq!(line(&told, "http_server_requests_in_flight"), "1");
        let read = "route=\"/read\",method=\"GET\"";
        let total = format!("http_server_requests_total{{{read},code=\"2xx\"}}");
        assert_eq!(line(&told, &total), "3");
        let seconds = format!("http_server_request_duration_seconds_count{{{read}}}");
        assert_eq!(line(&told, &seconds), "3");
    }

    #[test]
    fn collectors_are_asked_each_time_and_may_panic() {
        let metrics = Metrics::new();
        metrics.collect(|_| panic!("intended"));
        let count = AtomicU64::new(0);
        metrics.collect(move |out| {
            out.counter("asked_total", "How often.", count.fetch_add(1, Relaxed))
        });
        let router = router(&metrics);
        for number in 0..3 {
            let answer = router.answer(&mut Request::for_test("GET", "/metrics"));
            assert_eq!(
                line(&answer.into_text().unwrap(), "asked_total"),
                number.to_string()
            );
        }
    }

    #[test]
    fn who_accepts_open_metrics_is_told_so() {
        let metrics = Metrics::new();
        let accept =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        let mut request = Request::for_test("GET", "/metrics").with_header("accept", accept);
        let answer = router(&metrics).answer(&mut request);
        let kind = answer.header("content-type").unwrap().to_owned();
        assert!(
            kind.starts_with("application/openmetrics-text; version=1.0.0"),
            "{kind}"
        );
        assert!(answer.into_text().unwrap().ends_with("\n# EOF\n"));
    }
}
