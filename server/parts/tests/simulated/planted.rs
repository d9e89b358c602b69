//! A fault that is put in on purpose, found within a thousand seeds where calls are cut short. Without it as many
//! find nothing: the same calls in `connections`, by `.ci/run worlds`.

use maniple::sim::{self, Planted, World};

use super::connections::{Calls, LONG, calls_in_weather};

/// The first seed that fails where the pool takes back what was cut short.
fn first_failure(calls: fn(&World) -> Calls) -> Option<sim::Failure> {
    let planted = move |world: &World| {
        sim::plant(Planted::KeepsWhatWasCut);
        calls_in_weather(world, || calls(world));
    };
    (0..1000).find_map(|seed| sim::run(seed, planted).err())
}

#[test]
fn a_pool_that_hands_out_a_cut_connection_is_found_within_a_thousand_seeds() {
    let failure = first_failure(|world| Calls::Patient(world.draw(1000..40_000)));
    let failure = failure.expect("the fault is found");
    println!("found by {failure}");
    let what = failure.what();
    assert!(what.contains(" for "), "{what}");
}

#[test]
fn such_a_pool_is_found_by_cuts_and_not_where_calls_are_waited_for() {
    let failure = first_failure(|_| Calls::Cut).expect("the fault is found");
    println!("found by {failure}");
    assert!(failure.what().contains(" for "), "{failure}");
    let failure = first_failure(|_| Calls::Patient(LONG));
    assert!(failure.is_none(), "{failure:?}");
}
