//! A hub whose members fall behind, leave and are cut short while several publish.

use std::{sync::Mutex, time::Duration};

use maniple::sim::{self, World};
use maniple_parts::hub::{Hub, Lag, RecvError};

const QUEUE: usize = 4;

/// Publisher and number.
type Message = (u64, u64);

/// What one member has heard, and how many it was told that it missed.
#[derive(Debug, Default)]
struct Heard {
    messages: Vec<Message>,
    missed: u64,
    disconnected: bool,
}

fn listen(world: &World, hub: &Hub<Message>, lag: Lag, heard: &Mutex<Heard>) {
    let mut member = hub.subscribe("news", lag).unwrap();
    loop {
        // Cut short now and then, which is to lose nothing.
        let patience = Duration::from_micros(world.draw(1..300));
        let received = maniple::timeout(patience, || member.recv());
        sim::always!(member.len() <= QUEUE, "{} wait", member.len());
        let mut heard = heard.lock().unwrap();
        match received {
            Ok(Ok(received)) => {
                heard.missed += received.dropped;
                heard.messages.push(received.message);
            }
            Err(_) | Ok(Err(RecvError::Elapsed { .. })) => {}
            Ok(Err(RecvError::Disconnected { .. })) => {
                heard.disconnected = true;
                return;
            }
            Ok(Err(_)) => return,
        }
        drop(heard);
        maniple::sleep(Duration::from_micros(world.draw(0..40)));
    }
}

/// In the order of the one who heard everything: where each message stands.
fn places(all: &[Message], heard: &Heard) -> Vec<usize> {
    let place = |message| all.iter().position(|other| other == message);
    let places = heard.messages.iter().map(place);
    places
        .map(|place| place.expect("it was published"))
        .collect()
}

#[test]
fn members_hear_one_order_and_each_message_or_that_it_was_missed() {
    sim::check(sim::seeds(200), |world| {
        let hub: Hub<Message> = Hub::builder("tested").queue(QUEUE).build().unwrap();
        let lags = [Lag::Wait, Lag::Wait, Lag::DropOldest, Lag::Disconnect];
        let heard = lags.map(|_| Mutex::new(Heard::default()));
        let published = Mutex::new(0);
        maniple::group(|g| {
            for (lag, heard) in lags.into_iter().zip(&heard) {
                let hub = hub.clone();
                g.spawn(move || listen(world, &hub, lag, heard));
            }
            world.settle();
            maniple::group(|g| {
                for publisher in 0..2 {
                    let (hub, published) = (&hub, &published);
                    g.spawn(move || {
                        for number in 0..10 {
                            maniple::sleep(Duration::from_micros(world.draw(0..30)));
                            hub.publish("news", (publisher, number)).unwrap();
                            *published.lock().unwrap() += 1;
                        }
                    });
                }
                Ok::<_, ()>(())
            })
            .unwrap();
            hub.close();
            Ok::<_, ()>(())
        })
        .unwrap();
        let heard = heard.map(|heard| heard.into_inner().unwrap());
        let [all, other, dropping, disconnecting] = &heard;
        assert_eq!(all.messages.len(), published.into_inner().unwrap());
        assert_eq!(all.messages, other.messages, "those that are waited for");
        for publisher in 0..2 {
            let own = all.messages.iter().filter(|(from, _)| *from == publisher);
            assert!(own.map(|(_, number)| *number).eq(0..10), "{all:?}");
        }
        for heard in [dropping, disconnecting] {
            let places = places(&all.messages, heard);
            assert!(places.is_sorted(), "{places:?}");
        }
        let told = dropping.messages.len() as u64 + dropping.missed;
        assert_eq!(told, all.messages.len() as u64, "{dropping:?}");
        let places = places(&all.messages, disconnecting);
        assert!(places.iter().copied().eq(0..places.len()), "{places:?}");
        assert_eq!(
            disconnecting.disconnected,
            places.len() < all.messages.len()
        );
        sim::sometimes!(dropping.missed > 0);
        sim::sometimes!(disconnecting.disconnected);
        sim::sometimes!(!disconnecting.disconnected);
    });
}

#[test]
fn a_publisher_that_is_cut_has_reached_nobody_and_one_that_is_not_has_reached_all() {
    sim::check(sim::seeds(200), |world| {
        let hub: Hub<Message> = Hub::builder("tested").queue(1).build().unwrap();
        let mut members = [(); 2].map(|()| hub.subscribe("news", Lag::Wait).unwrap());
        let (told, heard) = maniple::join!(
            {
                let mut told = Vec::new();
                for number in 0..10 {
                    let patience = Duration::from_micros(world.draw(1..60));
                    let cut = maniple::timeout(patience, || hub.publish("news", (0, number)));
                    if let Ok(Ok(reached)) = cut {
                        assert_eq!(reached, 2);
                        told.push((0, number));
                    }
                }
                hub.close();
                told
            },
            maniple::group::map(2, &mut members, |member| {
                let mut heard = Vec::new();
                while let Ok(received) = member.recv() {
                    heard.push(received.message);
                    maniple::sleep(Duration::from_micros(world.draw(0..50)));
                }
                heard
            })
        );
        assert_eq!(heard, [told.clone(), told.clone()]);
        sim::sometimes!(told.len() == 10);
        sim::sometimes!(told.len() < 10);
    });
}

/// In a world a publisher and a member that fell behind are slow on purpose, in the midst of it.
#[test]
fn who_is_slow_between_two_steps_of_a_hub_loses_no_count() {
    sim::check(sim::seeds(100), |world| {
        let hub: Hub<Message> = Hub::builder("tested").queue(QUEUE).build().unwrap();
        let mut member = hub.subscribe("news", Lag::DropOldest).unwrap();
        let published = || {
            let began = world.now();
            for number in 0..20 {
                hub.publish("news", (0, number)).unwrap();
            }
            world.now() - began
        };
        // Nothing else takes time.
        sim::sometimes!(!published().is_zero());
        let began = world.now();
        let (mut messages, mut missed) = (0, 0);
        while let Ok(Some(received)) = member.try_recv() {
            (messages, missed) = (messages + 1, missed + received.dropped);
            sim::always!(member.len() < QUEUE, "{} wait", member.len());
        }
        sim::sometimes!(world.now() > began);
        assert_eq!((messages, missed), (QUEUE as u64, 20 - QUEUE as u64));
    });
}

/// Keys of a `HashMap` differ from map to map, so what went by its order would be another trace.
#[test]
fn the_same_seed_closes_a_hub_of_many_topics_in_the_same_order() {
    let closed = |seed| {
        let run = sim::run(seed, |world| {
            let hub: Hub<Message> = Hub::builder("tested").build().unwrap();
            maniple::group(|g| {
                for number in 0..20 {
                    let hub = hub.clone();
                    g.spawn(move || {
                        let topic = format!("topic {number}");
                        let mut member = hub.subscribe(&topic, Lag::Wait).unwrap();
                        while member.recv().is_ok() {}
                        world.note(topic);
                        maniple::sleep(Duration::from_micros(number));
                    });
                }
                world.settle();
                hub.close();
                Ok::<_, ()>(())
            })
            .unwrap();
        });
        run.unwrap().trace()
    };
    for seed in 0..5 {
        assert_eq!(closed(seed), closed(seed), "seed {seed}");
    }
}
