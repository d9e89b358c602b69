//! How deep stacks are used, by route.

use maniple::inspect::{self, DepthsOf, MeasureDepths};
use maniple_server::{Request, Router};

use super::{Served, statuses};

#[test]
fn depths_are_counted_by_route_while_they_are_measured() {
    const FRAME: usize = 40_000;
    let router = Router::new()
        .get("/gauged/flat/{id}", |_: &mut Request| "flat")
        .get("/gauged/deep/{id}", |_: &mut Request| {
            let mut taken = [0_u8; FRAME];
            std::hint::black_box(&mut taken);
            "deep"
        });
    let served = Served::of(router, |builder| builder);
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(statuses(&served.say(request)).len(), 1);
    };
    let labelled = |label: &str| -> Option<DepthsOf> {
        let mut all = inspect::depths().into_iter();
        all.find(|of| of.label() == Some(label))
    };
    ask("/gauged/flat/0");
    assert!(labelled("/gauged/flat/{id}").is_none());
    inspect::measure_depths(MeasureDepths::OnFreshStacks);
    for id in 1..4 {
        ask(&format!("/gauged/flat/{id}"));
        ask(&format!("/gauged/deep/{id}"));
        ask(&format!("/gauged/nowhere/{id}"));
    }
    // All connections have then ended.
    let report = served.drain();
    inspect::measure_depths(MeasureDepths::Off);
    assert_eq!(report.cancelled, 0);
    let flat = labelled("/gauged/flat/{id}").unwrap();
    let deep = labelled("/gauged/deep/{id}").unwrap();
    assert_eq!((flat.ended(), deep.ended()), (3, 3));
    assert!(
        deep.deepest() >= FRAME && flat.deepest() < FRAME,
        "{flat}; {deep}"
    );
    assert_eq!(flat.spawned_at(), deep.spawned_at());
    assert!(labelled("no route").is_some());
}
