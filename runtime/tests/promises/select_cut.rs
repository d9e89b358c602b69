//! Select cut short: it says why or unwinds, and has done nothing.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use maniple::{
    cancel::CancelToken,
    select, spawn,
    sync::channel::{
        Receiver, RecvError, Select, SelectError, SelectTimeoutError, SendError, bounded, never,
    },
    timeout, yield_now,
};

use super::{LONG, SHORT, on};

#[test]
fn a_select_that_is_cut_says_why_or_unwinds_and_has_done_nothing() {
    on(1, || {
        let (send, receive) = bounded(1);
        let idle = never::<u8>();
        let mut list = Select::new();
        list.recv(&idle);
        let elapsed = timeout(SHORT, || list.select().unwrap_err()).unwrap();
        assert_eq!(elapsed, SelectError::Elapsed);
        let unwound = timeout(SHORT, || select! { recv(idle) -> _ => {} });
        assert!(unwound.is_err());
        assert!(
            timeout(SHORT, || select! {}).is_err(),
            "no case at all waits for ever"
        );
        send.send(1).unwrap();
        let token = CancelToken::new();
        token.cancel();
        assert!(token.run(|| select! { recv(receive) -> _ => {} }).is_err());
        assert!(
            token
                .run(|| select! { recv(idle) -> _ => {}, default(LONG) => {} })
                .is_err()
        );
        list.recv(&receive);
        let cancelled = token.run(|| {
            let plain = list.select().unwrap_err();
            (plain, list.select_timeout(LONG).unwrap_err())
        });
        let expected = (SelectError::Cancelled, SelectTimeoutError::Cancelled);
        assert_eq!(cancelled, Ok(expected));
        // What does not wait is not cut.
        let got = token.run(|| select! { recv(receive) -> got => got, default => unreachable!() });
        assert_eq!(got, Ok(Ok(1)));
        drop(list);
        let waiting = spawn(move || select! { recv(idle) -> _ => {}, recv(receive) -> _ => {} });
        yield_now();
        waiting.cancel();
        assert!(waiting.join().unwrap_err().is_cancelled());
        assert_eq!(
            send.send(2),
            Err(SendError::Disconnected(2)),
            "it let go of the channel"
        );
    });
}

#[test]
fn a_select_in_a_destructor_that_a_cancellation_runs_ends_at_once() {
    struct AtLast(Arc<Mutex<Vec<Result<u8, RecvError>>>>, Receiver<u8>);
    impl Drop for AtLast {
        fn drop(&mut self) {
            let got = select! { recv(self.1) -> got => got };
            let late = select! { recv(self.1) -> got => got, default(LONG) => Ok(1) };
            self.0.lock().unwrap().extend([got, late]);
        }
    }
    on(1, || {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let at_last = AtLast(seen.clone(), never());
        let victim = spawn(move || {
            let _at_last = at_last;
            maniple::sleep(LONG);
        });
        yield_now();
        victim.cancel();
        assert!(victim.join().unwrap_err().is_cancelled());
        assert_eq!(*seen.lock().unwrap(), [Err(RecvError::Cancelled), Ok(1)]);
    });
}

#[test]
fn cancelling_a_select_at_any_moment_neither_loses_nor_doubles_a_message() {
    struct Message(u32, Arc<AtomicUsize>);
    impl Drop for Message {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
        }
    }
    const ROUNDS: u32 = 400;
    for (capacity, workers) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        on(workers, || {
            let dropped = Arc::new(AtomicUsize::new(0));
            let (sent, taken) = (
                Arc::new(Mutex::new(Vec::new())),
                Arc::new(Mutex::new(Vec::new())),
            );
            let ((send_a, a), (send_b, b)) = (bounded(capacity), bounded(capacity));
            for round in 0..ROUNDS {
                let message = |n| Message(n, dropped.clone());
                let (first, second) = (message(2 * round), message(2 * round + 1));
                let (into_a, into_b, sent) = (send_a.clone(), send_b.clone(), sent.clone());
                let sending = spawn(move || {
                    let (first_name, second_name) = (first.0, second.0);
                    let (name, result) = select! {
                        send(into_a, first) -> result => (first_name, result),
                        send(into_b, second) -> result => (second_name, result),
                    };
                    assert!(result.is_ok());
                    sent.lock().unwrap().push(name);
                });
                let (from_a, from_b, note) = (a.clone(), b.clone(), taken.clone());
                let receiving = spawn(move || {
                    let mut select = Select::new();
                    select.recv(&from_a);
                    select.recv(&from_b);
                    if let Ok(selected) = select.select() {
                        let got = match selected.index() {
                            0 => selected.recv(&from_a),
                            _ => selected.recv(&from_b),
                        };
                        note.lock().unwrap().push(got.unwrap().0);
                    }
                });
                (0..round % 5).for_each(|_| yield_now());
                receiving.cancel();
                sending.cancel();
                _ = (sending.join(), receiving.join());
                let left = [a.try_iter(), b.try_iter()].into_iter().flatten();
                taken.lock().unwrap().extend(left.map(|message| message.0));
            }
            let (mut sent, mut taken) = (sent.lock().unwrap(), taken.lock().unwrap());
            sent.sort_unstable();
            taken.sort_unstable();
            assert_eq!(*sent, *taken, "capacity {capacity}, {workers} workers");
            assert!(!sent.is_empty());
            assert_eq!(dropped.load(SeqCst), 2 * ROUNDS as usize);
        });
    }
}
