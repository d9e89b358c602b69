//! What the head of the driver's module promises, held against every kind that there is.

use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    ptr::without_provenance_mut,
    thread,
    time::{Duration, Instant},
};

use rustix::{event::PollFlags, io::Errno};

use super::*;

/// Each kind, by name.
const KINDS: [&str; 2] = ["epoll", "sim"];

/// Long enough that only a wait which nobody ends takes so long.
const LONG: Duration = Duration::from_secs(60);

struct World {
    driver: Driver,
    registrar: Registrar,
    bell: Bell,
    standby: Standby<&'static str>,
}

/// Runs `check` on a new driver of each kind.
fn each_kind(check: impl Fn(World)) {
    for name in KINDS {
        let world = (name == "sim").then(|| {
            sim::World::new(0, sim::Order::drawn(0), false, sim::Wanted::default()).unwrap()
        });
        let _inside = world.as_ref().map(sim::World::enter);
        let (bell, standby) = (Bell::new().unwrap(), Standby::new(clock).unwrap());
        let registrar = Registrar::new(&bell, &standby).unwrap();
        println!("{name}");
        check(World {
            driver: Driver::of(registrar.clone()),
            registrar,
            bell,
            standby,
        });
    }
}

/// The clock of the kind's own time.
fn clock() -> Instant {
    sim::now().unwrap_or_else(Instant::now)
}

/// A waiter that is never looked at.
fn token(number: usize) -> Token {
    let at = without_provenance_mut(number * align_of::<Waiter>());
    NonNull::new(at).expect("numbers begin with 1")
}

/// A non-blocking end and its peer.
fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (near, far)
}

impl World {
    fn poll(&mut self, timeout: Duration) -> (Vec<Token>, Polled) {
        let mut woken = Vec::new();
        let wake = |token| woken.push(token);
        let polled = self.driver.poll(Some(timeout), clock, wake);
        (woken, polled.unwrap())
    }

    /// Who is handed back without waiting.
    fn look(&mut self) -> Vec<Token> {
        self.poll(Duration::ZERO).0
    }

    /// Registers a descriptor that is idle, so that only what comes later counts.
    fn registered(&mut self) -> (UnixStream, UnixStream, Slot) {
        let (near, far) = pair();
        let slot = self.driver.register(near.as_fd()).unwrap();
        assert_eq!(self.look(), []);
        (near, far, slot)
    }
}

#[test]
fn a_descriptor_counts_as_ready_once_a_poll_has_found_it_so() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        far.write_all(b"here").unwrap();
        let slot = world.driver.register(near.as_fd()).unwrap();
        let ready = |world: &World| {
            [Direction::Read, Direction::Write].map(|way| world.driver.is_ready(slot, way))
        };
        assert_eq!(ready(&world), [false, false]);
        assert_eq!(world.look(), [], "nobody waits");
        assert_eq!(ready(&world), [true, true], "it is remembered");
        assert!(world.driver.is_worth_reading(slot, clock));
    });
}

#[test]
fn an_operation_that_would_block_takes_readiness_back_until_there_is_more() {
    each_kind(|mut world| {
        let (mut near, mut far, slot) = world.registered();
        assert!(!world.driver.is_ready(slot, Direction::Read));
        assert!(world.driver.is_ready(slot, Direction::Write));
        far.write_all(b"four").unwrap();
        _ = world.look();
        assert!(world.driver.is_ready(slot, Direction::Read));
        near.read_exact(&mut [0; 4]).unwrap();
        assert!(near.read(&mut [0; 4]).is_err());
        assert!(!world.driver.would_block(slot, Direction::Read));
        assert_eq!(world.look(), []);
        assert!(!world.driver.is_ready(slot, Direction::Read));
        far.write_all(b"more").unwrap();
        _ = world.look();
        assert!(world.driver.is_ready(slot, Direction::Read));
    });
}

#[test]
fn a_short_read_takes_readiness_back_unless_there_is_doubt() {
    each_kind(|mut world| {
        let (_near, mut far, slot) = world.registered();
        far.write_all(b"four").unwrap();
        _ = world.look();
        world.driver.came_short(slot, Direction::Read, true);
        assert!(world.driver.is_ready(slot, Direction::Read));
        world.driver.came_short(slot, Direction::Read, false);
        assert!(!world.driver.is_ready(slot, Direction::Read));
    });
}

#[test]
fn a_waiter_is_handed_back_once() {
    each_kind(|mut world| {
        let (_near, mut far, slot) = world.registered();
        world.driver.add_waiter(slot, Direction::Read, token(1));
        assert_eq!(world.look(), [], "nothing has come");
        far.write_all(b"one").unwrap();
        assert_eq!(world.poll(LONG).0, [token(1)]);
        far.write_all(b"two").unwrap();
        assert_eq!(world.look(), []);
        assert!(world.driver.is_unawaited(slot));
    });
}

#[test]
fn everyone_who_waits_for_a_direction_is_handed_back() {
    each_kind(|mut world| {
        let (_near, mut far, slot) = world.registered();
        for number in 1..=4 {
            (world.driver).add_waiter(slot, Direction::Read, token(number));
        }
        (world.driver).remove_waiter(slot, Direction::Read, token(1));
        (world.driver).remove_waiter(slot, Direction::Read, token(3));
        far.write_all(b"for all").unwrap();
        let mut woken = world.look();
        woken.sort_unstable();
        assert_eq!(
            woken,
            [token(2), token(4)],
            "those who were taken out are not"
        );
    });
}

#[test]
fn one_waiter_may_wait_in_several_places_and_be_taken_out_of_the_others() {
    each_kind(|mut world| {
        let (_near, mut far, slot) = world.registered();
        let (_other_near, mut other_far, other) = world.registered();
        for slot in [slot, other] {
            world.driver.add_waiter(slot, Direction::Read, token(1));
        }
        far.write_all(b"first").unwrap();
        assert_eq!(world.look(), [token(1)]);
        for slot in [slot, other] {
            (world.driver).remove_waiter(slot, Direction::Read, token(1));
        }
        other_far.write_all(b"late").unwrap();
        assert_eq!(world.look(), []);
    });
}

#[test]
fn the_end_ends_every_wait_and_stays_ready() {
    each_kind(|mut world| {
        let (_near, far, slot) = world.registered();
        world.driver.add_waiter(slot, Direction::Read, token(1));
        drop(far);
        assert_eq!(world.look(), [token(1)]);
        world.driver.came_short(slot, Direction::Read, false);
        assert!(world.driver.is_ready(slot, Direction::Read));
    });
}

#[test]
fn what_was_under_way_for_a_slots_former_owner_does_not_reach_the_next() {
    each_kind(|mut world| {
        let (near, mut far, slot) = world.registered();
        far.write_all(b"late").unwrap();
        world.driver.remove(slot, near.as_fd());
        let (next, _far) = pair();
        let again = world.driver.register(next.as_fd()).unwrap();
        assert_eq!(again, slot, "slots are used again");
        world.driver.add_waiter(again, Direction::Read, token(1));
        assert_eq!(world.look(), []);
        assert!(!world.driver.is_ready(again, Direction::Read));
    });
}

#[test]
fn another_thread_takes_a_descriptor_out() {
    each_kind(|mut world| {
        let (near, mut far, slot) = world.registered();
        let registrar = world.registrar.clone();
        assert!(!world.driver.is_idle());
        let closing = thread::spawn(move || registrar.retire(slot, near.as_fd()));
        closing.join().unwrap();
        // The peer may have been told of the end.
        _ = far.write_all(b"late");
        assert_eq!(world.look(), []);
        assert_eq!((world.driver.len(), world.driver.is_idle()), (0, true));
    });
}

/// What an event said of `fd`, as far as it was waited for here.
fn said(world: &World, fd: impl AsFd) -> u32 {
    world.driver.came_lent(fd.as_fd()) & (READABLE | URGENT)
}

/// The file of `next` under the number of `former`, which is closed.
fn renumbered(next: impl AsFd, former: impl Into<OwnedFd>) -> OwnedFd {
    let mut number = former.into();
    rustix::io::dup2(next, &mut number).unwrap();
    number
}

const READABLE: u32 = PollFlags::IN.bits() as u32;
const URGENT: u32 = PollFlags::PRI.bits() as u32;

#[test]
fn who_waits_for_what_others_own_is_handed_back_once_with_what_the_event_said() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        (world.driver.watch_lent(near.as_fd(), READABLE, token(1))).unwrap();
        assert_eq!(world.driver.len(), 1);
        assert_eq!(world.look(), [], "nothing has come");
        assert_eq!(said(&world, &near), 0);
        far.write_all(b"one").unwrap();
        assert_eq!(world.poll(LONG).0, [token(1)]);
        assert_eq!(said(&world, &near), READABLE);
        assert!(world.driver.is_idle());
        far.write_all(b"two").unwrap();
        assert_eq!(world.look(), [], "it was for one wait");
    });
}

#[test]
fn what_others_own_and_is_ready_already_ends_the_wait_at_the_next_poll() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        far.write_all(b"there").unwrap();
        for turn in 0..2 {
            (world.driver.watch_lent(near.as_fd(), READABLE, token(1))).unwrap();
            assert_eq!(world.look(), [token(1)], "turn {turn}");
        }
    });
}

#[test]
fn one_event_hands_back_all_who_wait_for_what_others_own() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        for (number, events) in [(1, READABLE), (2, READABLE), (3, URGENT)] {
            (world.driver.watch_lent(near.as_fd(), events, token(number))).unwrap();
        }
        world.driver.forget_lent(near.as_fd(), token(2));
        far.write_all(b"for all").unwrap();
        let mut woken = world.look();
        woken.sort_unstable();
        assert_eq!(woken, [token(1), token(3)]);
        assert_eq!(said(&world, &near), READABLE);
        assert!(world.driver.is_idle());
    });
}

#[test]
fn who_is_forgotten_is_not_handed_back_by_what_comes_later() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        (world.driver.watch_lent(near.as_fd(), READABLE, token(1))).unwrap();
        world.driver.forget_lent(near.as_fd(), token(1));
        assert!(world.driver.is_idle());
        // Nobody, and nothing, as well.
        world.driver.forget_lent(near.as_fd(), token(1));
        world.driver.forget_lent(far.as_fd(), token(1));
        far.write_all(b"late").unwrap();
        assert_eq!(world.look(), []);
        (world.driver.watch_lent(near.as_fd(), READABLE, token(2))).unwrap();
        assert_eq!(world.look(), [token(2)], "the number is watched anew");
    });
}

#[test]
fn a_number_that_stands_for_another_file_tells_of_that_alone() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        let number = near.as_raw_fd();
        // The file stays open under another number, so the kernel goes on watching it.
        let _other_number = near.try_clone().unwrap();
        (world.driver.watch_lent(near.as_fd(), READABLE, token(1))).unwrap();
        world.driver.forget_lent(near.as_fd(), token(1));
        let (next, mut next_far) = pair();
        let next = renumbered(&next, near);
        assert_eq!(next.as_raw_fd(), number);
        (world.driver.watch_lent(next.as_fd(), READABLE, token(2))).unwrap();
        far.write_all(b"for the former").unwrap();
        // It may be handed back for nothing, but is not told that there is something.
        let woken = world.look();
        assert_eq!(said(&world, &next), 0);
        if woken.is_empty() {
            world.driver.forget_lent(next.as_fd(), token(2));
        }
        (world.driver.watch_lent(next.as_fd(), READABLE, token(3))).unwrap();
        next_far.write_all(b"for this one").unwrap();
        assert_eq!(world.look(), [token(3)]);
        assert_eq!(said(&world, &next), READABLE);
    });
}

#[test]
fn what_others_own_may_be_closed_under_a_wait_and_its_number_be_registered() {
    each_kind(|mut world| {
        let (near, _far) = pair();
        let number = near.as_raw_fd();
        (world.driver.watch_lent(near.as_fd(), READABLE, token(1))).unwrap();
        let (next, mut next_far) = pair();
        let next = renumbered(&next, near);
        assert_eq!(next.as_raw_fd(), number);
        world.driver.forget_lent(next.as_fd(), token(1));
        let slot = world.driver.register(next.as_fd()).unwrap();
        world.driver.add_waiter(slot, Direction::Read, token(2));
        next_far.write_all(b"here").unwrap();
        assert_eq!(world.look(), [token(2)]);
        world.driver.remove(slot, next.as_fd());
        assert!(world.driver.is_idle());
    });
}

#[test]
fn what_others_own_and_the_kernel_cannot_watch_is_refused() {
    each_kind(|mut world| {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let refused = world.driver.watch_lent(file.as_fd(), READABLE, token(1));
        assert_eq!(refused, Err(Errno::PERM));
        let (near, _far, slot) = world.registered();
        let refused = world.driver.watch_lent(near.as_fd(), READABLE, token(1));
        assert_eq!(refused, Err(Errno::EXIST), "it is a registration's");
        world.driver.remove(slot, near.as_fd());
        assert!(world.driver.is_idle());
    });
}

#[test]
fn the_bell_ends_a_wait_whenever_it_rings() {
    each_kind(|mut world| {
        let begun = Instant::now();
        world.bell.ring();
        assert_eq!(world.poll(LONG).0, [], "rung before");
        let bell = &world.bell;
        let driver = &mut world.driver;
        thread::scope(|scope| {
            scope.spawn(|| bell.ring());
            (driver.poll(Some(LONG), Instant::now, |_| ())).unwrap();
        });
        assert!(begun.elapsed() < LONG);
    });
}

#[test]
fn a_poll_waits_no_longer_than_it_may_and_not_less_if_nothing_comes() {
    each_kind(|mut world| {
        let begun = clock();
        assert_eq!(world.poll(Duration::from_millis(3)).0, []);
        assert!((clock() - begun) >= Duration::from_millis(3));
    });
}

#[test]
fn what_is_on_standby_is_reported_and_handed_out_once() {
    each_kind(|mut world| {
        let (near, mut far) = pair();
        let until = clock() + 2 * LONG;
        (world.standby)
            .enter(near.as_fd(), until, "served")
            .unwrap();
        assert!(!world.poll(Duration::ZERO).1.standby);
        far.write_all(b"hello").unwrap();
        assert!(world.poll(LONG).1.standby);
        let mut due = Vec::new();
        world.standby.take_due(|item| due.push(item));
        world.standby.take_due(|item| due.push(item));
        assert_eq!((due, world.standby.len()), (vec!["served"], 0));
        assert!(!world.poll(Duration::ZERO).1.standby, "nothing is left");
    });
}

#[test]
fn what_is_on_standby_is_due_at_its_deadline_as_well() {
    each_kind(|mut world| {
        let (near, _far) = pair();
        let now = clock();
        (world.standby).enter(near.as_fd(), now, "late").unwrap();
        assert!(world.poll(LONG).1.standby);
        let mut due = Vec::new();
        world.standby.take_due(|item| due.push(item));
        assert_eq!(due, ["late"]);
        assert!((clock() - now) < LONG);
    });
}

#[test]
fn what_cannot_be_watched_is_handed_back() {
    each_kind(|world| {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let until = clock() + LONG;
        let back = world.standby.enter(file.as_fd(), until, "a file");
        assert_eq!((back, world.standby.len()), (Err("a file"), 0));
    });
}
