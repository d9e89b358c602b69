//! Policies over groups: their results follow from the times that the calls take, and nobody is left behind.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use maniple::{
    group::{self, Part, Restart},
    sim::{self, World},
};

const MICRO: Duration = Duration::from_micros(1);

/// How long a call takes, in microseconds, and whether it succeeds.
type Call = (u32, bool);

/// Calls of which no two end at the same moment.
fn drawn_calls(world: &World, count: u32) -> Vec<Call> {
    let time = |place| world.draw(1..300) as u32 * count + place;
    (0..count)
        .map(|place| (time(place), world.draw(0..3) > 0))
        .collect()
}

/// Counts who is there, and is there no more once it is dropped.
struct Present<'a>(&'a AtomicUsize);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn make(present: &AtomicUsize, (time, succeeds): Call) -> Result<u32, u32> {
    present.fetch_add(1, Ordering::Relaxed);
    let _present = Present(present);
    maniple::sleep(time * MICRO);
    if succeeds { Ok(time) } else { Err(time) }
}

#[test]
fn a_quorum_is_there_with_its_last_success_or_once_it_cannot_be() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let calls = drawn_calls(world, 5);
        let wanted = world.draw(1..5) as usize;
        let of = |succeeds| {
            let those = calls.iter().filter(move |call| call.1 == succeeds);
            let mut times = Vec::from_iter(those.map(|call| call.0));
            times.sort_unstable();
            times
        };
        let (successes, failures) = (of(true), of(false));
        let begun = world.now();
        let made = calls.iter().map(|&call| {
            let present = &present;
            move || make(present, call)
        });
        let won = group::quorum(wanted, made);
        let took = world.now() - begun;
        match &won {
            Ok(won) => {
                let won = Vec::from_iter(won.iter().map(|(_, time)| *time));
                assert_eq!(won, successes[..wanted]);
                assert_eq!(took, successes[wanted - 1] * MICRO);
            }
            Err(_) => {
                // With one failure more than it could bear.
                assert!(successes.len() < wanted);
                assert_eq!(took, failures[5 - wanted] * MICRO);
            }
        }
        sim::sometimes!(won.is_ok());
        sim::sometimes!(won.is_err());
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_partial_result_has_what_was_done_at_the_deadline_and_no_more() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let calls = drawn_calls(world, 4);
        let patience = world.draw(1..1500) as u32 * MICRO;
        let begun = world.now();
        let made = calls.iter().map(|&call| {
            let present = &present;
            move || make(present, call)
        });
        let parts = group::partial_timeout(patience, made);
        assert!(world.now() - begun <= patience);
        for (part, (time, succeeds)) in parts.iter().zip(&calls) {
            match part {
                Part::Done(result) => {
                    assert!(*time * MICRO <= patience && result.is_ok() == *succeeds);
                }
                Part::Cut(_) => assert!(*time * MICRO >= patience),
            }
        }
        sim::sometimes!(parts.iter().all(|part| matches!(part, Part::Done(_))));
        sim::sometimes!(parts.iter().all(|part| matches!(part, Part::Cut(_))));
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_hedge_is_as_quick_as_the_better_of_its_attempts() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let calls = drawn_calls(world, 2);
        let delay = world.draw(1..400) as u32;
        let attempts = AtomicUsize::new(0);
        let begun = world.now();
        let ended = group::hedge(delay * MICRO, |attempt| {
            attempts.fetch_add(1, Ordering::Relaxed);
            make(&present, calls[attempt])
        });
        let took = world.now() - begun;
        let [(first, succeeds), (second, helps)] = [calls[0], calls[1]];
        // The second begins after the delay, or at once when the first has failed.
        let begins = if succeeds { delay } else { delay.min(first) };
        let second_ends = begins + second;
        let alone = succeeds && first < delay;
        let expected = match (succeeds, helps) {
            (true, _) if alone => first,
            (true, true) => first.min(second_ends),
            (true, false) => first,
            (false, true) => second_ends,
            (false, false) => first.max(second_ends),
        };
        assert_eq!((ended.is_ok(), took), (succeeds || helps, expected * MICRO));
        if alone {
            assert_eq!(attempts.load(Ordering::Relaxed), 1);
        }
        sim::sometimes!(alone);
        sim::sometimes!(ended.is_ok() && !succeeds);
        sim::sometimes!(succeeds && took < first * MICRO);
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_restart_gives_up_at_its_limit_and_is_cut_at_any_moment() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let max = world.draw(0..5) as usize;
        let restart = Restart {
            max,
            within: Duration::from_secs(60),
            backoff: 10 * MICRO..=50 * MICRO,
        };
        let attempts = Cell::new(0);
        let patience = world.draw(1..3000) as u32 * MICRO;
        let ended = maniple::timeout(patience, || {
            restart.run(|_| {
                attempts.set(attempts.get() + 1);
                let call = (world.draw(1..500) as u32, world.draw(0..6) == 0);
                match world.draw(0..4) {
                    0 => panic!("now and then"),
                    _ => make(&present, call),
                }
            })
        });
        assert!(attempts.get() <= max + 1, "{} attempts", attempts.get());
        if let Ok(Err(gave_up)) = &ended {
            assert_eq!(attempts.get(), max + 1, "{gave_up}");
        }
        sim::sometimes!(matches!(ended, Ok(Ok(_))));
        sim::sometimes!(matches!(ended, Ok(Err(_))));
        sim::sometimes!(ended.is_err());
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn calls_that_get_no_stack_are_told_and_the_others_come_to_their_end() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let shortage = world.shortage("scenario").stacks(0.3);
        let calls = drawn_calls(world, 4);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            group::map(4, &calls, |&call| make(&present, call))
        }));
        drop(shortage);
        // Where one had none, the whole has failed, and nobody is left; where all had one, all is there.
        if let Ok(results) = &ended {
            let expected = calls.iter().map(|&(time, succeeds)| match succeeds {
                true => Ok(time),
                false => Err(time),
            });
            assert!(expected.eq(results.iter().copied()), "{results:?}");
        }
        sim::sometimes!(ended.is_ok());
        sim::sometimes!(ended.is_err());
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}
