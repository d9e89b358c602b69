//! Receivers of the clock: after, at, tick and never.

use std::time::{Duration, Instant};

use maniple::{
    cancel::CancelToken,
    spawn,
    sync::channel::{RecvError, RecvTimeoutError, TryRecvError, after, at, never, tick},
    timeout, yield_now,
};

use super::{LONG, SHORT, on};

/// Runs it from a plain thread and from a coroutine.
fn anywhere(body: impl Fn() + Send + Sync) {
    body();
    on(1, &body);
}

#[test]
fn a_message_from_the_clock_comes_once_and_never_early() {
    anywhere(|| {
        let begun = Instant::now();
        let timer = after(SHORT);
        assert_eq!((timer.capacity(), timer.len()), (Some(1), 0));
        assert_eq!(timer.try_recv(), Err(TryRecvError::Empty));
        let other = timer.clone();
        let due = timer.recv().unwrap();
        assert!(due >= begun + SHORT && Instant::now() >= due);
        assert_eq!(
            other.try_recv(),
            Err(TryRecvError::Empty),
            "clones share it"
        );
        assert_eq!(other.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        let past = at(begun);
        assert_eq!((past.len(), past.is_empty()), (1, false));
        assert_eq!((past.recv(), past.len()), (Ok(begun), 0));
        assert_eq!(after(Duration::MAX).try_recv(), Err(TryRecvError::Empty));
        assert_eq!(
            after(LONG).recv_timeout(SHORT),
            Err(RecvTimeoutError::Timeout)
        );
    });
}

#[test]
fn ticks_come_in_intervals_and_do_not_pile_up() {
    anywhere(|| {
        let begun = Instant::now();
        let ticks = tick(SHORT);
        for n in 1..=3 {
            assert!(ticks.recv().unwrap() >= begun + n * SHORT);
            assert!(Instant::now() >= begun + n * SHORT);
        }
        maniple::sleep(4 * SHORT);
        assert_eq!((ticks.len(), ticks.capacity()), (1, Some(1)));
        let late = ticks.recv().unwrap();
        assert!(late < Instant::now() - SHORT, "the one that waited");
        assert!(
            ticks.recv().unwrap() > late + 2 * SHORT,
            "the others were left out"
        );
        let at_once = tick(Duration::ZERO);
        assert_eq!(at_once.iter().take(3).count(), 3);
        assert_eq!(tick(Duration::MAX).try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn a_tick_goes_to_one_of_many_receivers() {
    on(2, || {
        let ticks = tick(Duration::from_micros(500));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let ticks = ticks.clone();
                spawn(move || ticks.iter().take(5).collect::<Vec<_>>())
            })
            .collect();
        let mut got: Vec<_> = takers
            .into_iter()
            .flat_map(|taker| taker.join().unwrap())
            .collect();
        got.sort();
        got.dedup();
        assert_eq!(got.len(), 20);
    });
}

#[test]
fn nothing_comes_from_never() {
    anywhere(|| {
        let nothing = never::<u8>();
        let begun = Instant::now();
        assert_eq!(nothing.clone().try_recv(), Err(TryRecvError::Empty));
        assert_eq!(nothing.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(begun.elapsed() >= SHORT);
        assert_eq!((nothing.len(), nothing.capacity()), (0, Some(0)));
        assert_eq!(
            timeout(SHORT, || nothing.recv()).unwrap(),
            Err(RecvError::Elapsed)
        );
        assert_eq!(nothing.try_iter().next(), None);
    });
}

#[test]
fn waiting_for_the_clock_is_cut_by_cancellation() {
    on(1, || {
        for timer in [after(LONG), tick(LONG), never()] {
            let theirs = timer.clone();
            let waiter = spawn(move || theirs.recv());
            yield_now();
            waiter.cancel();
            assert_eq!(waiter.join().unwrap(), Err(RecvError::Cancelled));
            let token = CancelToken::new();
            token.cancel();
            assert_eq!(
                token.run(|| timer.recv()).unwrap(),
                Err(RecvError::Cancelled)
            );
        }
    });
}
