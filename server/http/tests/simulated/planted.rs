//! A fault that is put in on purpose, found within a thousand seeds. Without it as many find nothing: the drains
//! beside newcomers in the folder's root, by `.ci/run worlds`.

use maniple::sim::{self, Planted, World};

use super::{LONGER, drained_beside, newcomers};

#[test]
fn a_drain_that_forgets_a_connection_is_found_within_a_thousand_seeds() {
    let planted = |world: &World| {
        sim::plant(Planted::ForgetsTheLate);
        drained_beside(world, LONGER, newcomers);
    };
    let failure = (0..1000).find_map(|seed| sim::run(seed, planted).err());
    let failure = failure.expect("the fault is found");
    println!("found by {failure}");
    let what = failure.what();
    assert!(what.contains("the drain forgot"), "{what}");
}
