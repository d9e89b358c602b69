//! What parts leave to chance follows from the world's seed.

use std::time::Duration;

use maniple::sim;
use maniple_parts::{endpoints::Endpoints, resilience::Retry};

#[test]
fn pauses_of_retries_and_choices_among_servers_are_the_seeds() {
    let drawn = |seed| {
        let (tell, told) = std::sync::mpsc::channel();
        let run = sim::run(seed, move |world| {
            let set = Endpoints::builder("backends")
                .build(["a:1", "b:1", "c:1", "d:1"])
                .unwrap();
            let picked: Vec<_> = (0..8)
                .map(|_| set.pick().unwrap().address().to_owned())
                .collect();
            let bounds = Duration::from_millis(10)..=Duration::from_secs(1);
            let retry = Retry::new().attempts(5).backoff(bounds);
            let failed: Result<(), ()> = retry.run(|()| true, |_| Err(()));
            assert!(failed.is_err());
            tell.send((picked, world.now())).unwrap();
        });
        (run.unwrap().trace(), told.recv().unwrap())
    };
    let first = drawn(0);
    let mut differs = (false, false);
    for seed in 0..50 {
        let (one, other) = (drawn(seed), drawn(seed));
        assert_eq!(one, other, "seed {seed}");
        differs.0 |= one.1.0 != first.1.0;
        differs.1 |= one.1.1 != first.1.1;
    }
    assert_eq!(differs, (true, true));
}
