//! Clients and servers in simulated worlds.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use maniple::sim;
use maniple_rpc::{Call, Caller, Channel, Code, Replies, Server, Service, Status, channel};

/// How often each text was carried out.
type Done = Arc<Mutex<HashMap<String, u32>>>;

fn host(done: Done) -> impl Fn() + Send + Sync + 'static {
    move || {
        let done = done.clone();
        let service = Service::new("t.T")
            .unary("Do", move |_: &mut Call, text: String| {
                *done.lock().unwrap().entry(text.clone()).or_default() += 1;
                maniple::sleep(Duration::from_millis(2));
                Ok::<_, Status>(text)
            })
            .server_streaming(
                "Repeat",
                |_: &mut Call, times: u64, replies: &mut Replies<'_, u64>| {
                    (0..times).try_for_each(|number| replies.send(&number))
                },
            );
        let server = Server::builder()
            .service(service)
            .heartbeat(Duration::from_millis(200))
            .bind("0.0.0.0:7")
            .unwrap();
        // A world that ends cuts it short.
        _ = server.serve();
    }
}

fn channel(servers: &[&str]) -> channel::Builder {
    let mut builder =
        Channel::builder(format!("{}:7", servers[0])).heartbeat(Duration::from_millis(200));
    for server in &servers[1..] {
        builder = builder.or(format!("{server}:7"));
    }
    builder
        .connect_timeout(Duration::from_secs(2))
        .max_repeats(100)
}

const DO: &str = "/t.T/Do";
const LONG: Duration = Duration::from_secs(120);

#[test]
fn calls_that_may_be_repeated_survive_the_crashes_of_their_servers() {
    sim::check(sim::seeds(200), |world| {
        let hosts = ["one", "two"].map(|name| world.host(name, host(Done::default())));
        for name in ["one", "two"] {
            let milli = Duration::from_millis(1);
            world.link("scenario", name).latency(milli..5 * milli);
        }
        world.settle();
        let channel = channel(&["one", "two"]).open().unwrap();
        let caller = Caller::new(channel).idempotent(true);
        maniple::group(|g| {
            for number in 0..4 {
                let caller = &caller;
                g.spawn(move || {
                    for turn in 0..25 {
                        let text = format!("{number} in {turn}");
                        let asked = || caller.unary::<String, String>(DO, &text);
                        let reply = maniple::timeout(LONG, asked).unwrap().unwrap();
                        assert_eq!(*reply, text);
                    }
                });
            }
            for _ in 0..3 {
                maniple::sleep(Duration::from_millis(world.draw(1..60)));
                let host = &hosts[world.draw(0..2) as usize];
                host.crash();
                maniple::sleep(Duration::from_millis(world.draw(1..400)));
                host.restart();
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}

#[test]
fn what_may_not_be_repeated_is_carried_out_once_at_most_and_its_error_tells() {
    sim::check(sim::seeds(200), |world| {
        let done = Done::default();
        let server = world.host("server", host(done.clone()));
        let milli = Duration::from_millis(1);
        world.link("scenario", "server").latency(milli..5 * milli);
        world.settle();
        let caller = Caller::new(channel(&["server"]).open().unwrap());
        maniple::group(|g| {
            for number in 0..4 {
                let (caller, done) = (&caller, &done);
                g.spawn(move || {
                    for turn in 0..20 {
                        let text = format!("{number} in {turn}");
                        let asked = || caller.unary::<String, String>(DO, &text);
                        let replied = maniple::timeout(LONG, asked).unwrap();
                        let times = done.lock().unwrap().get(&text).copied().unwrap_or(0);
                        match replied {
                            Ok(reply) => assert_eq!((&*reply, times), (&text, 1)),
                            Err(status) if status.may_have_been_executed() => {
                                sim::sometimes!(times == 1);
                                assert!(times <= 1);
                            }
                            Err(status) => assert_eq!(times, 0, "{status}"),
                        }
                    }
                });
            }
            for _ in 0..3 {
                maniple::sleep(Duration::from_millis(world.draw(1..60)));
                server.crash();
                maniple::sleep(Duration::from_millis(world.draw(1..300)));
                server.restart();
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}

#[test]
fn a_host_that_is_cut_off_is_noticed_within_three_heartbeats() {
    sim::check(sim::seeds(200), |world| {
        let _hosts = ["one", "two"].map(|name| world.host(name, host(Done::default())));
        world.settle();
        let caller = Caller::new(channel(&["one", "two"]).open().unwrap()).idempotent(true);
        caller.unary::<String, String>(DO, &String::new()).unwrap();
        maniple::sleep(Duration::from_millis(world.draw(0..500)));
        let cut = world.partition(&["one"], &["scenario"]);
        let began = world.now();
        caller.unary::<String, String>(DO, &String::new()).unwrap();
        let took = world.now() - began;
        assert!(took < Duration::from_millis(900), "{took:?}");
        cut.heal();
    });
}

#[test]
fn a_stream_over_a_bad_link_is_whole_or_ends_with_an_error() {
    sim::check(sim::seeds(100), |world| {
        let _server = world.host("server", host(Done::default()));
        let milli = Duration::from_millis(1);
        world
            .link("scenario", "server")
            .latency(milli..20 * milli)
            .loss(0.02)
            .resets(0.002);
        world.settle();
        let caller = Caller::new(channel(&["server"]).window_bytes(5_000).open().unwrap());
        for _ in 0..5 {
            let mut next = 0;
            let replies = maniple::timeout(LONG, || {
                let replies = caller.server_streaming::<u64, u64>("/t.T/Repeat", &500)?;
                for reply in replies {
                    assert_eq!(reply?, next);
                    next += 1;
                }
                Ok::<_, Status>(())
            });
            match replies.unwrap() {
                Ok(()) => assert_eq!(next, 500),
                Err(_) => assert!(next <= 500),
            }
        }
    });
}

#[test]
fn a_call_that_is_cut_short_anywhere_leaves_the_answers_of_others_to_them() {
    sim::check(sim::seeds(200), |world| {
        let done = Done::default();
        let _server = world.host("server", host(done.clone()));
        let milli = Duration::from_millis(1);
        world.link("scenario", "server").latency(milli..5 * milli);
        world.settle();
        let channel = channel(&["server"]).window_bytes(5_000).open().unwrap();
        let caller = Caller::new(channel);
        let stream = |times: u64| {
            let mut next = 0;
            let ended = sim::cut(|| {
                for reply in caller.server_streaming::<u64, u64>("/t.T/Repeat", &times)? {
                    sim::always!(reply? == next);
                    next += 1;
                }
                sim::always!(next == times, "{next} of {times} look like all");
                Ok::<_, Status>(())
            });
            sim::sometimes!(matches!(ended, Ok(Ok(()))));
            sim::sometimes!(!matches!(ended, Ok(Ok(()))) && next > 0);
        };
        maniple::group(|g| {
            for number in 0..4 {
                let (caller, done, stream) = (&caller, &done, &stream);
                g.spawn(move || {
                    for turn in 0..10 {
                        let text = format!("{number} in {turn}");
                        let replied = sim::cut(|| caller.unary::<String, String>(DO, &text));
                        match replied {
                            Ok(Ok(reply)) => sim::always!(*reply == text, "{reply:?} for {text}"),
                            Ok(Err(status)) => {
                                sim::always!(status.code() == Code::Cancelled, "{status}");
                            }
                            Err(_) => {}
                        }
                        let times = done.lock().unwrap().get(&text).copied().unwrap_or(0);
                        sim::always!(times <= 1, "{text} was carried out {times} times");
                        stream(number * 50);
                    }
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        // What was cut short holds up nobody who comes later.
        let began = world.now();
        maniple::group::map(20, 0..20, |number| {
            let text = format!("later {number}");
            assert_eq!(*caller.unary::<String, String>(DO, &text).unwrap(), text);
        });
        let took = world.now() - began;
        assert!(took < Duration::from_millis(100), "{took:?}");
    });
}

#[test]
fn what_a_stream_has_sent_and_nobody_read_is_within_its_window_at_any_moment() {
    const WINDOW: u32 = 5_000;
    // What a message counts at least, though it is smaller.
    const LEAST: u32 = 64;
    sim::check(sim::seeds(100), |world| {
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let _server = world.host("server", move || {
            let counted = counted.clone();
            let service = Service::new("t.F").server_streaming(
                "Flood",
                move |_: &mut Call, times: u64, replies: &mut Replies<'_, u64>| {
                    (0..times).try_for_each(|number| {
                        replies.send(&number)?;
                        counted.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    })
                },
            );
            let server = Server::builder().service(service);
            // A world that ends cuts it short.
            _ = server.bind("0.0.0.0:7").unwrap().serve();
        });
        world.settle();
        let caller = Caller::new(channel(&["server"]).window_bytes(WINDOW).open().unwrap());
        let flood = caller.server_streaming::<u64, u64>("/t.F/Flood", &500);
        let most = u64::from(WINDOW.div_ceil(LEAST));
        for (read, reply) in flood.unwrap().enumerate() {
            reply.unwrap();
            let unread = sent.load(Ordering::Relaxed).saturating_sub(read as u64);
            sim::always!(unread <= most + 1, "{unread} of {most} that may wait");
            sim::sometimes!(unread >= most);
            maniple::sleep(Duration::from_micros(world.draw(0..3_000)));
        }
    });
}
