//! A fault that is put in on purpose, found within a thousand seeds.

use maniple::sim::{self, Planted, World};

use super::connections::calls_in_weather;

#[test]
fn a_pool_that_hands_out_a_cut_connection_is_found_within_a_thousand_seeds() {
    let planted = |world: &World| {
        sim::plant(Planted::KeepsWhatWasCut);
        calls_in_weather(world);
    };
    let failure = (0..1000).find_map(|seed| sim::run(seed, planted).err());
    let failure = failure.expect("the fault is found");
    println!("found by {failure}");
    let what = failure.what();
    assert!(what.contains(" for "), "{what}");
}
