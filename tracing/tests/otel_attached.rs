//! What the layer of `tracing-opentelemetry` does by default, which is why its users are told to switch it off.

use maniple::{sync::channel, yield_now};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;

/// If this fails, the layer has changed, and its users may be told so.
#[test]
fn a_layer_that_attaches_contexts_to_the_thread_gives_spans_parents_of_neighbours() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = maniple_tracing::Registry::new().with(layer);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let (go, gone) = channel::bounded::<()>(0);
        maniple::join!(
            {
                let _entered = info_span!("first").entered();
                go.send(()).unwrap();
                go.send(()).unwrap();
            },
            {
                gone.recv().unwrap();
                let _entered = info_span!("neighbour").entered(); // it is in no span
                yield_now();
                gone.recv().unwrap();
            }
        );
    });

    let spans = exporter.get_finished_spans().unwrap();
    let find = |name| spans.iter().find(|span| span.name == name).unwrap();
    let (first, neighbour) = (find("first"), find("neighbour"));
    assert_eq!(first.parent_span_id, SpanId::INVALID);
    assert_eq!(neighbour.parent_span_id, first.span_context.span_id());
}
