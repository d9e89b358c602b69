//! OpenTelemetry's contexts and spans over waits: whose they are, who inherits them, and which parents spans get.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use maniple::{spawn, sync::channel, yield_now};
use maniple_tracing::otel;
use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, SpanId, TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracer, SdkTracerProvider, SpanData},
};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

/// A value in a context.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Of(&'static str);

/// That of the coroutine's context.
fn mine() -> Option<Of> {
    otel::current().get().copied()
}

/// That of the thread's context.
fn threads() -> Option<Of> {
    Context::current().get().copied()
}

fn context(of: &'static str) -> Context {
    Context::new().with_value(Of(of))
}

fn on_one_worker<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    runtime.run(body)
}

/// What one coroutine does, a neighbour meanwhile, and the first again.
fn meanwhile(first: impl FnOnce(&dyn Fn()) + Send, neighbour: impl FnOnce() + Send) {
    let (go, gone) = channel::bounded::<()>(0);
    let (back, came_back) = channel::bounded::<()>(0);
    maniple::join!(
        {
            first(&|| {
                go.send(()).unwrap();
                came_back.recv().unwrap();
            });
        },
        {
            gone.recv().unwrap();
            neighbour();
            back.send(()).unwrap();
        }
    );
}

#[test]
fn a_context_held_over_a_wait_is_not_the_neighbours() {
    on_one_worker(|| {
        meanwhile(
            |wait| {
                otel::with(context("first"), || {
                    wait();
                    assert_eq!(mine(), Some(Of("first")));
                });
                assert_eq!(mine(), None);
            },
            || {
                assert_eq!(mine(), None);
                otel::with(context("neighbour"), yield_now);
            },
        );
    });
}

/// Why there is a module for it: if this fails, the crate has changed, and its users may be told so.
#[test]
fn a_context_attached_to_the_thread_over_a_wait_is_the_neighbours_too() {
    on_one_worker(|| {
        let (go, gone) = channel::bounded::<()>(0);
        maniple::join!(
            {
                let guard = context("first").attach();
                go.send(()).unwrap();
                yield_now();
                assert_eq!(threads(), Some(Of("neighbour")), "not its own");
                drop(guard);
                assert_eq!(threads(), Some(Of("neighbour")), "still");
                go.send(()).unwrap();
            },
            {
                gone.recv().unwrap();
                assert_eq!(threads(), Some(Of("first")), "not its own");
                let guard = context("neighbour").attach();
                gone.recv().unwrap();
                drop(guard);
            }
        );
        assert_eq!(threads(), None);
    });
}

#[test]
fn what_is_spawned_begins_in_its_spawners_context_as_it_was() {
    on_one_worker(|| {
        let (go, gone) = channel::bounded::<()>(0);
        let child = otel::with(context("spawner"), || {
            spawn(move || {
                gone.recv().unwrap();
                let inherited = mine();
                otel::with(context("child"), yield_now);
                (inherited, mine())
            })
        });
        otel::with(context("later"), || {
            go.send(()).unwrap();
            assert_eq!(
                child.join().unwrap(),
                (Some(Of("spawner")), Some(Of("spawner")))
            );
            assert_eq!(mine(), Some(Of("later")));
        });
    });
}

#[test]
fn the_former_context_is_back_after_a_panic_and_after_a_cancellation() {
    on_one_worker(|| {
        otel::with(context("outer"), || {
            let panic = || otel::with(context("inner"), || panic!("on purpose"));
            catch_unwind(AssertUnwindSafe(panic)).unwrap_err();
            assert_eq!(mine(), Some(Of("outer")));
        });
        let cut = maniple::timeout(std::time::Duration::ZERO, || {
            otel::with(context("cut"), maniple::task::park);
        });
        assert!(cut.is_err());
        assert_eq!(mine(), None);
    });
}

#[test]
fn a_plain_thread_has_a_context_of_its_own_and_a_job_gets_one_by_value() {
    otel::with(context("thread"), || {
        let other = std::thread::spawn(mine).join().unwrap();
        assert_eq!(other, None);
        on_one_worker(|| {
            assert_eq!(mine(), Some(Of("thread")), "its caller's");
            let taken = otel::current();
            let there = maniple::offload(move || (mine(), otel::with(taken, mine)));
            assert_eq!(there.unwrap(), (None, Some(Of("thread"))));
        });
    });
}

#[test]
fn a_context_may_be_lent_to_the_thread_between_two_waits() {
    on_one_worker(|| {
        otel::with(context("lent"), || {
            yield_now();
            let lent = otel::current().attach();
            assert_eq!(threads(), Some(Of("lent")));
            drop(lent);
            assert_eq!(threads(), None);
        });
    });
}

/// A tracer, and where its spans are to be found when they have ended, for as long as there is the tracer.
fn tracer() -> (SdkTracer, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    (provider.tracer("test"), exporter)
}

fn find(exporter: &InMemorySpanExporter, name: &str) -> SpanData {
    let spans = exporter.get_finished_spans().unwrap();
    let mut named = spans.into_iter().filter(|span| span.name == name);
    let found = named.next().unwrap_or_else(|| panic!("no span {name}"));
    assert!(named.next().is_none(), "one span {name}");
    found
}

/// Whether `child` is a child of `parent`, in the same trace.
fn is_child(exporter: &InMemorySpanExporter, child: &str, parent: &str) -> bool {
    let (child, parent) = (find(exporter, child), find(exporter, parent));
    child.parent_span_id == parent.span_context.span_id()
        && child.span_context.trace_id() == parent.span_context.trace_id()
}

fn is_root(exporter: &InMemorySpanExporter, name: &str) -> bool {
    find(exporter, name).parent_span_id == SpanId::INVALID
}

#[test]
fn spans_over_waits_are_children_of_their_own_coroutines_spans() {
    let (tracer, exporter) = tracer();
    on_one_worker(|| {
        meanwhile(
            |wait| {
                otel::in_span(&tracer, "first", |_| {
                    wait();
                    otel::in_span(&tracer, "firsts", |_| yield_now());
                    let child = spawn({
                        let tracer = tracer.clone();
                        move || otel::in_span(&tracer, "spawned", |_| yield_now())
                    });
                    child.join().unwrap();
                });
            },
            || {
                otel::in_span(&tracer, "neighbour", |_| {
                    otel::in_span(&tracer, "neighbours", |_| yield_now());
                });
            },
        );
    });
    assert!(is_root(&exporter, "first") && is_root(&exporter, "neighbour"));
    assert!(is_child(&exporter, "firsts", "first"));
    assert!(is_child(&exporter, "spawned", "first"));
    assert!(is_child(&exporter, "neighbours", "neighbour"));
}

#[test]
fn a_span_ends_with_its_call_though_it_panics_or_a_child_goes_on() {
    let (tracer, exporter) = tracer();
    let ended = exporter.clone();
    on_one_worker(|| {
        let panic = || otel::in_span(&tracer, "panics", |_| panic!("on purpose"));
        catch_unwind(AssertUnwindSafe(panic)).unwrap_err();
        find(&ended, "panics");
        let (go, gone) = channel::bounded::<()>(0);
        let late = otel::in_span(&tracer, "outlived", |_| {
            let tracer = tracer.clone();
            spawn(move || {
                gone.recv().unwrap();
                otel::in_span(&tracer, "late", |_| ());
            })
        });
        find(&ended, "outlived");
        go.send(()).unwrap();
        late.join().unwrap();
        assert!(is_child(&ended, "late", "outlived"));
    });
    assert_eq!(exporter.get_finished_spans().unwrap().len(), 3);
}

#[test]
fn a_callers_traceparent_is_the_parent_and_goes_on_to_the_called() {
    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (tracer, exporter) = tracer();
    let sent = on_one_worker(|| {
        let fields = HashMap::from([
            ("traceparent".to_owned(), CALLER.to_owned()),
            ("tracestate".to_owned(), "a=1".to_owned()),
        ]);
        let propagator = TraceContextPropagator::new();
        let caller = propagator.extract_with_context(&otel::current(), &fields);
        otel::with(caller, || {
            otel::in_span(&tracer, "served", |_| {
                yield_now();
                let mut sent = HashMap::new();
                propagator.inject_context(&otel::current(), &mut sent);
                sent
            })
        })
    });
    let served = find(&exporter, "served");
    assert_eq!(served.parent_span_id.to_string(), "00f067aa0ba902b7");
    let (trace, span) = (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        served.span_context.span_id(),
    );
    assert_eq!(sent["traceparent"], format!("00-{trace}-{span}-01"));
    assert_eq!(sent["tracestate"], "a=1");
}

/// The one subscriber of the process, as users are told to make it, and the spans that have ended.
fn listen() -> &'static InMemorySpanExporter {
    static EXPORTER: OnceLock<InMemorySpanExporter> = OnceLock::new();
    EXPORTER.get_or_init(|| {
        let (tracer, exporter) = tracer();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_context_activation(false);
        let subscriber = maniple_tracing::Registry::new().with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        exporter
    })
}

/// That of the innermost span of `tracing`.
fn spans_own() -> SpanContext {
    let context = Span::current().context();
    context.span().span_context().clone()
}

#[test]
fn the_context_of_tracings_current_span_is_the_coroutines_over_waits() {
    let exporter = listen();
    on_one_worker(|| {
        meanwhile(
            |wait| {
                let _entered = info_span!("current_first").entered();
                let before = spans_own();
                wait();
                assert_eq!(spans_own(), before);
                let own = info_span!("current_firsts").entered();
                assert_eq!(spans_own().trace_id(), before.trace_id());
                drop(own);
                assert_eq!(spans_own(), before);
            },
            || {
                assert_eq!(spans_own(), SpanContext::NONE, "it is in no span");
                let _entered = info_span!("current_neighbour").entered();
                let own = spans_own();
                assert!(own.is_valid());
                let _inner = info_span!("current_neighbours").entered();
                yield_now();
                assert_eq!(spans_own().trace_id(), own.trace_id());
            },
        );
    });
    assert!(is_root(exporter, "current_first") && is_root(exporter, "current_neighbour"));
    assert!(is_child(exporter, "current_firsts", "current_first"));
    assert!(is_child(
        exporter,
        "current_neighbours",
        "current_neighbour"
    ));
}

#[test]
fn what_is_spawned_in_a_span_of_tracing_makes_children_of_it() {
    let exporter = listen();
    on_one_worker(|| {
        let _entered = info_span!("heir").entered();
        let child = spawn(|| {
            let _own = info_span!("heirs_own").entered();
            yield_now();
        });
        child.join().unwrap();
    });
    assert!(is_child(exporter, "heirs_own", "heir"));
}

#[test]
fn a_span_of_tracing_begins_within_a_context_when_told_to_and_a_context_within_a_span() {
    let exporter = listen();
    let (tracer, other) = tracer();
    on_one_worker(|| {
        otel::in_span(&tracer, "outer", |_| {
            let span = info_span!("within");
            span.set_parent(otel::current()).unwrap();
            let _entered = span.entered();
            yield_now();
            otel::with(Span::current().context(), || {
                otel::in_span(&tracer, "innermost", |_| yield_now());
            });
        });
    });
    let (outer, within) = (find(&other, "outer"), find(exporter, "within"));
    let innermost = find(&other, "innermost");
    assert_eq!(within.parent_span_id, outer.span_context.span_id());
    assert_eq!(innermost.parent_span_id, within.span_context.span_id());
    assert_eq!(
        innermost.span_context.trace_id(),
        outer.span_context.trace_id()
    );
}
