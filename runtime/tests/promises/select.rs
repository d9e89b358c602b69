//! Select: which operation it does, what it leaves alone, and how it ends otherwise. The rules are those of
//! crossbeam-channel and of Go's language specification.

use std::{
    mem::ManuallyDrop,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use maniple::{
    select, select_biased, spawn,
    sync::channel::{
        Receiver, RecvError, Select, SelectTimeoutError, SendError, Sender, TryRecvError, after,
        bounded, never, tick, unbounded,
    },
    task::{Builder, spawn_on_workers},
    yield_now,
};

use super::{LONG, SHORT, anywhere, on, plain_thread};

#[test]
fn what_can_be_done_is_done_and_the_default_only_if_nothing_can() {
    anywhere(|| {
        let (send, receive) = bounded(1);
        let (_kept, idle) = unbounded::<u8>();
        let sent = select! {
            recv(idle) -> _ => false,
            send(send, 7) -> sent => sent.is_ok(),
            default => false,
        };
        assert!(sent);
        let got = select! {
            recv(idle) -> _ => None,
            send(send, 8) -> _ => None,
            recv(receive) -> got => Some(got),
        };
        assert_eq!(got, Some(Ok(7)));
        let fell = select! {
            recv(idle) -> _ => false,
            recv(receive) -> _ => false,
            default => true,
        };
        assert!(fell);
        assert_eq!(
            receive.try_recv(),
            Err(TryRecvError::Empty),
            "8 was not sent"
        );
    });
}

#[test]
fn a_default_after_a_time_is_never_early() {
    anywhere(|| {
        let (_send, receive) = bounded::<u8>(0);
        let begun = Instant::now();
        select! {
            recv(receive) -> _ => unreachable!(),
            default(SHORT) => assert!(begun.elapsed() >= SHORT),
        }
        let begun = Instant::now();
        select! {
            default(SHORT) => {}
        }
        assert!(begun.elapsed() >= SHORT);
        let ended = select! { default(Duration::ZERO) => 1 };
        let at_once = select! { default() => 2 };
        assert_eq!((ended, at_once), (1, 2));
    });
}

#[test]
fn an_operation_on_a_closed_channel_can_be_done_and_fails() {
    anywhere(|| {
        let (send, receive) = bounded(1);
        send.send(1).unwrap();
        drop(send);
        let next = || {
            select! {
                recv(receive) -> got => got,
                recv(never::<i32>()) -> got => got,
            }
        };
        assert_eq!(next(), Ok(1), "it is drained first");
        assert_eq!(
            (next(), next()),
            (Err(RecvError::Disconnected), Err(RecvError::Disconnected))
        );
        let (send, receive) = bounded(0);
        drop(receive);
        let sent = select! { send(send, "back") -> sent => sent };
        assert_eq!(sent, Err(SendError::Disconnected("back")));
    });
}

#[test]
fn a_channel_that_is_closed_meanwhile_ends_the_wait() {
    for workers in [1, 2] {
        on(workers, || {
            let (send, receive) = bounded::<u8>(0);
            let (full, kept) = bounded(0);
            let waiting = spawn(move || {
                select! {
                    recv(receive) -> got => assert_eq!(got, Err(RecvError::Disconnected)),
                    recv(never::<u8>()) -> _ => unreachable!(),
                }
                select! {
                    send(full, 1) -> sent => assert_eq!(sent, Err(SendError::Disconnected(1))),
                    recv(never::<u8>()) -> _ => unreachable!(),
                }
            });
            yield_now();
            drop(send);
            yield_now();
            drop(kept);
            waiting.join().unwrap();
        });
    }
}

#[test]
fn the_clock_takes_part() {
    anywhere(|| {
        let begun = Instant::now();
        let (due, ticks) = (after(3 * SHORT), tick(SHORT));
        let (mut ticked, idle) = (0, never::<u8>());
        loop {
            select! {
                recv(idle) -> _ => unreachable!(),
                recv(ticks) -> at => {
                    assert!(at.unwrap() >= begun + SHORT);
                    ticked += 1;
                }
                recv(due) -> at => {
                    assert!(at.unwrap() >= begun + 3 * SHORT);
                    break;
                }
            }
        }
        assert!(begun.elapsed() >= (3 * SHORT).max(ticked * SHORT));
        select! {
            recv(after(SHORT)) -> _ => {},
            default(LONG) => unreachable!(),
        }
    });
}

#[test]
fn one_of_several_is_chosen_at_random() {
    const ROUNDS: usize = 4_000;
    on(1, || {
        let (send, busy) = unbounded();
        let (_kept, idle) = unbounded();
        (0..2 * ROUNDS).for_each(|n| send.send(n).unwrap());
        let (mut macros, mut dynamic) = ([0; 3], [0; 5]);
        for _ in 0..ROUNDS {
            select! {
                recv(busy) -> _ => macros[0] += 1,
                recv(idle) -> _ => unreachable!(),
                recv(busy) -> _ => macros[1] += 1,
                recv(idle) -> _ => unreachable!(),
                send(send, 0) -> _ => macros[2] += 1,
            }
        }
        assert!(macros.iter().all(|&times| times > ROUNDS / 6), "{macros:?}");
        let halves = [&busy, &busy, &idle, &idle, &idle];
        let mut select = Select::new();
        for half in halves {
            select.recv(half);
        }
        for _ in 0..ROUNDS {
            let selected = select.select().unwrap();
            let index = selected.index();
            dynamic[index] += 1;
            selected.recv(halves[index]).unwrap();
        }
        assert!(
            dynamic[..2].iter().all(|&times| times > ROUNDS * 2 / 5),
            "{dynamic:?}"
        );
    });
}

#[test]
fn a_select_does_not_meet_itself() {
    anywhere(|| {
        let (send, receive) = bounded(0);
        for _ in 0..20 {
            select! {
                send(send, 1) -> _ => unreachable!("to itself"),
                recv(receive) -> _ => unreachable!("from itself"),
                default => {}
            }
        }
        select! {
            send(send, 1) -> _ => unreachable!("to itself"),
            recv(receive) -> _ => unreachable!("from itself"),
            send(send, 2) -> _ => unreachable!("to itself"),
            default(SHORT) => {}
        }
        let mut both = Select::new();
        both.recv(&receive);
        both.send(&send, 1);
        assert_eq!(
            both.select_timeout(SHORT).unwrap_err(),
            SelectTimeoutError::Timeout
        );
    });
}

/// Sends and receives on one channel, whichever is possible; how many of each it did.
fn both_ways(send: &Sender<usize>, receive: &Receiver<usize>, rounds: usize) -> [usize; 2] {
    let mut done = [0, 0];
    for _ in 0..rounds {
        select! {
            send(send, 1) -> sent => {
                sent.unwrap();
                done[0] += 1;
            }
            recv(receive) -> got => done[1] += got.unwrap(),
        }
    }
    done
}

#[test]
fn two_that_select_both_ways_on_one_rendezvous_pair_up() {
    const ROUNDS: usize = 2_000;
    let (send, receive) = bounded(0);
    let theirs = (send.clone(), receive.clone());
    let thread = plain_thread(move || both_ways(&theirs.0, &theirs.1, ROUNDS));
    let mine = both_ways(&send, &receive, ROUNDS);
    let theirs = thread.join().unwrap();
    assert_eq!((mine[0], mine[1]), (theirs[1], theirs[0]), "plain threads");
    for workers in [1, 2] {
        on(workers, || {
            let (send, receive) = bounded(0);
            let done: Vec<_> = (0..2)
                .map(|_| {
                    let (send, receive) = (send.clone(), receive.clone());
                    spawn(move || both_ways(&send, &receive, ROUNDS))
                })
                .collect();
            let done: Vec<_> = done.into_iter().map(|done| done.join().unwrap()).collect();
            assert_eq!((done[0][0], done[0][1]), (done[1][1], done[1][0]));
        });
    }
}

#[test]
fn selects_that_face_each_other_on_two_channels_do_not_miss_each_other() {
    const ROUNDS: usize = 1_000;
    let cross = |out: &Sender<usize>, back: &Receiver<usize>| {
        let (mut sent, mut got) = (0, 0);
        while sent < ROUNDS || got < ROUNDS {
            let mut next = (sent < ROUNDS).then_some(sent);
            let idle = never();
            select! {
                send(out, ref mut next) -> result => {
                    result.unwrap();
                    sent += 1;
                }
                recv(if got < ROUNDS { back } else { &idle }) -> message => {
                    assert_eq!(message, Ok(got));
                    got += 1;
                }
            }
        }
    };
    for capacity in [0, 1] {
        for workers in [1, 2] {
            let ((to_left, left), (to_right, right)) = (bounded(capacity), bounded(capacity));
            on(workers, || {
                let one = spawn(move || cross(&to_left, &right));
                spawn(move || cross(&to_right, &left)).join().unwrap();
                one.join().unwrap();
            });
        }
        let ((to_left, left), (to_right, right)) = (bounded(capacity), bounded(capacity));
        let one = plain_thread(move || cross(&to_left, &right));
        on(1, || cross(&to_right, &left));
        one.join().unwrap();
    }
}

#[test]
fn a_sender_and_a_receiver_that_select_at_the_same_moment_meet() {
    const ROUNDS: usize = 4_000;
    let give = |send: Sender<usize>| {
        for n in 0..ROUNDS {
            select! {
                send(send, n) -> sent => sent.unwrap(),
                recv(never::<u8>()) -> _ => unreachable!(),
            }
        }
    };
    let take = |receive: Receiver<usize>| {
        for n in 0..ROUNDS {
            select! {
                recv(never::<u8>()) -> _ => unreachable!(),
                recv(receive) -> got => assert_eq!(got, Ok(n)),
                default(LONG) => panic!("it missed {n}"),
            }
        }
    };
    let (send, receive) = bounded(0);
    let thread = plain_thread(move || give(send));
    take(receive);
    thread.join().unwrap();
    let (send, receive) = bounded(0);
    on(2, || {
        let pair = spawn_on_workers(move |worker| match worker {
            0 => give(send.clone()),
            _ => take(receive.clone()),
        });
        pair.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// The first channel's sender comes while the select queues on, the last one's before it gets there.
#[test]
fn a_select_that_is_served_while_it_queues_keeps_that_message() {
    const EACH: usize = 3_000;
    let (_kept, idle) = unbounded();
    let ((first_send, first), (last_send, last)) = (bounded(0), bounded(1));
    let senders = [
        plain_thread(move || {
            for n in 0..EACH {
                while first_send.try_send(n).is_err() {
                    thread::yield_now();
                }
            }
        }),
        plain_thread(move || {
            for n in 0..EACH {
                while last_send.try_send(n).is_err() {
                    thread::yield_now();
                }
            }
        }),
    ];
    let mut halves = vec![&idle; 66];
    (halves[0], halves[65]) = (&first, &last);
    let mut select = Select::new();
    for half in &halves {
        select.recv(half);
    }
    let mut got = [0; 66];
    while got[0] + got[65] < 2 * EACH {
        let selected = select.select_timeout(LONG).expect("no message is lost");
        let index = selected.index();
        match selected.recv(halves[index]) {
            Ok(n) => {
                assert_eq!(n, got[index]);
                got[index] += 1;
            }
            Err(_) => select.remove(index),
        }
    }
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
}

#[test]
fn every_selected_message_reaches_one_receiver_once() {
    const EACH: usize = 600;
    for capacity in [0, 1, 8] {
        let seen: Arc<Vec<AtomicUsize>> =
            Arc::new((0..5 * EACH).map(|_| AtomicUsize::new(0)).collect());
        let ((send_a, a), (send_b, b)) = (bounded(capacity), bounded(capacity));
        let give = move |from: usize| {
            for n in 0..EACH {
                let message = from * EACH + n;
                select! {
                    send(send_a, message) -> sent => sent.unwrap(),
                    send(send_b, message) -> sent => sent.unwrap(),
                }
            }
        };
        let take = {
            let seen = seen.clone();
            move |plainly: bool| {
                let (mut a, mut b) = (a.clone(), b.clone());
                let mut open = 2;
                while open > 0 {
                    let got = select! {
                        recv(a) -> got => got.inspect_err(|_| a = never()),
                        recv(b) -> got => got.inspect_err(|_| b = never()),
                    };
                    match got {
                        Ok(n) => _ = seen[n].fetch_add(1, SeqCst),
                        Err(error) => {
                            assert_eq!(error, RecvError::Disconnected);
                            open -= 1;
                        }
                    }
                    if plainly && let Ok(n) = a.try_recv() {
                        seen[n].fetch_add(1, SeqCst);
                    }
                }
            }
        };
        let (thread_give, thread_take) = (give.clone(), take.clone());
        let threads = [
            plain_thread(move || thread_give(4)),
            plain_thread(move || thread_take(true)),
        ];
        on(2, || {
            let takers: Vec<_> = (0..3)
                .map(|n| {
                    let take = take.clone();
                    spawn(move || take(n == 0))
                })
                .collect();
            let pinned = give.clone();
            let mut givers = spawn_on_workers(pinned);
            givers.extend((2..4).map(|from| {
                let give = give.clone();
                spawn(move || give(from))
            }));
            drop((give, take));
            givers.into_iter().for_each(|giver| giver.join().unwrap());
            takers.into_iter().for_each(|taker| taker.join().unwrap());
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

/// Go's `doubleselect`: a sender selects over copies of one channel, and no message may come twice.
#[test]
fn a_message_offered_in_several_cases_is_sent_once() {
    on(2, || {
        let (send, receive) = bounded(1);
        let sender = spawn(move || {
            for n in 0..1_000 {
                let mut select = Select::new();
                (0..4).for_each(|_| _ = select.send(&send, n));
                let selected = select.select().unwrap();
                selected.send(&send).unwrap();
            }
        });
        assert!(receive.into_iter().eq(0..1_000));
        sender.join().unwrap();
    });
}

/// Go's `select6`: a select that stands first in a queue and is served elsewhere leaves those behind it served.
#[test]
fn a_case_that_was_not_chosen_leaves_its_queue_in_order() {
    on(1, || {
        let ((done, finished), (send, receive)) = (bounded::<()>(0), bounded::<u8>(0));
        let first = receive.clone();
        let selecting = spawn(move || {
            select! {
                recv(first) -> _ => unreachable!("nothing is sent yet"),
                recv(finished) -> _ => {}
            }
        });
        yield_now();
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let receive = receive.clone();
                spawn(move || receive.recv())
            })
            .collect();
        yield_now();
        done.send(()).unwrap();
        // Still queued, but no longer to be had.
        (0..3).for_each(|n| send.send(n).unwrap());
        selecting.join().unwrap();
        for (n, taker) in takers.into_iter().enumerate() {
            assert_eq!(taker.join().unwrap(), Ok(n as u8));
        }
    });
}

/// Go's `select7`: a try in a select meets those who wait, plainly or in a select.
#[test]
fn a_select_that_does_not_wait_meets_those_who_do() {
    on(1, || {
        for selecting in [false, true] {
            let (send, receive) = bounded(0);
            let waiting = spawn(move || match selecting {
                false => receive.recv(),
                true => select! { recv(receive) -> got => got, recv(never()) -> got => got },
            });
            yield_now();
            select! { send(send, 1) -> sent => sent.unwrap(), default => unreachable!() }
            assert_eq!(waiting.join().unwrap(), Ok(1));
            let (send, receive) = bounded(0);
            let waiting = spawn(move || match selecting {
                false => send.send(2),
                true => select! { send(send, 2) -> sent => sent },
            });
            yield_now();
            select! { recv(receive) -> got => assert_eq!(got, Ok(2)), default => unreachable!() }
            waiting.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_message_is_dropped_once_whatever_becomes_of_its_case() {
    anywhere(|| {
        let message = Arc::new(());
        let ((send, receive), (full, kept)) = (bounded(1), bounded(1));
        full.send(message.clone()).unwrap();
        select! {
            send(full, message.clone()) -> _ => unreachable!("it is full"),
            send(send, message.clone()) -> sent => {
                sent.unwrap();
                assert_eq!(Arc::strong_count(&message), 3, "what was not sent is gone");
            }
        }
        let mut select = Select::new();
        select.recv(&receive);
        select.send(&full, message.clone());
        drop(select.select().unwrap());
        assert_eq!(
            Arc::strong_count(&message),
            3,
            "dropped with what was selected"
        );
        drop(select);
        assert_eq!(Arc::strong_count(&message), 2);
        let mut lent = Some(message.clone());
        select! {
            send(full, ref mut lent) -> _ => unreachable!("it is full"),
            default => assert!(lent.is_some(), "an unsent message stays where it was"),
        }
        kept.recv().unwrap();
        select! { send(full, ref mut lent) -> sent => sent.unwrap() }
        assert!(lent.is_none());
        select! {
            send(full, ref mut lent) -> _ => unreachable!("there is nothing to send"),
            default => {}
        }
        drop((full, kept));
        assert_eq!(Arc::strong_count(&message), 1);
    });
}

#[test]
fn bodies_may_leave_and_halves_may_be_any_expression() {
    fn first(receivers: &[Receiver<u8>]) -> Result<u8, RecvError> {
        loop {
            let (left, right) = (
                Box::new(receivers[0].clone()),
                Arc::new(receivers[1].clone()),
            );
            select! {
                recv(left) -> got => { let got = got?; if got > 1 { return Ok(got); } }
                recv(&*right) -> got => match got {
                    Ok(_) => continue,
                    Err(_) => break Err(RecvError::Disconnected),
                },
            }
        }
    }
    anywhere(|| {
        let ((send, receive), (_kept, idle)) = (unbounded(), unbounded());
        (1..4).for_each(|n| send.send(n).unwrap());
        assert_eq!(first(&[receive.clone(), idle.clone()]), Ok(2));
        drop(send);
        assert_eq!(first(&[idle, receive]), Err(RecvError::Disconnected));
    });
}

#[test]
fn two_cases_on_one_channel_that_wait_are_served_alike() {
    on(1, || {
        let (send, receive) = bounded(0);
        let sender = spawn(move || (0..1000).for_each(|n| send.send(n).unwrap()));
        let mut firsts = 0;
        for _ in 0..1000 {
            firsts += select! {
                recv(receive) -> _ => 1,
                recv(receive) -> _ => 0,
            };
        }
        sender.join().unwrap();
        assert!((300..700).contains(&firsts), "{firsts} of 1000");
    });
}

#[test]
fn a_biased_select_does_the_first_that_can_be_done() {
    anywhere(|| {
        let (send, receive) = unbounded();
        let (send_late, receive_late) = unbounded();
        for _ in 0..100 {
            send.send(1).unwrap();
            send_late.send(2).unwrap();
        }
        let (mut got, mut list) = (Vec::new(), Select::new_biased());
        list.recv(&receive);
        list.recv(&receive_late);
        for turn in 0..100 {
            got.push(match turn % 2 {
                0 => select_biased! {
                    recv(receive) -> message => message.unwrap(),
                    recv(receive_late) -> message => message.unwrap(),
                },
                _ => list.select().unwrap().recv(&receive).unwrap(),
            });
        }
        assert_eq!(got, [1; 100]);
        let late = select_biased! {
            recv(receive) -> _ => None,
            recv(receive_late) -> message => Some(message),
            default => None,
        };
        assert_eq!(late, Some(Ok(2)));
    });
}

#[test]
fn a_biased_select_that_waits_is_served_on_its_first_case() {
    on(1, || {
        let (send, receive) = bounded(0);
        let sender = spawn(move || (0..100).for_each(|n| send.send(n).unwrap()));
        for _ in 0..100 {
            let first = select_biased! {
                recv(receive) -> _ => true,
                recv(receive) -> _ => false,
            };
            assert!(first);
        }
        sender.join().unwrap();
    });
}

#[test]
fn halves_tell_whether_their_channel_is_full_and_the_same() {
    let (send, receive) = bounded(1);
    assert!(!send.is_full() && !receive.is_full());
    send.send(1).unwrap();
    assert!(send.is_full() && receive.is_full());
    let (other_send, other_receive) = bounded::<i32>(0);
    assert!(other_send.is_full(), "a send to it always waits");
    assert!(!unbounded::<i32>().0.is_full());
    assert!(send.same_channel(&send.clone()) && !send.same_channel(&other_send));
    assert!(receive.same_channel(&receive.clone()) && !receive.same_channel(&other_receive));
    let timer = after(LONG);
    assert!(timer.same_channel(&timer.clone()) && !timer.same_channel(&after(LONG)));
}

#[test]
fn halves_may_go_into_what_catches_panics() {
    let (send, receive) = bounded(1);
    let caught = std::panic::catch_unwind(|| {
        send.send(std::cell::Cell::new(1)).unwrap();
        receive.recv().unwrap().get()
    });
    assert_eq!(caught.unwrap(), 1);
}

#[test]
fn a_message_of_an_eighth_of_the_usual_stack_goes() {
    const LARGE: usize = 32 * 1024;
    #[inline(never)]
    fn sends(send: &Sender<[u8; LARGE]>, fill: u8) {
        send.send([fill; LARGE]).unwrap();
    }
    #[inline(never)]
    fn receives(receive: &Receiver<[u8; LARGE]>) -> u8 {
        let message = receive.recv().unwrap();
        message[usize::from(message[0])]
    }
    // Without optimisation each move takes the message's size once more, and so it does under AddressSanitizer.
    let is_large = cfg!(any(debug_assertions, feature = "sanitizer"));
    let stack = if is_large { 1024 } else { 256 } * 1024;
    for capacity in [0, 1] {
        on(1, move || {
            let (send, receive) = bounded(capacity);
            let small = || Builder::new().stack_size(stack);
            let sender = small().spawn(move || (0..5).for_each(|fill| sends(&send, fill)));
            let receiver =
                small().spawn(move || (0..5).map(|_| receives(&receive)).collect::<Vec<_>>());
            assert_eq!(receiver.unwrap().join().unwrap(), [0, 1, 2, 3, 4]);
            sender.unwrap().join().unwrap();
        });
    }
}

/// Looks at its channel when it is dropped, so that this may not be under the channel's lock.
struct Looks(Receiver<Looks>);

impl Drop for Looks {
    fn drop(&mut self) {
        _ = self.0.len();
    }
}

#[test]
fn what_was_selected_and_leaked_is_dropped_by_the_next_select_outside_of_the_channel() {
    let (done, is_done) = std::sync::mpsc::channel();
    // On a thread of its own, which a fault would have spin for ever.
    plain_thread(move || {
        let (send, receive) = unbounded();
        let mut select = Select::new();
        select.recv(&receive);
        let mut leak = |again: fn(&mut Select<'_>)| {
            send.send(Looks(receive.clone())).unwrap();
            let _leaked = ManuallyDrop::new(select.try_select().unwrap());
            send.send(Looks(receive.clone())).unwrap();
            again(&mut select);
        };
        leak(|select| drop(select.try_select().unwrap()));
        leak(|select| drop(select.select().unwrap()));
        leak(|select| drop(select.select_timeout(LONG).unwrap()));
        done.send(()).unwrap();
    });
    is_done
        .recv_timeout(LONG)
        .expect("nothing is dropped under the channel's lock");
}
