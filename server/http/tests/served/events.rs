//! Server-sent events: each leaves at once, silence is filled, and the stream ends with the drain.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use maniple::sync::broadcast::{self, Lag, RecvTimeoutError};
use maniple::sync::mpsc;
use maniple_server::{
    Request, Response, Router, Server,
    sse::{self, Event, Next, Settings},
};

use super::transports::Served;

const LONG: Duration = Duration::from_secs(60);
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn served(
    handler: impl Fn(&mut Request) -> Response + Clone + Send + Sync + 'static,
) -> [Served; 5] {
    Served::each(|| Server::builder(Router::new().get("/", handler.clone())).drain_grace(LONG))
}

/// The lines of the events that come, without chunks' sizes: each event is a chunk.
fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let is_size =
        |line: &str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    lines
        .skip_while(|line| !line.is_empty())
        .filter(move |line| !line.is_empty() && !is_size(line))
}

#[test]
fn each_event_leaves_at_once_and_nothing_in_between_keeps_it() {
    let (done, told) = mpsc::channel::<()>();
    let told = Arc::new(std::sync::Mutex::new(told));
    let handler = move |request: &mut Request| {
        let told = told.clone();
        sse::stream(request, move |events| {
            events.send(&Event::named("first").with_data("a\nb").with_id(1))?;
            // Until the client has it.
            let waited = maniple::offload(move || told.lock().unwrap().recv_timeout(LONG));
            waited.unwrap().unwrap();
            events.send(&Event::data("second"))
        })
    };
    for served in served(handler) {
        let mut stream = served.connect();
        stream.write_all(GET.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        for field in [
            "content-type: text/event-stream",
            "cache-control: no-store",
            "x-accel-buffering: no",
        ] {
            assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
        }
        let (mut size, mut event) = (String::new(), [0; 36 + 2]);
        reader.read_line(&mut size).unwrap();
        assert_eq!(u32::from_str_radix(size.trim_end(), 16), Ok(36));
        reader.read_exact(&mut event).unwrap();
        assert_eq!(&event, b"event: first\ndata: a\ndata: b\nid: 1\n\n\r\n");
        done.send(()).unwrap();
        let second = reader.lines().map(Result::unwrap).nth(1);
        assert_eq!(second.as_deref(), Some("data: second"));
    }
}

#[test]
fn silence_is_filled_with_comments_and_a_client_is_told_when_to_come_back() {
    let settings = Settings::new()
        .keep_alive(Duration::from_millis(20))
        .retry(Duration::from_secs(2));
    let handler = move |request: &mut Request| {
        settings.stream(request, |events| {
            while events.wait(LONG) {}
            Ok(())
        })
    };
    for served in served(handler) {
        let mut stream = served.connect();
        stream.write_all(GET.as_bytes()).unwrap();
        let mut lines = lines(stream);
        assert_eq!(lines.next().unwrap(), "retry: 2000");
        for _ in 0..3 {
            assert_eq!(lines.next().unwrap(), ":");
        }
    }
}

#[test]
fn a_drain_ends_streams_with_their_last_event() {
    let (publisher, _) = broadcast::channel::<Arc<Event>>(8, Lag::DropOldest);
    let published = publisher.clone();
    let settings = Settings::new().last_event(Event::named("bye").with_data("come back"));
    let handler = move |request: &mut Request| {
        let mut news = published.subscribe();
        settings.stream(request, move |events| {
            events.send(&Event::data("hello"))?;
            events.forward(|within| match news.recv_timeout(within) {
                Ok(event) => Next::Event(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Lagged(_)) => Next::Nothing,
                Err(_) => Next::End,
            })
        })
    };
    for served in served(handler) {
        let clients: Vec<_> = (0..10)
            .map(|_| {
                let mut stream = served.connect();
                stream.write_all(GET.as_bytes()).unwrap();
                let mut lines = lines(stream);
                assert_eq!(lines.next().unwrap(), "data: hello");
                lines
            })
            .collect();
        publisher.send(Arc::new(Event::data("news"))).unwrap();
        let clients = clients.into_iter().map(|mut lines| {
            assert_eq!(lines.next().unwrap(), "data: news");
            lines
        });
        let clients: Vec<_> = clients.collect();
        served.handle.drain();
        for mut lines in clients {
            assert_eq!(lines.next().unwrap(), "event: bye");
            assert_eq!(lines.next().unwrap(), "data: come back");
            assert_eq!(lines.next(), None);
        }
        let report = served.drain();
        assert_eq!((report.cancelled, report.left), (0, 0), "{report:?}");
    }
}

#[test]
fn a_drain_cuts_no_event_of_a_client_that_takes_its_time() {
    let given = Arc::new(AtomicU64::new(0));
    let settings = Settings::new().last_event(Event::data("bye"));
    let of_handler = given.clone();
    let handler = move |request: &mut Request| {
        let given = of_handler.clone();
        settings.stream(request, move |events| {
            events.forward(|_| {
                let number = given.fetch_add(1, Relaxed);
                Next::Event(Event::data(format!("{number} {}", "x".repeat(5_000))))
            })
        })
    };
    let builder = || {
        let router = Router::new().get("/", handler.clone());
        Server::builder(router).drain_grace(LONG).body_timeout(LONG)
    };
    for served in Served::each(builder) {
        given.store(0, Relaxed);
        let mut stream = served.connect();
        stream.write_all(GET.as_bytes()).unwrap();
        // Until there is no more room for any: then the server waits for the client.
        let mut before = 0;
        while before == 0 || before < given.load(Relaxed) {
            before = given.load(Relaxed);
            maniple::sleep(Duration::from_millis(20));
        }
        served.handle.drain();
        let mut lines = lines(stream);
        for number in 0..given.load(Relaxed) {
            let line = lines.next().unwrap();
            let event = line.strip_prefix(&format!("data: {number} "));
            assert_eq!(event.map(str::len), Some(5_000), "{number} of {before}");
        }
        assert_eq!(lines.next().unwrap(), "data: bye");
        assert_eq!(lines.next(), None);
        let report = served.drain();
        assert_eq!((report.cancelled, report.left), (0, 0), "{report:?}");
    }
}

#[test]
fn a_client_that_comes_back_says_what_it_got_last() {
    let handler = |request: &mut Request| {
        let id = sse::last_event_id(request).unwrap_or("none").to_owned();
        sse::stream(request, move |events| events.send(&Event::data(id)))
    };
    for served in served(handler) {
        let came = "GET / HTTP/1.1\r\nHost: h\r\nLast-Event-ID: caf\u{e9} 7\r\n\r\n";
        assert!(served.say(came).contains("data: caf\u{e9} 7\n\n"));
        assert!(served.say(GET).contains("data: none\n\n"));
        let head = served.say(GET.replace("GET", "HEAD"));
        assert!(
            head.contains("content-type: text/event-stream\r\n"),
            "{head}"
        );
        assert!(!head.contains("data: "), "{head}");
    }
}

/// Says that it was dropped: the waits for whom has gone unwind.
struct Ended(mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // In a scope that is cut, nothing else is sent.
        let _ = maniple::cancel::shield(|| self.0.send(()));
    }
}

#[test]
fn a_client_that_has_gone_ends_its_stream() {
    let (ended, told) = mpsc::channel();
    let settings = Settings::new().keep_alive(Duration::from_millis(20));
    let handler = move |request: &mut Request| {
        let ended = ended.clone();
        settings.stream(request, move |events| {
            let _ended = Ended(ended);
            while events.wait(LONG) {}
            Ok(())
        })
    };
    for served in served(handler) {
        let mut stream = served.connect();
        stream.write_all(GET.as_bytes()).unwrap();
        let mut lines = lines(stream);
        assert_eq!(lines.next().unwrap(), ":");
        drop(lines);
        told.recv_timeout(LONG).unwrap();
    }
}
