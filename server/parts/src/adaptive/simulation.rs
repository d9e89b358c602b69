//! The controller against services that are made up: so many things at a time, each so long, and a queue in front.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::controller::{Bounds, Controller, Outcome, Sample};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What requests wait for: `capacity` at a time are served, in order.
struct Service {
    capacity: usize,
    takes: Duration,
    /// Whether times are spread, exponentially.
    varies: bool,
    random: u64,
    /// When they end, and who is looked at.
    served: BinaryHeap<Reverse<(Duration, Option<Sample>)>>,
    queue: VecDeque<Option<Sample>>,
}

impl Service {
    fn takes(&mut self) -> Duration {
        if !self.varies {
            return self.takes;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let even = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        self.takes.mul_f64(-(1.0 - even).ln())
    }

    fn go_on(&mut self, now: Duration) {
        while self.served.len() < self.capacity
            && let Some(next) = self.queue.pop_front()
        {
            let end = now + self.takes();
            self.served.push(Reverse((end, next)));
        }
    }
}

/// A limiter in front of a service, and clients that always have more to ask.
struct World {
    service: Service,
    controller: Controller,
    now: Duration,
    in_flight: usize,
}

/// What was seen in some time.
#[derive(Debug)]
struct Seen {
    /// Limits, but for probes.
    least: usize,
    most: usize,
    answered: u64,
}

fn bounds(initial: usize) -> Bounds {
    Bounds {
        least: 4,
        most: 1000,
        initial,
    }
}

impl World {
    fn new(capacity: usize, takes: Duration, varies: bool, initial: usize) -> Self {
        Self {
            service: Service {
                capacity,
                takes,
                varies,
                random: 0x9e37_79b9_7f4a_7c15,
                served: BinaryHeap::new(),
                queue: VecDeque::new(),
            },
            controller: Controller::new(bounds(initial)),
            now: Duration::ZERO,
            in_flight: 0,
        }
    }

    /// Lets time pass, in which at most `demand` are asked for at a time.
    fn run(&mut self, time: Duration, demand: usize) -> Seen {
        let until = self.now + time;
        let mut seen = Seen {
            least: usize::MAX,
            most: 0,
            answered: 0,
        };
        while self.now < until {
            while self.in_flight < demand.min(self.controller.limit()) {
                self.in_flight += 1;
                let member = self.controller.begin(self.now, self.in_flight);
                self.service.queue.push_back(member);
            }
            self.service.go_on(self.now);
            let Some(Reverse((end, member))) = self.service.served.pop() else {
                panic!("nothing is asked for");
            };
            self.now = end;
            self.in_flight -= 1;
            seen.answered += 1;
            if let Some(member) = member {
                self.controller.end(member, end, Outcome::Answered);
            }
            let limit = self.controller.goal();
            seen.least = seen.least.min(limit);
            seen.most = seen.most.max(limit);
        }
        seen
    }
}

/// Enough to keep the service busy, and so little that nothing waits for long.
#[track_caller]
fn assert_good(seen: &Seen, capacity: usize, what: &str) {
    let (least, most) = (capacity * 9 / 10, capacity * 5 / 2 + 10);
    assert!(
        least <= seen.least && seen.most <= most,
        "{what}: {seen:?}, not from {least} to {most}"
    );
}

const ALWAYS: usize = 100_000;

#[test]
fn the_limit_settles_at_the_capacity_and_not_far_above_it() {
    for (capacity, takes) in [
        (5, MS),
        (5, 20 * MS),
        (40, 5 * MS),
        (40, 200 * MS),
        (200, 20 * MS),
        (200, 200 * MS),
    ] {
        for (varies, initial) in [(false, 4), (true, 4), (true, 2 * capacity)] {
            let what = format!("{capacity} × {takes:?}, {varies}, from {initial}");
            let mut world = World::new(capacity, takes, varies, initial);
            world.run(30 * SECOND, ALWAYS);
            let seen = world.run(20 * SECOND, ALWAYS);
            assert_good(&seen, capacity, &what);
            let could = 20.0 / takes.as_secs_f64() * capacity as f64;
            let share = seen.answered as f64 / could;
            assert!(share > 0.8, "{what}: {share} of what it could do");
        }
    }
}

#[test]
fn a_limit_that_begins_far_too_high_comes_down() {
    for capacity in [1, 5, 20] {
        let mut world = World::new(capacity, 5 * MS, true, 500);
        world.run(120 * SECOND, ALWAYS);
        let seen = world.run(30 * SECOND, ALWAYS);
        assert_good(&seen, capacity, &format!("{capacity}"));
    }
}

#[test]
fn the_limit_follows_a_capacity_that_halves_and_recovers() {
    for varies in [false, true] {
        let mut world = World::new(100, 20 * MS, varies, 20);
        world.run(10 * SECOND, ALWAYS);
        assert_good(&world.run(5 * SECOND, ALWAYS), 100, "at first");
        world.service.capacity = 50;
        world.run(3 * SECOND, ALWAYS);
        assert_good(&world.run(30 * SECOND, ALWAYS), 50, "the half");
        world.service.capacity = 100;
        world.run(5 * SECOND, ALWAYS);
        assert_good(&world.run(60 * SECOND, ALWAYS), 100, "again");
    }
}

#[test]
fn a_service_that_becomes_slower_by_itself_is_asked_as_much_at_a_time() {
    let mut world = World::new(50, 10 * MS, true, 20);
    world.run(60 * SECOND, ALWAYS);
    for takes in [40, 200, 5] {
        world.service.takes = takes * MS;
        world.run(30 * SECOND, ALWAYS);
        let seen = world.run(30 * SECOND, ALWAYS);
        assert_good(&seen, 50, &format!("{takes} ms"));
    }
}

#[test]
fn the_baseline_does_not_drift_while_it_is_always_too_much() {
    let mut world = World::new(50, 50 * MS, true, 20);
    world.run(30 * SECOND, ALWAYS);
    let seen = world.run(1200 * SECOND, ALWAYS);
    assert_good(&seen, 50, "always");
    // What probes cost.
    let could = 1200.0 / 0.050 * 50.0;
    assert!(seen.answered as f64 > 0.98 * could, "{seen:?}");
}

#[test]
fn a_limit_that_is_not_used_up_stays() {
    let mut world = World::new(100, 10 * MS, true, 20);
    assert_eq!(world.run(600 * SECOND, 3).most, 20);
    assert_eq!(world.controller.limit(), 20);
    // And is there for a burst.
    world.run(3 * SECOND, ALWAYS);
    assert!(world.controller.limit() > 20);
}

/// Has requests begin 1 ms apart from then on, which end as they are said to; the end of the last.
fn tell(controller: &mut Controller, from: Duration, requests: &[(Outcome, Duration)]) -> Duration {
    let mut ends = BinaryHeap::new();
    let end_until = |ends: &mut BinaryHeap<_>, controller: &mut Controller, until: Duration| {
        while let Some(&Reverse((end, member, at))) = ends.peek()
            && end <= until
        {
            ends.pop();
            let (outcome, _): (Outcome, Duration) = requests[at];
            controller.end(member, end, outcome);
        }
    };
    let (mut now, mut last) = (from, from);
    for (at, &(_, took)) in requests.iter().enumerate() {
        now += MS;
        end_until(&mut ends, controller, now);
        last = last.max(now + took);
        if let Some(member) = controller.begin(now, controller.limit()) {
            ends.push(Reverse((now + took, member, at)));
        }
    }
    end_until(&mut ends, controller, last);
    last
}

#[test]
fn failures_that_are_fast_neither_raise_the_limit_nor_count_as_the_usual_time() {
    let mut controller = Controller::new(bounds(20));
    let now = tell(
        &mut controller,
        Duration::ZERO,
        &[(Outcome::Answered, 20 * MS); 500],
    );
    let fast = [(Outcome::Failed, MS / 10), (Outcome::Refused, MS / 10)].repeat(5000);
    // What had begun before comes to its window's end.
    let now = tell(&mut controller, now, &fast);
    let (limit, baseline) = (controller.goal(), controller.baseline());
    tell(&mut controller, now, &fast);
    assert_eq!(
        (controller.goal(), controller.baseline()),
        (limit, baseline)
    );
}

#[test]
fn time_that_runs_out_for_all_lowers_the_limit_to_the_least() {
    let mut controller = Controller::new(bounds(20));
    let now = tell(
        &mut controller,
        Duration::ZERO,
        &[(Outcome::Answered, 20 * MS); 500],
    );
    assert!(controller.limit() > 20);
    let late = [(Outcome::Failed, 5 * SECOND)].repeat(4000);
    let mut now = now;
    for some in late.chunks(200) {
        now = tell(&mut controller, now, some);
    }
    assert!(controller.limit() <= 4, "{}", controller.limit());
}

#[test]
fn one_request_that_takes_a_minute_changes_little() {
    let mut controller = Controller::new(bounds(20));
    let now = tell(
        &mut controller,
        Duration::ZERO,
        &[(Outcome::Answered, 2 * MS); 900],
    );
    let limit = controller.goal();
    let mut samples = vec![(Outcome::Answered, 2 * MS); 200];
    samples[50].1 = 60 * SECOND;
    tell(&mut controller, now, &samples);
    assert!(
        controller.goal() >= limit,
        "{} < {limit}",
        controller.goal()
    );
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_limit_where_it_began() {
    let mut controller = Controller::new(bounds(20));
    let never = controller.begin(Duration::ZERO, 20);
    assert!(never.is_some());
    tell(
        &mut controller,
        Duration::ZERO,
        &[(Outcome::Answered, 2 * MS); 900],
    );
    assert!(controller.goal() > 20, "{}", controller.goal());
}

#[test]
fn a_fixed_limit_stays_and_is_not_probed() {
    let fixed = Bounds {
        least: 8,
        most: 8,
        initial: 8,
    };
    let mut world = World::new(2, 10 * MS, true, 8);
    world.controller = Controller::new(fixed);
    for _ in 0..600 {
        world.run(SECOND / 10, ALWAYS);
        assert_eq!(world.controller.limit(), 8);
    }
}
