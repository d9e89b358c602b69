//! A hub delivers to all in one order, and treats each laggard as it chose.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use maniple::{cancel::CancelToken, sync::channel::unbounded, yield_now};
use maniple_parts::hub::{Hub, Lag, Member, PublishError, RecvError, SubscribeError};

use super::{on, turn};

const ALL: [Lag; 3] = [Lag::Wait, Lag::DropOldest, Lag::Disconnect];

fn hub(queue: usize) -> Hub<u32> {
    Hub::builder("tested").queue(queue).build().unwrap()
}

fn rest(member: &mut Member<u32>) -> Vec<(u64, u32)> {
    let next = || member.try_recv().unwrap();
    let all = std::iter::from_fn(next).map(|received| (received.dropped, received.message));
    all.collect()
}

#[test]
fn all_members_get_all_messages_in_one_order() {
    for workers in [1, 2] {
        on(workers, || {
            let hub = hub(1000);
            let members: Vec<_> = ALL
                .iter()
                .chain(&ALL)
                .map(|&lag| hub.subscribe("t", lag).unwrap())
                .collect();
            let publishers: Vec<_> = (0..4)
                .map(|k| {
                    let hub = hub.clone();
                    maniple::spawn(move || {
                        for n in 0..50 {
                            assert_eq!(hub.publish("t", k * 50 + n), Ok(6));
                        }
                    })
                })
                .collect();
            publishers.into_iter().for_each(|p| p.join().unwrap());
            let mut seen = members.into_iter().map(|mut member| rest(&mut member));
            let first = seen.next().unwrap();
            assert_eq!(first.len(), 200);
            assert!(seen.all(|other| other == first));
        });
    }
}

#[test]
fn a_publisher_waits_for_a_member_that_is_waited_for() {
    on(1, || {
        let hub = hub(1);
        let mut member = hub.subscribe("t", Lag::Wait).unwrap();
        let publisher = maniple::spawn({
            let hub = hub.clone();
            move || (0..20).map(|n| hub.publish("t", n).unwrap()).sum::<usize>()
        });
        for n in 0..20 {
            assert_eq!(member.recv().unwrap().message, n);
        }
        assert_eq!(publisher.join().unwrap(), 20);
    });
}

#[test]
fn a_publisher_that_is_cut_short_has_reached_nobody() {
    on(1, || {
        let hub = hub(1);
        let slow = hub.subscribe("t", Lag::Wait).unwrap();
        let mut others = [Lag::DropOldest, Lag::Disconnect].map(|lag| hub.subscribe("t", lag));
        assert_eq!(hub.publish("t", 0), Ok(3));
        let late = maniple::timeout(Duration::from_millis(5), || hub.publish("t", 1));
        let late = late.unwrap().unwrap_err();
        assert!(matches!(late, PublishError::Elapsed { .. }));
        assert!(late.to_string().contains("`t` of hub `tested`"), "{late}");
        // One waits for the member, the other for its turn.
        let token = CancelToken::new();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let (hub, token) = (hub.clone(), token.clone());
                maniple::spawn(move || token.run(|| hub.publish("t", 2)))
            })
            .collect();
        (0..10).for_each(|_| yield_now());
        token.cancel();
        for publisher in waiting {
            let cut = publisher.join().unwrap().unwrap();
            assert!(matches!(cut, Err(PublishError::Cancelled { .. })));
        }
        for other in &mut others {
            assert_eq!(rest(other.as_mut().unwrap()), [(0, 0)]);
        }
        drop(slow);
        assert_eq!(hub.publish("t", 3), Ok(2), "the turn was given back");
    });
}

#[test]
fn a_member_that_leaves_lets_the_publisher_go_on() {
    on(1, || {
        let hub = hub(1);
        let slow = hub.subscribe("t", Lag::Wait).unwrap();
        hub.publish("t", 0).unwrap();
        let publisher = maniple::spawn({
            let hub = hub.clone();
            move || hub.publish("t", 1)
        });
        yield_now();
        assert!(!publisher.is_finished());
        drop(slow);
        assert_eq!(publisher.join().unwrap(), Ok(0));
        assert_eq!(hub.stats().topics, 0);
    });
}

#[test]
fn a_member_is_told_once_how_many_messages_were_dropped() {
    let hub = hub(2);
    let mut slow = hub.subscribe("t", Lag::DropOldest).unwrap();
    let mut quick = hub.subscribe("t", Lag::DropOldest).unwrap();
    for n in 0..5 {
        hub.publish("t", n).unwrap();
        assert_eq!(rest(&mut quick), [(0, n)]);
    }
    assert_eq!(rest(&mut slow), [(3, 3), (0, 4)]);
    assert_eq!(hub.stats().dropped, 3);
}

#[test]
fn what_was_dropped_is_told_though_the_wait_in_between_is_cut() {
    let hub = hub(1);
    let mut member = hub.subscribe("t", Lag::DropOldest).unwrap();
    (0..3).for_each(|n| assert_eq!(hub.publish("t", n), Ok(1)));
    let token = CancelToken::new();
    token.cancel();
    let cut = token.run(|| member.recv()).unwrap();
    assert!(matches!(cut, Err(RecvError::Cancelled { .. })));
    assert_eq!(rest(&mut member), [(2, 2)]);
}

#[test]
fn a_laggard_is_disconnected_and_the_others_stay() {
    let hub = hub(2);
    let mut slow = hub.subscribe("t", Lag::Disconnect).unwrap();
    let mut quick = hub.subscribe("t", Lag::Disconnect).unwrap();
    for n in 0..3 {
        hub.publish("t", n).unwrap();
        rest(&mut quick);
    }
    assert_eq!(hub.members("t"), 1);
    for _ in 0..2 {
        assert!(matches!(slow.recv(), Err(RecvError::Disconnected { .. })));
    }
    assert_eq!(hub.stats().disconnected, 1);
    drop(quick);
    drop(slow);
    assert_eq!(hub.stats().topics, 0);
}

#[test]
fn a_topic_is_forgotten_with_its_last_member_even_one_that_never_notices() {
    let hub = hub(1);
    let gone = hub.subscribe("t", Lag::Disconnect).unwrap();
    assert_eq!(hub.publish("t", 0), Ok(1));
    assert_eq!(hub.publish("t", 1), Ok(0));
    assert_eq!(hub.stats().topics, 0);
    let mut later = hub.subscribe("t", Lag::Wait).unwrap();
    drop(gone);
    assert_eq!(hub.publish("t", 2), Ok(1), "of the same name, not the same");
    assert_eq!(rest(&mut later), [(0, 2)]);
}

#[test]
fn limits_are_errors_that_name_the_hub() {
    let builder = Hub::builder("small").max_topics(1).max_members(1);
    let hub: Hub<u32> = builder.build().unwrap();
    let member = hub.subscribe("t", Lag::Wait).unwrap();
    let members = hub.subscribe("t", Lag::Wait).unwrap_err();
    assert!(matches!(members, SubscribeError::TooManyMembers { .. }));
    let topics = hub.subscribe("u", Lag::Wait).unwrap_err();
    assert!(matches!(topics, SubscribeError::TooManyTopics { .. }));
    let name = hub.subscribe(&"n".repeat(257), Lag::Wait).unwrap_err();
    assert!(matches!(name, SubscribeError::NameTooLong { .. }));
    for error in [members, topics, name] {
        assert!(error.to_string().contains("`small`"), "{error}");
    }
    drop(member);
    hub.subscribe("u", Lag::Wait).unwrap();
    assert!(Hub::builder("none").queue(0).build::<u32>().is_err());
}

#[test]
fn a_closed_hub_lets_its_members_drain() {
    let hub = hub(4);
    let mut member = hub.subscribe("t", Lag::Wait).unwrap();
    hub.publish("t", 7).unwrap();
    hub.close();
    let published = hub.publish("t", 8);
    assert!(matches!(published, Err(PublishError::Closed { .. })));
    let subscribed = hub.subscribe("t", Lag::Wait);
    assert!(matches!(subscribed, Err(SubscribeError::Closed { .. })));
    assert_eq!(member.recv().unwrap().message, 7);
    assert!(matches!(member.recv(), Err(RecvError::Closed { .. })));
}

#[test]
fn dropping_the_last_handle_closes_it() {
    on(1, || {
        let hub = hub(4);
        let mut member = hub.subscribe("t", Lag::Wait).unwrap();
        let waiting = maniple::spawn(move || member.recv());
        yield_now();
        drop(hub);
        assert!(matches!(
            waiting.join().unwrap(),
            Err(RecvError::Closed { .. })
        ));
    });
}

#[test]
fn cancelling_publishers_at_any_moment_keeps_all_members_alike() {
    for workers in [1, 2] {
        on(workers, || {
            let hub: Hub<Arc<u32>> = Hub::builder("tested").queue(2).build().unwrap();
            let (tell, told) = unbounded();
            for _ in 0..3 {
                let (mut member, tell) = (hub.subscribe("t", Lag::Wait).unwrap(), tell.clone());
                maniple::spawn(move || {
                    let next = || member.recv().ok().map(|received| *received.message);
                    tell.send(std::iter::from_fn(next).collect::<Vec<_>>())
                });
            }
            let mut published = 0;
            for round in 0..200_u32 {
                let (token, hub) = (CancelToken::new(), hub.clone());
                let publisher = maniple::spawn({
                    let token = token.clone();
                    move || {
                        let publish = |n| hub.publish("t", Arc::new(round * 5 + n)).is_ok();
                        let all = || (0..5).filter(|&n: &u32| publish(n)).count();
                        token.run(all).unwrap()
                    }
                });
                (0..round % 15).for_each(|_| yield_now());
                token.cancel();
                published += publisher.join().unwrap();
            }
            drop(hub);
            let first = told.recv().unwrap();
            assert_eq!(first.len(), published);
            assert_eq!(told.recv().unwrap(), first);
            assert_eq!(told.recv().unwrap(), first);
        });
    }
}

/// Panics when it is dropped, or cloned, as it is told.
struct Bomb {
    number: u32,
    on_drop: bool,
    on_clone: bool,
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        assert!(!self.on_clone, "intended");
        Self { ..*self }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        let on_drop = self.on_drop && !std::thread::panicking();
        assert!(!on_drop, "intended");
    }
}

#[test]
fn a_message_that_panics_when_dropped_keeps_all_members_alike() {
    let hub = Hub::builder("tested").queue(1).build().unwrap();
    let publish = |number, on_drop, on_clone| {
        let bomb = Bomb {
            number,
            on_drop,
            on_clone,
        };
        catch_unwind(AssertUnwindSafe(|| hub.publish("t", bomb).unwrap()))
    };
    let mut behind = hub.subscribe("t", Lag::DropOldest).unwrap();
    assert_eq!(publish(0, true, false).ok(), Some(1));
    let mut quick = hub.subscribe("t", Lag::Disconnect).unwrap();
    // It drops what the one behind has not read.
    assert!(publish(1, false, false).is_err());
    assert_eq!(behind.recv().ok().unwrap().message.number, 1);
    assert_eq!(
        quick
            .try_recv()
            .ok()
            .flatten()
            .map(|got| got.message.number),
        Some(1)
    );
    assert_eq!(hub.stats().published, 2);
    // To nobody, and the next has its turn.
    assert!(publish(2, false, true).is_err());
    assert_eq!(publish(3, false, false).ok(), Some(2));
    assert_eq!(behind.recv().ok().unwrap().message.number, 3);
    assert_eq!(quick.recv().ok().unwrap().message.number, 3);
    drop((behind, quick));
    let behind = hub.subscribe("t", Lag::DropOldest).unwrap();
    assert_eq!(publish(4, true, false).ok(), Some(1));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(behind))).is_err());
    assert_eq!(hub.stats().topics, 0);
}

#[test]
fn plain_threads_wait_for_their_turn_and_for_members() {
    let hub = hub(1);
    let mut members = [(); 2].map(|()| hub.subscribe("t", Lag::Wait).unwrap());
    let publishers: Vec<_> = (0..3_u32)
        .map(|k| {
            let hub = hub.clone();
            std::thread::spawn(move || {
                let publish = |n| assert_eq!(hub.publish("t", k * 100 + n), Ok(2));
                (0..100).for_each(publish);
            })
        })
        .collect();
    for _ in 0..300 {
        let heard = members
            .each_mut()
            .map(|member| member.recv().unwrap().message);
        assert_eq!(heard[0], heard[1]);
    }
    publishers.into_iter().for_each(|p| p.join().unwrap());
    assert!(members.iter().all(Member::is_empty));
}

/// Until so many coroutines of this runtime wait to receive.
fn wait_for_receivers(count: usize) {
    let over = maniple::time::now() + Duration::from_secs(30);
    let waiting = || {
        let snapshot = maniple::inspect::snapshot();
        let reasons = snapshot
            .coroutines()
            .filter_map(|coroutine| coroutine.waits_for());
        reasons.filter(|reason| reason == "channel receive").count()
    };
    while waiting() < count {
        assert!(maniple::time::now() < over, "{} wait", waiting());
        turn();
    }
}

#[test]
fn members_that_wait_have_their_turn_before_they_are_judged() {
    for workers in [1, 2] {
        for lag in ALL {
            on(workers, || {
                let hub = hub(64);
                let members: Vec<_> = (0..20)
                    .map(|_| {
                        let mut member = hub.subscribe("t", lag).unwrap();
                        maniple::spawn(move || {
                            let all = std::iter::from_fn(|| member.recv().ok());
                            all.map(|received| (received.dropped, received.message))
                                .collect::<Vec<_>>()
                        })
                    })
                    .collect();
                wait_for_receivers(20);
                for n in 0..65 {
                    assert_eq!(hub.publish("t", n), Ok(20));
                }
                hub.close();
                for member in members {
                    let expected: Vec<_> = (0..65).map(|n| (0, n)).collect();
                    assert_eq!(member.join().unwrap(), expected, "{lag:?}");
                }
            });
        }
    }
}

#[test]
fn who_does_not_wait_is_judged_at_once_though_another_waits() {
    on(1, || {
        let hub = hub(2);
        let mut lazy = hub.subscribe("t", Lag::Disconnect).unwrap();
        let mut keen = hub.subscribe("t", Lag::Disconnect).unwrap();
        let keen = maniple::spawn(move || {
            let all = std::iter::from_fn(|| keen.recv().ok());
            all.map(|received| received.message).collect::<Vec<_>>()
        });
        wait_for_receivers(1);
        let reached: Vec<_> = (0..5).map(|n| hub.publish("t", n).unwrap()).collect();
        assert_eq!(reached, [2, 2, 1, 1, 1]);
        assert!(matches!(lazy.recv(), Err(RecvError::Disconnected { .. })));
        hub.close();
        assert_eq!(keen.join().unwrap(), [0, 1, 2, 3, 4]);
    });
}
