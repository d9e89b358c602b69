//! What tasks do with the toolkit in the mix, each with what must hold of it.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{
    cancel,
    group::{self, group},
    net::{UnixStream, pipe},
    select, sleep,
    sync::{Barrier, OnceLock, WaitGroup, oneshot},
    timeout, yield_now,
};

use super::{Counted, Dice, PERMITS, World};

/// Never more inside than there are permits.
pub(super) fn permits(dice: &mut Dice, world: &World) {
    let (wanted, limit) = (1 + dice.below(PERMITS as u64) as usize, dice.micros());
    let Ok(Ok(_permit)) = timeout(limit, || world.permits.acquire_many(wanted)) else {
        return;
    };
    let inside = world.inside.fetch_add(wanted, SeqCst) + wanted;
    assert!(inside <= PERMITS, "{inside} inside");
    cancel::shield(yield_now);
    world.inside.fetch_sub(wanted, SeqCst);
}

/// Two numbers that every reader finds equal.
pub(super) fn halves(dice: &mut Dice, world: &World) {
    if dice.below(3) == 0 {
        let mut halves = world.halves.write();
        halves.0 += 1;
        cancel::shield(yield_now);
        halves.1 += 1;
    } else {
        let halves = world.halves.read();
        assert_eq!(halves.0, halves.1, "a reader beside a writer");
        yield_now();
    }
}

/// Sends or receives, whichever can be first.
pub(super) fn choose(dice: &mut Dice, world: &World) {
    /// Counted before it can be received, and taken back if it was not sent.
    struct Sending<'a>(Option<&'a AtomicUsize>);
    impl Drop for Sending<'_> {
        fn drop(&mut self) {
            if let Some(sent) = self.0 {
                sent.fetch_sub(1, SeqCst);
            }
        }
    }
    world.sent.fetch_add(1, SeqCst);
    let mut sending = Sending(Some(&world.sent));
    select! {
        recv(world.receive) -> message => {
            message.expect("the world has a sender");
            world.received.fetch_add(1, SeqCst);
        }
        send(world.send, Counted::new(&world.alive)) -> result => {
            result.expect("the world has a receiver");
            sending.0 = None;
        }
        default(dice.micros()) => {}
    }
}

/// What is told to many: the latest, each, or just that something is.
pub(super) fn hear(dice: &mut Dice, world: &World) {
    let limit = dice.micros();
    match dice.below(6) {
        0 => world.latest.send_modify(|latest| *latest += 1),
        1 => {
            let mut latest = world.latest.subscribe();
            let before = *latest.borrow_and_update();
            if latest.changed_timeout(limit).is_ok() {
                assert!(*latest.borrow() > before);
            }
        }
        2 => drop(world.news.send(Arc::new(Counted::new(&world.alive)))),
        3 => {
            let mut news = world.news.subscribe();
            while news.recv_timeout(limit).is_ok() {}
        }
        4 => world.notify.notify_one(),
        _ => drop(world.notify.notified_timeout(limit)),
    }
}

/// Children that wait for each other, until the slowest is there or the time is up.
pub(super) fn meet(dice: &mut Dice, world: &World) {
    let (barrier, once, all) = (Barrier::new(3), OnceLock::new(), WaitGroup::new());
    let (answer, question) = oneshot::channel();
    let (mut answer, delay) = (Some(answer), dice.micros());
    let _ = timeout(dice.micros() * 4, || {
        group(|g| {
            for _ in 0..3 {
                let (answer, all) = (answer.take(), all.clone());
                let (barrier, once) = (&barrier, &once);
                g.spawn(move || {
                    let value: &Counted = once.get_or_init(|| {
                        sleep(delay);
                        Counted::new(&world.alive)
                    });
                    barrier.wait();
                    if let Some(answer) = answer {
                        let _ = answer.send(value.0.load(SeqCst));
                    }
                    drop(all);
                });
            }
            all.wait();
            assert!(question.recv().map_or(true, |alive| alive > 0));
            Ok::<_, ()>(())
        })
    });
}

/// Several calls at once, of which one, some or all count.
pub(super) fn policy(dice: &mut Dice, world: &World) {
    let delays: Vec<Duration> = (0..4).map(|_| dice.micros()).collect();
    let call = |delay| {
        let _value = Counted::new(&world.alive);
        sleep(delay);
        Ok::<_, ()>(delay)
    };
    let calls = delays.iter().map(|&delay| move || call(delay));
    match dice.below(5) {
        0 => assert!(group::race(calls).is_ok_and(|winner| delays.contains(&winner))),
        1 => assert!(group::quorum(2, calls).is_ok_and(|agreed| agreed.len() >= 2)),
        2 => assert_eq!(group::try_map(2, delays.clone(), call), Ok(delays)),
        3 => assert_eq!(group::partial_timeout(dice.micros(), calls).len(), 4),
        _ => assert!(group::hedge(delays[0], |n| call(delays[n])).is_ok()),
    }
}

/// Bytes through a pipe or a pair of sockets, in order as far as they came.
pub(super) fn stream(dice: &mut Dice) {
    if dice.below(2) == 0 {
        let (reader, writer) = pipe().unwrap();
        pass(dice, reader, writer);
    } else {
        let (reader, writer) = UnixStream::pair().unwrap();
        pass(dice, reader, writer);
    }
}

fn pass(dice: &mut Dice, mut reader: impl Read, mut writer: impl Write + Send) {
    let mut got = Vec::new();
    let _ = timeout(dice.micros(), || {
        group(|g| {
            g.spawn(move || (0..50).try_for_each(|byte| writer.write_all(&[byte])));
            let whole = reader.read_to_end(&mut got).is_ok();
            assert!(!whole || got.len() == 50 || cancel::check().is_err());
            Ok::<_, ()>(())
        })
    });
    assert!(got.iter().copied().eq(0..got.len() as u8), "{got:?}");
}
