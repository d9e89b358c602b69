//! Contexts of [`opentelemetry`] that stay with their coroutine; with the feature `opentelemetry`.
//!
//! `opentelemetry` keeps the current context *per thread*: [`Context::attach`] puts one on a stack of the thread, its
//! guard takes it down, and [`Context::current`] is the topmost. The crate has no hook by which the stack could be kept
//! elsewhere. Coroutines share a thread, so a context that is attached over a wait is what the neighbours of the worker
//! read meanwhile, and what their spans get for a parent. This module keeps the current context per coroutine (and per
//! plain thread), in a coroutine-local value that spawned coroutines inherit:
//!
//! | per thread | per coroutine |
//! |---|---|
//! | `Context::current()` | [`current()`] |
//! | `let _guard = context.attach();` | [`with(context, f)`](with) |
//! | `tracer.in_span("name", f)` | [`in_span(&tracer, "name", f)`](in_span) |
//! | `tracer.start("name")` | `tracer.start_with_context("name", &current())` |
//! | `propagator.extract(&carrier)` | `propagator.extract_with_context(&current(), &carrier)` |
//! | `propagator.inject(&mut carrier)` | `propagator.inject_context(&current(), &mut carrier)` |
//!
//! ```
//! use std::time::Duration;
//! use maniple_tracing::otel;
//! use opentelemetry::trace::{TraceContextExt, TracerProvider};
//! use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
//!
//! let exporter = InMemorySpanExporter::default(); // or that of `opentelemetry-otlp`, by a batch
//! let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
//! let tracer = provider.tracer("shop");
//!
//! maniple::run(move || {
//!     let handle = || {
//!         otel::in_span(&tracer, "request", |request| {
//!             maniple::sleep(Duration::from_millis(1)); // others run meanwhile, in contexts of their own
//!             otel::in_span(&tracer, "query", |query| {
//!                 let (request, query) = (request.span(), query.span());
//!                 assert_eq!(query.span_context().trace_id(), request.span_context().trace_id());
//!             });
//!         });
//!     };
//!     maniple::join!(handle(), handle());
//! });
//! assert_eq!(exporter.get_finished_spans().unwrap().len(), 4); // in two traces
//! ```
//!
//! # What asks for the thread's context
//!
//! Code that calls `Context::current()` finds what is attached to the thread. Attach the coroutine's own around a call
//! of such code, if the call does not wait: `let _attached = otel::current().attach();`. A job for `maniple::offload`
//! runs on another thread: take `otel::current()` along, and call [`with`] there.
//!
//! # With `tracing-opentelemetry`
//!
//! Spans of `tracing` need nothing of this module, but [`Registry`](crate::Registry) and a layer that does *not*
//! attach contexts to the thread. The default of `tracing-opentelemetry` 0.34 is that it does, and takes the parents of
//! new spans from there: spans get parents from their neighbours.
//!
//! ```
//! use opentelemetry::trace::{TraceContextExt, TracerProvider};
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use tracing_opentelemetry::OpenTelemetrySpanExt;
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! let provider = SdkTracerProvider::builder().build(); // with an exporter
//! let layer = tracing_opentelemetry::layer()
//!     .with_tracer(provider.tracer("shop"))
//!     .with_context_activation(false); // it would be the thread's
//! let subscriber = maniple_tracing::Registry::new().with(layer);
//! tracing::subscriber::set_global_default(subscriber).unwrap();
//!
//! maniple::run(|| {
//!     let _entered = tracing::info_span!("request").entered();
//!     maniple::yield_now();
//!     let context = tracing::Span::current().context(); // of this coroutine's span
//!     assert!(context.span().span_context().is_valid());
//! });
//! ```
//!
//! [`current()`] is not the context of that span: the two ways to make spans do not know of each other. To begin the
//! one within the other, use `span.set_parent(otel::current())`, or `otel::with(span.context(), || ...)`.
//!
//! # Where spans go
//!
//! `opentelemetry_sdk` exports in a thread of its own with a `BatchSpanProcessor`: that one. A `SimpleSpanProcessor`
//! exports where a span ends, within a lock of std: an exporter that waits there holds up the worker.

use std::{borrow::Cow, cell::RefCell};

use opentelemetry::{
    Context,
    trace::{TraceContextExt, Tracer},
};

maniple::coroutine_local! {
    /// That in which the coroutine, or the plain thread, is.
    static CURRENT: RefCell<Context> = RefCell::default(), inherited;
}

/// The context in which this coroutine, or plain thread, is: that of the innermost [`with`] or [`in_span`]; without one,
/// that of its spawner as it was then; else an empty one.
///
/// It is not the one of a `tracing` span, nor the one that [`Context::attach`] has put on the thread. In destructors of
/// coroutine-local values it may be empty.
///
/// # Examples
/// ```
/// use maniple_tracing::otel;
/// use opentelemetry::Context;
///
/// #[derive(Debug, PartialEq)]
/// struct Tenant(u32);
///
/// maniple::run(|| {
///     otel::with(Context::new().with_value(Tenant(7)), || {
///         let child = maniple::spawn(|| otel::current().get::<Tenant>().unwrap().0);
///         assert_eq!(child.join().unwrap(), 7);
///     });
///     assert_eq!(otel::current().get::<Tenant>(), None);
/// });
/// ```
pub fn current() -> Context {
    // Not made for a look: each coroutine that is spawned would have to inherit it.
    CURRENT
        .with_made(|current| current.borrow().clone())
        .unwrap_or_default()
}

/// Calls `f` with `context` as the [`current`] one of this coroutine, or plain thread, and of what `f` spawns.
///
/// `f` may wait: others do not see the context. The former one is back when `f` returns or panics, or is cut short by a
/// cancellation. On a thread, [`Context::current`] stays what it is.
///
/// # Panics
/// With the panic of `f`.
///
/// # Examples
/// What a caller says in its `traceparent` becomes the parent of what is done for it, by the propagator of
/// `opentelemetry_sdk`:
/// ```
/// use std::collections::HashMap;
/// use maniple_tracing::otel;
/// use opentelemetry::{propagation::TextMapPropagator, trace::TraceContextExt};
/// use opentelemetry_sdk::propagation::TraceContextPropagator;
///
/// let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let fields = HashMap::from([("traceparent".to_owned(), caller.to_owned())]);
/// let parent = TraceContextPropagator::new().extract_with_context(&otel::current(), &fields);
/// otel::with(parent, || {
///     let context = otel::current();
///     let trace = context.span().span_context().trace_id();
///     assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// });
/// ```
pub fn with<R>(context: Context, f: impl FnOnce() -> R) -> R {
    let _former = Former(replace(context));
    f()
}

/// Calls `f` in a new span, a child of the one of [`current()`], as [`with`] does; the span ends when `f` returns or
/// panics.
///
/// `f` gets the context of the span, to add to it. What `f` spawns and does not wait for still has the span for a
/// parent when it has ended, as it has in asynchronous programs.
///
/// # Panics
/// With the panic of `f`.
///
/// # Examples
/// ```
/// use maniple_tracing::otel;
/// use opentelemetry::{KeyValue, trace::{TraceContextExt, TracerProvider}};
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let provider = SdkTracerProvider::builder().build(); // with an exporter
/// let tracer = provider.tracer("shop");
/// let price = otel::in_span(&tracer, "price", |context| {
///     context.span().set_attribute(KeyValue::new("article", 17));
///     35
/// });
/// assert_eq!(price, 35);
/// ```
pub fn in_span<T, R>(
    tracer: &T,
    name: impl Into<Cow<'static, str>>,
    f: impl FnOnce(&Context) -> R,
) -> R
where
    T: Tracer,
    T::Span: Send + Sync + 'static,
{
    let parent = current();
    let context = parent.with_span(tracer.start_with_context(name, &parent));
    let _span = Span(&context);
    with(context.clone(), || f(&context))
}

/// Makes it the current one. `None` where the coroutine's locals are no more.
fn replace(context: Context) -> Option<Context> {
    CURRENT.try_with(|current| current.replace(context)).ok()
}

/// What is current again when this is dropped.
struct Former(Option<Context>);

impl Drop for Former {
    fn drop(&mut self) {
        if let Some(former) = self.0.take() {
            // Dropped here and not while it is borrowed: the end of a span calls others' code.
            drop(replace(former));
        }
    }
}

/// The context's span, which ends when this is dropped.
struct Span<'a>(&'a Context);

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.0.span().end();
    }
}
