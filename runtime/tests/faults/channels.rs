//! Messages: each is received once or comes back, whatever is cut.

use std::time::Duration;

use maniple::{
    cancel::cancel_at,
    select,
    sync::{
        broadcast::{self, Lag},
        channel, oneshot, watch,
    },
    yield_now,
};

use super::{LONG, at_every_suspension};

/// So many in each scenario.
const MESSAGES: u32 = 6;

#[test]
fn a_message_is_received_once_or_comes_back() {
    let points = at_every_suspension(|after| {
        let (sender, receiver) = channel::bounded(0);
        let (mut sent, mut received) = (0, 0);
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                let sender = &sender;
                let sent = &mut sent;
                g.spawn(move || {
                    while *sent < 5 && sender.send(*sent).is_ok() {
                        *sent += 1;
                    }
                });
                while received < 5 {
                    match receiver.recv() {
                        Ok(message) => assert_eq!(message, received),
                        Err(_) => break,
                    }
                    received += 1;
                }
                Ok::<_, ()>(())
            })
        });
        assert_eq!(sent, received);
        assert!(struck || sent == 5);
        struck
    });
    assert!(points >= 5, "{points}");
}

#[test]
fn what_a_cut_receiver_leaves_another_receives() {
    for capacity in [0, 1, 3] {
        let points = at_every_suspension(|after| {
            let (sender, receiver) = channel::bounded(capacity);
            let (mut mine, mut theirs) = (Vec::new(), Vec::new());
            let struck = maniple::group(|g| {
                g.spawn(move || (0..MESSAGES).for_each(|n| sender.send(n).unwrap()));
                let rival = &mut theirs;
                let receiver = &receiver;
                g.spawn(move || {
                    for message in receiver {
                        rival.push(message);
                        yield_now();
                    }
                });
                let (_, struck) = cancel_at(after, || mine.extend(receiver.iter()));
                Ok::<_, ()>(struck)
            });
            assert!(mine.is_sorted() && theirs.is_sorted());
            mine.append(&mut theirs);
            mine.sort();
            assert_eq!(mine, Vec::from_iter(0..MESSAGES), "cut at {after}");
            struck.unwrap()
        });
        assert!(points >= 3, "{points}");
    }
}

#[test]
fn a_selection_that_is_cut_has_neither_received_nor_sent() {
    for capacity in [0, 1] {
        let points = at_every_suspension(|after| {
            let (first, second) = (channel::bounded(capacity), channel::bounded(capacity));
            let out = channel::bounded(capacity);
            let (mut odd, mut even, mut sent) = (Vec::new(), Vec::new(), 0);
            let (received, struck) = maniple::group(|g| {
                let (first_sender, second_sender) = (first.0, second.0);
                g.spawn(move || (0..MESSAGES).for_each(|n| first_sender.send(2 * n + 1).unwrap()));
                g.spawn(move || (0..MESSAGES).for_each(|n| second_sender.send(2 * n).unwrap()));
                let received = g.spawn(move || out.1.into_iter().collect::<Vec<u32>>());
                let out = out.0;
                let mut step = || {
                    select! {
                        recv(first.1) -> message => message.map(|message| odd.push(message)).is_ok(),
                        recv(second.1) -> message => message.map(|message| even.push(message)).is_ok(),
                        send(out, sent) -> result => result.map(|()| sent += 1).is_ok(),
                    }
                };
                let (_, struck) = cancel_at(after, || while step() {});
                // The rest comes as if nothing had been.
                odd.extend(&first.1);
                even.extend(&second.1);
                drop(out);
                Ok::<_, ()>((received.join().unwrap(), struck))
            })
            .unwrap();
            assert!(odd.into_iter().eq((0..MESSAGES).map(|n| 2 * n + 1)));
            assert!(even.into_iter().eq((0..MESSAGES).map(|n| 2 * n)));
            assert!(received.into_iter().eq(0..sent), "cut at {after}");
            struck
        });
        assert!(points >= 5, "{points}");
    }
}

#[test]
fn a_wait_for_readiness_that_is_cut_leaves_the_message_and_its_place() {
    for capacity in [0, 1] {
        let points = at_every_suspension(|after| {
            let (first, second) = (channel::bounded(capacity), channel::bounded(capacity));
            let receivers = [&first.1, &second.1];
            let (mut got, mut rivals) = (Vec::new(), Vec::new());
            let struck = maniple::group(|g| {
                for (n, sender) in [first.0, second.0].into_iter().enumerate() {
                    let n = n as u32;
                    g.spawn(move || (0..MESSAGES).for_each(|m| sender.send(2 * m + n).unwrap()));
                }
                let (rival, theirs) = (&first.1, &mut rivals);
                g.spawn(move || {
                    for message in rival {
                        theirs.push(message);
                        yield_now();
                    }
                });
                let mut select = channel::Select::new();
                for receiver in receivers {
                    select.recv(receiver);
                }
                let mut open = receivers.len();
                let mut take = || {
                    while open > 0
                        && let Ok(index) = select.ready()
                    {
                        match receivers[index].try_recv() {
                            Ok(message) => got.push(message),
                            Err(channel::TryRecvError::Empty) => {}
                            Err(channel::TryRecvError::Disconnected) => {
                                select.remove(index);
                                open -= 1;
                            }
                        }
                    }
                };
                let (_, struck) = cancel_at(after, &mut take);
                take();
                Ok::<_, ()>(struck)
            });
            got.append(&mut rivals);
            got.sort();
            assert!(got.into_iter().eq(0..2 * MESSAGES), "cut at {after}");
            struck.unwrap()
        });
        assert!(points >= 5, "{points}");
    }
}

#[test]
fn an_answer_whose_receiver_was_cut_is_still_there() {
    let points = at_every_suspension(|after| {
        let (answer, mut question) = oneshot::channel();
        let struck = maniple::group(|g| {
            let answering = g.spawn(move || {
                yield_now();
                answer.send(42).unwrap();
                yield_now();
            });
            let (heard, struck) = cancel_at(after, || question.recv_timeout(LONG));
            answering.join().unwrap();
            match heard {
                Ok(Ok(answer)) => assert_eq!(answer, 42),
                cut => {
                    assert_eq!(cut, Ok(Err(channel::RecvTimeoutError::Cancelled)));
                    assert_eq!(question.try_recv(), Ok(42));
                }
            }
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 2, "{points}");
}

#[test]
fn a_watcher_that_was_cut_still_sees_the_last_value() {
    let points = at_every_suspension(|after| {
        let (sender, mut receiver) = watch::channel(0);
        let mut seen = vec![0];
        let struck = maniple::group(|g| {
            let mut other = receiver.clone();
            g.spawn(move || {
                for n in 1..=MESSAGES {
                    sender.send(n).unwrap();
                    yield_now();
                }
            });
            let rival = g.spawn(move || *other.wait_for(|&n| n == MESSAGES).unwrap());
            let mut watch = || {
                while receiver.changed().is_ok() {
                    seen.push(*receiver.borrow_and_update());
                }
            };
            let (_, struck) = cancel_at(after, &mut watch);
            watch();
            assert_eq!(rival.join().unwrap(), MESSAGES);
            Ok::<_, ()>(struck)
        });
        assert!(seen.is_sorted_by(|a, b| a < b), "none twice: {seen:?}");
        assert_eq!(seen.last(), Some(&MESSAGES));
        struck.unwrap()
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn a_broadcast_reaches_each_once_though_one_is_cut() {
    let points = at_every_suspension(|after| {
        let (sender, mut receiver) = broadcast::channel(2, Lag::Block);
        let mut got = Vec::new();
        let struck = maniple::group(|g| {
            let mut other = sender.subscribe();
            g.spawn(move || (0..MESSAGES).for_each(|n| sender.send(n).unwrap()));
            let rival = g.spawn(move || Vec::from_iter(std::iter::from_fn(|| other.recv().ok())));
            let mut receive = || got.extend(std::iter::from_fn(|| receiver.recv().ok()));
            let (_, struck) = cancel_at(after, &mut receive);
            receive();
            assert!(rival.join().unwrap().into_iter().eq(0..MESSAGES));
            Ok::<_, ()>(struck)
        });
        assert!(got.into_iter().eq(0..MESSAGES), "cut at {after}");
        struck.unwrap()
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn a_broadcast_that_was_cut_reaches_nobody() {
    let points = at_every_suspension(|after| {
        let (sender, receiver) = broadcast::channel(1, Lag::Block);
        let mut sent = 0;
        let struck = maniple::group(|g| {
            let receivers = [receiver, sender.subscribe()].map(|mut receiver| {
                g.spawn(move || Vec::from_iter(std::iter::from_fn(|| receiver.recv().ok())))
            });
            let (_, struck) = cancel_at(after, || {
                while sent < MESSAGES && sender.send(sent).is_ok() {
                    sent += 1;
                }
            });
            // It works on, and the next message follows the last that was sent.
            sender.send(sent).unwrap();
            drop(sender);
            for receiver in receivers {
                assert!(receiver.join().unwrap().into_iter().eq(0..=sent));
            }
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn the_clock_sends_what_it_owes_though_the_wait_for_it_was_cut() {
    let points = at_every_suspension(|after| {
        let due = channel::after(Duration::from_micros(100));
        let ticks = channel::tick(Duration::from_micros(100));
        let mut ticked = Vec::new();
        let (heard, struck) = cancel_at(after, || {
            ticked.extend(ticks.iter().take(3));
            due.recv()
        });
        if !matches!(heard, Ok(Ok(_))) {
            assert!(due.recv_timeout(LONG).is_ok());
        }
        assert!(due.try_recv().is_err(), "it is sent once");
        ticked.push(ticks.recv().unwrap());
        assert!(ticked.is_sorted_by(|a, b| a < b));
        struck
    });
    assert!(points >= 3, "{points}");
}
