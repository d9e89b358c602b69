//! What no engine can go below: a switch of registers, a call, a copy, and nothing around them.

use std::hint::black_box;

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};

use super::{
    Measured,
    row::{CHUNK, COUNTS, Row},
    time,
};

/// Whether a single thing bounds the row.
pub(super) fn bounds(row: Row) -> bool {
    matches!(
        row,
        Row::Yield2
            | Row::Yield10000
            | Row::SpawnJoin
            | Row::SpawnJoin1000
            | Row::Group3
            | Row::PingPong
            | Row::Rendezvous
            | Row::Notify
            | Row::Unix64k
    )
}

pub(super) fn run(row: Row) -> Measured {
    match row {
        Row::Yield2 => round_trips(2),
        Row::Yield10000 => round_trips(COUNTS.yielders),
        Row::SpawnJoin | Row::SpawnJoin1000 => calls(COUNTS.spawns, 1),
        Row::Group3 => calls(COUNTS.groups, 3),
        Row::PingPong | Row::Rendezvous | Row::Notify => messages(),
        Row::Unix64k => copies(),
        _ => unreachable!("no single thing bounds {row:?}"),
    }
}

/// A coroutine with nothing but a stack and registers.
fn coroutine<I: 'static, Y: 'static>(
    body: impl FnOnce(&Yielder<I, Y>, I) + 'static,
) -> Coroutine<I, Y, ()> {
    let stack = DefaultStack::new(64 * 1024).expect("a stack");
    Coroutine::with_stack(stack, body)
}

/// Out of a coroutine and into the next one: what a yield takes if finding the next takes nothing.
fn round_trips(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let mut coroutines: Vec<_> = (0..count)
            .map(|_| {
                coroutine(move |yielder: &Yielder<(), ()>, ()| {
                    (0..each).for_each(|_| yielder.suspend(()));
                })
            })
            .collect();
        // Once more than it yields, for its end.
        for _ in 0..=each {
            for coroutine in &mut coroutines {
                black_box(coroutine.resume(()));
            }
        }
        assert!(coroutines.iter().all(Coroutine::done));
    })
}

/// In with a message and out with one: the two who exchange them are a coroutine and who resumes it.
fn messages() -> Measured {
    let mut echo = coroutine(|yielder: &Yielder<Option<u64>, u64>, mut message| {
        while let Some(value) = message {
            message = yielder.suspend(value);
        }
    });
    let measured = time(COUNTS.messages, || {
        for message in 0..COUNTS.messages / 2 {
            match echo.resume(Some(message)) {
                CoroutineResult::Yield(answer) => assert_eq!(black_box(answer), message),
                CoroutineResult::Return(()) => unreachable!("it goes on while there are messages"),
            }
        }
    });
    echo.resume(None);
    measured
}

/// So many calls, one after the other, in place of as many tasks.
fn calls(operations: u64, each: u64) -> Measured {
    time(operations, || {
        for _ in 0..operations {
            for number in 0..each {
                black_box(called(black_box(number)));
            }
        }
    })
}

#[inline(never)]
fn called(number: u64) -> u64 {
    number
}

/// The bytes from one buffer to another, once; through a socket it is twice, in and out.
fn copies() -> Measured {
    let (from, mut to) = (vec![1u8; CHUNK], vec![0u8; CHUNK]);
    time(COUNTS.chunks, || {
        for _ in 0..COUNTS.chunks {
            black_box(&mut to).copy_from_slice(black_box(&from));
        }
    })
}
