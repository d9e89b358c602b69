//! Select over a list made at run time: what it does, and what it only finds ready.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use maniple::{
    cancel::CancelToken,
    select, spawn,
    sync::channel::{
        ReadyError, ReadyTimeoutError, Receiver, RecvError, Select, SelectTimeoutError, SendError,
        Sender, TryReadyError, TryRecvError, TrySelectError, after, bounded, never, unbounded,
    },
    timeout, yield_now,
};

use super::{LONG, SHORT, anywhere, on, plain_thread};

#[test]
fn a_list_of_operations_made_at_run_time_keeps_its_indexes() {
    anywhere(|| {
        let ((send, receive), (other_send, other)) = (bounded(1), bounded::<u8>(1));
        let mut select = Select::new();
        assert_eq!(select.try_select().unwrap_err(), TrySelectError);
        assert_eq!((select.recv(&receive), select.recv(&other)), (0, 1));
        assert_eq!(select.send(&send, "sent"), 2);
        assert_eq!(select.select().map(|selected| selected.index()).unwrap(), 2);
        // The send has had its turn, the receives stay.
        let selected = select.select().unwrap();
        assert_eq!((selected.index(), selected.recv(&receive)), (0, Ok("sent")));
        assert_eq!(select.try_select().unwrap_err(), TrySelectError);
        assert_eq!(
            select.select_timeout(SHORT).unwrap_err(),
            SelectTimeoutError::Timeout
        );
        let at = Instant::now() + SHORT;
        assert_eq!(
            select.select_deadline(at).unwrap_err(),
            SelectTimeoutError::Timeout
        );
        assert!(Instant::now() >= at);
        select.remove(0);
        other_send.send(9).unwrap();
        drop(other_send);
        let selected = select.select().unwrap();
        assert_eq!((selected.index(), selected.recv(&other)), (1, Ok(9)));
        let selected = select.select_timeout(LONG).unwrap();
        assert_eq!(selected.recv(&other), Err(RecvError::Disconnected));
        drop(select);
        drop(receive);
        let mut closed = Select::new();
        closed.send(&send, "back");
        assert_eq!(
            closed.select().unwrap().send(&send),
            Err(SendError::Disconnected("back"))
        );
    });
}

#[test]
fn misuse_of_a_list_of_operations_panics() {
    let (send, receive) = unbounded();
    let panics = |body: &dyn Fn()| catch_unwind(AssertUnwindSafe(body)).is_err();
    send.send(1).unwrap();
    let twin = receive.clone();
    assert!(panics(&|| {
        let mut select = Select::new();
        select.recv(&receive);
        _ = select.select().unwrap().recv(&twin);
    }));
    assert!(panics(&|| _ = Select::new().select()));
    assert!(panics(&|| {
        let mut select = Select::new();
        let index = select.recv(&receive);
        select.remove(index);
        select.remove(index);
    }));
    assert!(panics(&|| {
        let mut select = Select::new();
        select.send(&send, 2);
        select.select().unwrap().send(&send).unwrap();
        _ = select.select();
    }));
}

#[test]
fn what_is_ready_is_named_and_left_alone() {
    anywhere(|| {
        let ((send, receive), (_kept, idle)) = (bounded(1), unbounded::<u8>());
        let mut select = Select::new();
        assert_eq!(select.try_ready(), Err(TryReadyError), "an empty list");
        select.recv(&idle);
        let receiving = select.recv(&receive);
        assert_eq!(select.try_ready(), Err(TryReadyError));
        let begun = Instant::now();
        let late = select.ready_timeout(SHORT);
        assert_eq!(late, Err(ReadyTimeoutError::Timeout));
        assert!(begun.elapsed() >= SHORT);
        send.send("message").unwrap();
        for _ in 0..2 {
            assert_eq!(select.try_ready(), Ok(receiving));
            assert_eq!(select.ready(), Ok(receiving));
            assert_eq!(select.ready_timeout(LONG), Ok(receiving));
            assert_eq!(
                select.ready_deadline(begun),
                Ok(receiving),
                "a look is free"
            );
        }
        assert_eq!(receive.try_recv(), Ok("message"));
        let sending = select.send(&send, "stays");
        assert_eq!(select.ready(), Ok(sending));
        assert_eq!(receive.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(select.select().unwrap().index(), sending);
        assert_eq!(select.ready(), Ok(receiving), "the send has had its turn");
        drop(select);
        drop(receive);
        let mut closed = Select::new();
        closed.send(&send, "back");
        assert_eq!(closed.ready(), Ok(0), "it would fail");
    });
}

#[test]
fn one_of_several_that_are_ready_is_named_at_random() {
    const ROUNDS: usize = 3_000;
    let (send, busy) = unbounded();
    let (_kept, idle) = unbounded::<usize>();
    send.send(0).unwrap();
    let mut select = Select::new();
    for receiver in [&idle, &busy, &idle] {
        select.recv(receiver);
    }
    select.send(&send, 1);
    let mut named = [0; 4];
    (0..ROUNDS).for_each(|_| named[select.ready().unwrap()] += 1);
    assert_eq!((named[0], named[2]), (0, 0));
    assert!(named[1].min(named[3]) > ROUNDS * 2 / 5, "{named:?}");
}

/// Waits for readiness in a coroutine, to which `change` must lead.
fn becomes_ready<T: Sync>(
    half: impl for<'a> Fn(&mut Select<'a>, &'a T) + Send + Sync,
    on_it: &T,
    change: impl FnOnce(),
) {
    let idle = never::<u8>();
    maniple::group(|g| {
        let found = g.spawn(|| {
            let mut select = Select::new();
            select.recv(&idle);
            half(&mut select, on_it);
            select.ready_timeout(LONG)
        });
        yield_now();
        assert!(!found.is_finished(), "it is not ready yet");
        change();
        assert_eq!(found.join().unwrap(), Ok(1));
        Ok::<_, ()>(())
    })
    .unwrap();
}

#[test]
fn a_wait_for_readiness_ends_with_whatever_makes_it_ready() {
    fn to_recv<'a>(select: &mut Select<'a>, receiver: &'a Receiver<u8>) {
        select.recv(receiver);
    }
    fn to_send<'a>(select: &mut Select<'a>, sender: &'a Sender<u8>) {
        select.send(sender, 9);
    }
    for workers in [1, 2] {
        on(workers, || {
            let (send, receive) = bounded(1);
            becomes_ready(to_recv, &receive, || send.send(1).unwrap());
            becomes_ready(to_send, &send, || assert_eq!(receive.recv(), Ok(1)));
            becomes_ready(to_recv, &receive, || drop(send));
            let (send, receive) = bounded(1);
            send.send(1).unwrap();
            becomes_ready(to_send, &send, || drop(receive));
            // Without room in the channel, a partner that waits makes it ready.
            let (send, receive) = bounded(0);
            let partner = || {
                spawn({
                    let send = send.clone();
                    move || send.send(1)
                })
            };
            becomes_ready(to_recv, &receive, || _ = partner());
            assert_eq!(receive.try_recv(), Ok(1));
            let partner = || {
                spawn({
                    let receive = receive.clone();
                    move || receive.recv()
                })
            };
            becomes_ready(to_send, &send, || _ = partner());
            send.try_send(2).unwrap();
            // And a partner that waits in a select does, too.
            let theirs = send.clone();
            let partner = || spawn(move || select! { send(theirs, 3) -> sent => sent });
            becomes_ready(to_recv, &receive, || _ = partner());
            assert_eq!(receive.try_recv(), Ok(3));
            let theirs = receive.clone();
            let partner = || spawn(move || select! { recv(theirs) -> got => got });
            becomes_ready(to_send, &send, || _ = partner());
            send.try_send(4).unwrap();
        });
    }
}

#[test]
fn the_clock_makes_ready() {
    anywhere(|| {
        let begun = Instant::now();
        let (due, idle) = (after(SHORT), never::<u8>());
        let mut select = Select::new();
        select.recv(&idle);
        select.recv(&due);
        assert_eq!((select.ready(), select.ready()), (Ok(1), Ok(1)));
        assert!(due.try_recv().unwrap() >= begun + SHORT);
        assert_eq!(select.try_ready(), Err(TryReadyError));
    });
}

#[test]
fn all_who_wait_for_readiness_are_told_and_none_goes_before_a_receiver() {
    on(1, || {
        let (send, receive) = bounded(1);
        let watch = |receive: Receiver<u8>| {
            spawn(move || {
                let mut select = Select::new();
                select.recv(&receive);
                select.ready_timeout(LONG)
            })
        };
        let watching = [(); 3].map(|()| watch(receive.clone()));
        let plain = receive.clone();
        let receiving = spawn(move || plain.recv());
        yield_now();
        send.send(1).unwrap();
        assert_eq!(receiving.join().unwrap(), Ok(1));
        yield_now();
        assert!(
            !watching.iter().any(|watch| watch.is_finished()),
            "there is nothing"
        );
        send.send(2).unwrap();
        watching
            .into_iter()
            .for_each(|watch| assert_eq!(watch.join().unwrap(), Ok(0)));
        assert_eq!(receive.try_recv(), Ok(2));
    });
}

#[test]
fn those_who_only_wait_for_readiness_do_not_make_each_other_ready() {
    anywhere(|| {
        let (send, receive) = bounded(0);
        let mut both = Select::new();
        both.recv(&receive);
        both.send(&send, 1);
        assert_eq!(both.ready_timeout(SHORT), Err(ReadyTimeoutError::Timeout));
        let theirs = receive.clone();
        let other = plain_thread(move || {
            let mut select = Select::new();
            select.recv(&theirs);
            select.ready_timeout(SHORT)
        });
        let mine = both.ready_timeout(SHORT);
        assert_eq!(
            (mine, other.join().unwrap()),
            (Err(ReadyTimeoutError::Timeout), mine)
        );
    });
}

#[test]
fn a_wait_for_readiness_that_is_cut_says_why_and_leaves_nothing_behind() {
    on(1, || {
        let (send, receive) = bounded(1);
        let mut select = Select::new();
        select.recv(&receive);
        let elapsed = timeout(SHORT, || select.ready());
        assert_eq!(elapsed, Ok(Err(ReadyError::Elapsed)));
        let past = select.ready_deadline(Instant::now());
        assert_eq!(past, Err(ReadyTimeoutError::Timeout));
        let token = CancelToken::new();
        let theirs = token.clone();
        let cancelling = spawn(move || theirs.cancel());
        let cut = token.run(|| select.ready());
        assert_eq!(cut, Ok(Err(ReadyError::Cancelled)));
        cancelling.join().unwrap();
        send.send(1).unwrap();
        let cut = token.run(|| {
            (
                select.ready(),
                select.ready_timeout(LONG),
                select.try_ready(),
            )
        });
        let expected = (
            Err(ReadyError::Cancelled),
            Err(ReadyTimeoutError::Cancelled),
            Ok(0),
        );
        assert_eq!(cut, Ok(expected), "what does not wait is not cut");
        assert!(catch_unwind(AssertUnwindSafe(|| Select::new().ready())).is_err());
    });
}

/// All waits are for readiness alone; what is then tried may have gone.
#[test]
fn every_message_found_ready_reaches_one_receiver_once() {
    const EACH: usize = 500;
    const GIVERS: usize = 3;
    fn give(send: &Sender<usize>, from: usize) {
        for n in 0..EACH {
            let mut select = Select::new();
            select.send(send, 0);
            while send.try_send(from * EACH + n).is_err() {
                select.ready_timeout(LONG).expect("room comes");
            }
        }
    }
    fn take(receivers: &[Receiver<usize>], seen: &[AtomicUsize]) {
        let mut select = Select::new();
        receivers
            .iter()
            .for_each(|receiver| _ = select.recv(receiver));
        let mut open = receivers.len();
        while open > 0 {
            let index = select.ready_timeout(LONG).expect("a message, or the end");
            match receivers[index].try_recv() {
                Ok(n) => _ = seen[n].fetch_add(1, SeqCst),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    select.remove(index);
                    open -= 1;
                }
            }
        }
    }
    for capacity in [1, 4] {
        let seen: Arc<Vec<_>> = Arc::new((0..GIVERS * EACH).map(|_| AtomicUsize::new(0)).collect());
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..GIVERS).map(|_| bounded(capacity)).unzip();
        let threads = [receivers.clone(), receivers.clone()].map(|receivers| {
            let seen = seen.clone();
            plain_thread(move || take(&receivers, &seen))
        });
        on(2, || {
            let giving = senders.into_iter().enumerate();
            let giving: Vec<_> = giving
                .map(|(from, sender)| spawn(move || give(&sender, from)))
                .collect();
            let taking = spawn({
                let seen = seen.clone();
                move || take(&receivers, &seen)
            });
            giving.into_iter().for_each(|giver| giver.join().unwrap());
            taking.join().unwrap();
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(
            seen.iter().all(|count| count.load(SeqCst) == 1),
            "capacity {capacity}"
        );
    }
}
