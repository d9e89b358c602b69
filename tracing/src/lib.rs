//! Spans of the [`tracing`](https://docs.rs/tracing) crate that stay with their coroutine.
//!
//! The registry of `tracing-subscriber` keeps the spans that are entered *per thread*. Many coroutines share a thread,
//! so a span that is entered over a wait would be taken for their neighbours' too. [`Registry`] keeps them per coroutine
//! (and per plain thread), and is used in its place:
//!
//! ```
//! use std::time::Duration;
//! use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt};
//!
//! let subscriber = maniple_tracing::Registry::new().with(LevelFilter::INFO); // and layers, as `fmt::layer()`
//! tracing::subscriber::set_global_default(subscriber).unwrap();
//!
//! maniple::run(|| {
//!     let handle = |id: u64| {
//!         let _entered = tracing::info_span!("request", id).entered();
//!         maniple::sleep(Duration::from_millis(1)); // others run meanwhile, in spans of their own
//!         tracing::info!("answered"); // in the span of this request
//!     };
//!     maniple::join!(handle(1), handle(2));
//! });
//! ```
//!
//! A coroutine begins in the span that its spawner is in at that moment: children of a group in their leader's, for
//! example. A job that is given to `maniple::offload` runs on another thread and begins in none.
//!
//! # What stays per thread
//!
//! `tracing::subscriber::with_default` and `set_default` choose a subscriber for the *thread*, and end where they began.
//! Do not hold them over a wait: set a global default. The same goes for what other crates keep per thread; the book's
//! chapter on locks lists them.
//!
//! # OpenTelemetry
//!
//! Contexts of the crate `opentelemetry` are kept per coroutine by the module `otel`, with the feature `opentelemetry`,
//! which also says how to send spans of `tracing` to a collector.

#[cfg(feature = "opentelemetry")]
pub mod otel;

use std::{any::TypeId, cell::RefCell};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::registry::{self, LookupSpan};

/// The registry of `tracing-subscriber`, with a stack of entered spans for each coroutine and each plain thread.
///
/// Layers go on top of it, as on the one that it stands for: `Registry::new().with(layer)`. A process has one of them.
///
/// Entering and leaving a span cost a look through the coroutine's locals more than there.
#[derive(Debug, Default)]
pub struct Registry {
    spans: registry::Registry,
}

maniple::coroutine_local! {
    /// The spans that are entered, the innermost last.
    static ENTERED: RefCell<Entered> = RefCell::default(), inherited;
}

/// A stack of spans of which a spawned coroutine gets the innermost.
#[derive(Debug, Default)]
struct Entered(Vec<Id>);

impl Clone for Entered {
    fn clone(&self) -> Self {
        Self(self.0.last().cloned().into_iter().collect())
    }
}

impl Registry {
    /// A registry without spans.
    pub fn new() -> Self {
        Self::default()
    }

    /// The innermost span that is entered and has not been closed.
    fn innermost(&self) -> Option<(Id, &'static Metadata<'static>)> {
        let alive = |id: &Id| Some((id.clone(), self.spans.span(id)?.metadata()));
        // In the destructors of a coroutine's locals there may be none any more.
        ENTERED
            .try_with(|entered| entered.borrow().0.iter().rev().find_map(alive))
            .ok()
            .flatten()
    }
}

impl Subscriber for Registry {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.spans.on_register_dispatch(dispatch);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.spans.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.spans.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.spans.max_level_hint()
    }

    /// A span without a parent of its own gets the one that is entered here, which the inner registry does not know.
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        if attributes.is_contextual()
            && let Some((parent, _)) = self.innermost()
        {
            let (metadata, values) = (attributes.metadata(), attributes.values());
            return self
                .spans
                .new_span(&Attributes::child_of(parent, metadata, values));
        }
        self.spans.new_span(attributes)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.spans.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.spans.record_follows_from(span, follows);
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.spans.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        self.spans.event(event);
    }

    fn enter(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().0.push(span.clone()));
    }

    fn exit(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            // Not always the last: guards may be dropped in any order.
            if let Some(at) = entered.0.iter().rposition(|id| id == span) {
                entered.0.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.spans.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.spans.try_close(id)
    }

    fn current_span(&self) -> tracing_core::span::Current {
        match self.innermost() {
            Some((id, metadata)) => tracing_core::span::Current::new(id, metadata),
            None => tracing_core::span::Current::none(),
        }
    }

    /// Layers look for the inner registry by its type, to close spans in it.
    ///
    /// # Safety
    /// The trait's: what the pointer leads to has the type that `id` names, and lives as long as `self`.
    #[allow(unsafe_code, reason = "the trait's way to hand out what it wraps")]
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        // SAFETY: the inner one's promise is the same, and it lives as long as this.
        unsafe { self.spans.downcast_raw(id) }
    }
}

impl<'a> LookupSpan<'a> for Registry {
    type Data = registry::Data<'a>;

    fn span_data(&'a self, id: &Id) -> Option<Self::Data> {
        self.spans.span_data(id)
    }

    fn register_filter(&mut self) -> tracing_subscriber::filter::FilterId {
        self.spans.register_filter()
    }
}
