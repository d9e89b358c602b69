//! Spans that are entered over waits: whose they are, who inherits them, and that they end.

use std::{
    fmt,
    sync::{Mutex, Once},
    time::Duration,
};

use maniple::{group, spawn, sync::channel, yield_now};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    info, info_span,
    span::Id,
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// Each event as `root:child: message`, and each end of a span as `name ended`.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = String::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|s| s.from_root())
        {
            line.push_str(span.name());
            line.push(':');
        }
        event.record(&mut Message(&mut line));
        SEEN.lock().unwrap().push(line);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let name = context.span(&id).map_or("?", |span| span.name());
        SEEN.lock().unwrap().push(format!("{name} ended"));
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {value:?}"));
    }
}

/// The one registry of the process. Tests tell theirs by the names of their spans and by their messages.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let quiet = filter_fn(|metadata| metadata.target() != "quiet");
        let subscriber = maniple_tracing::Registry::new().with(Lines.with_filter(quiet));
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// The lines in which `word` stands, in order.
fn seen(word: &str) -> Vec<String> {
    let seen = SEEN.lock().unwrap();
    seen.iter()
        .filter(|line| line.contains(word))
        .cloned()
        .collect()
}

fn on_one_worker<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    listen();
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    runtime.run(body)
}

#[test]
fn a_span_held_over_a_wait_is_not_the_neighbours() {
    on_one_worker(|| {
        maniple::join!(
            {
                let _entered = info_span!("apart_a").entered();
                yield_now();
                info!("apart");
            },
            {
                let _entered = info_span!("apart_b").entered();
                yield_now();
                info!("apart");
            },
            {
                yield_now();
                info!("apart");
                yield_now();
            }
        );
    });
    let mut lines: Vec<String> = seen(" apart");
    lines.sort_unstable();
    assert_eq!(lines, [" apart", "apart_a: apart", "apart_b: apart"]);
}

#[test]
fn a_span_is_made_inside_the_one_of_its_coroutine() {
    on_one_worker(|| {
        maniple::join!(
            {
                let _outer = info_span!("nest_outer").entered();
                yield_now();
                let _inner = info_span!("nest_inner").entered();
                yield_now();
                info!("nested");
            },
            {
                let _other = info_span!("nest_other").entered();
                yield_now();
                yield_now();
                yield_now();
            }
        );
    });
    assert_eq!(seen(" nested"), ["nest_outer:nest_inner: nested"]);
}

#[test]
fn what_is_spawned_begins_in_its_spawners_span() {
    on_one_worker(|| {
        let _entered = info_span!("heir").entered();
        let own = spawn(|| {
            info!("inherited");
            let _own = info_span!("heirs_own").entered();
            info!("inherited");
        });
        own.join().unwrap();
        let _: Result<(), ()> = group(|g| {
            g.spawn(|| info!("inherited"));
            Ok(())
        });
    });
    assert_eq!(
        seen(" inherited"),
        [
            "heir: inherited",
            "heir:heirs_own: inherited",
            "heir: inherited"
        ]
    );
}

#[test]
fn a_coroutine_that_outlives_the_span_it_began_in_is_in_none() {
    on_one_worker(|| {
        let (go, gone) = channel::bounded::<()>(0);
        let late = {
            let _entered = info_span!("short").entered();
            spawn(move || {
                let _ = gone.recv();
                info!("outlived");
            })
        };
        drop(go);
        late.join().unwrap();
    });
    assert_eq!(seen(" outlived"), [" outlived"]);
}

#[test]
fn a_span_ends_when_nobody_holds_it() {
    on_one_worker(|| {
        let span = info_span!("counted");
        let theirs = span.clone();
        let other = spawn(move || theirs.in_scope(yield_now));
        span.in_scope(|| maniple::sleep(Duration::from_millis(1)));
        drop(span);
        other.join().unwrap();
    });
    assert_eq!(seen("counted ended"), ["counted ended"]);
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    on_one_worker(|| {
        let outer = info_span!("order_outer").entered();
        let inner = info_span!("order_inner").entered();
        drop(outer);
        info!("order");
        drop(inner);
        info!("order");
    });
    assert_eq!(seen(" order"), ["order_outer:order_inner: order", " order"]);
}

#[test]
fn the_filters_of_layers_hold_over_waits() {
    on_one_worker(|| {
        maniple::join!(
            {
                let _quiet = tracing::info_span!(target: "quiet", "filter_a").entered();
                yield_now();
                info!(target: "quiet", "filtered");
                info!("filtered");
            },
            {
                let _entered = info_span!("filter_b").entered();
                yield_now();
                info!("filtered");
            }
        );
    });
    let mut lines = seen(" filtered");
    lines.sort_unstable();
    assert_eq!(lines, [" filtered", "filter_b: filtered"]);
}

#[test]
fn a_plain_thread_has_spans_of_its_own() {
    listen();
    let _entered = info_span!("thread").entered();
    std::thread::spawn(|| info!("threaded")).join().unwrap();
    info!("threaded");
    assert_eq!(seen(" threaded"), [" threaded", "thread: threaded"]);
}
