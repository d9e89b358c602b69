//! gRPC, and so HTTP/2, over links that are far, lose, reset and are cut, to a server that crashes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::sim::{self, World};
use maniple_grpc::{Call, Caller, Channel, Code, Service, Status, server::Replies};
use maniple_server::{Server, ServerHandle};

const MILLI: Duration = Duration::from_millis(1);

/// What the server did, and those of its runs that there were.
#[derive(Default)]
struct Done {
    /// What a service notes: apart from the runs, which would hold themselves by it.
    echoed: Arc<Mutex<BTreeSet<u64>>>,
    runs: Mutex<Vec<ServerHandle>>,
}

fn pause(world: &World, most: u64) {
    maniple::sleep(Duration::from_micros(world.draw(0..most)));
}

fn serve(world: &World, done: &Arc<Done>) {
    let (own, theirs) = (world.clone(), done.echoed.clone());
    let service = Service::new("test.Numbers").unary("Echo", move |_: &mut Call, number: u64| {
        pause(&own, 3000);
        theirs.lock().unwrap().insert(number);
        Ok(number)
    });
    let own = world.clone();
    let service = service.server_streaming(
        "Count",
        move |_: &mut Call, number: u64, replies: &mut Replies<'_, '_, u64>| {
            for each in 0..number {
                pause(&own, 500);
                replies.send(&(number * 1000 + each))?;
            }
            Ok(())
        },
    );
    let server = Server::builder(service.into_router()).bind("0.0.0.0:80");
    let server = server.unwrap();
    done.runs.lock().unwrap().push(server.handle());
    server.serve().unwrap();
}

/// The numbers that come, and whether they were all.
fn count(caller: &Caller, number: u64) -> (Vec<u64>, Result<(), Status>) {
    let mut counted = Vec::new();
    let replies = match caller.server_streaming::<u64, u64>("/test.Numbers/Count", &number) {
        Ok(replies) => replies,
        Err(status) => return (counted, Err(status)),
    };
    for reply in replies {
        match reply {
            Ok(reply) => counted.push(reply),
            Err(status) => return (counted, Err(status)),
        }
    }
    (counted, Ok(()))
}

fn echo(caller: &Caller, number: u64) -> Result<u64, Status> {
    let reply = caller.unary::<u64, u64>("/test.Numbers/Echo", &number);
    reply.map(|reply| *reply)
}

/// What a call came to, if it was not cut short.
fn call(caller: &Caller, done: &Done, number: u64) {
    if number.is_multiple_of(2) {
        let answer = echo(caller, number);
        if let Ok(answer) = &answer {
            sim::always!(*answer == number, "{answer} for {number}");
            let is_done = done.echoed.lock().unwrap().contains(&number);
            sim::always!(is_done, "{number} was not done");
        }
        sim::sometimes!(answer.is_ok());
        sim::sometimes!(answer.is_err());
    } else {
        let length = number % 8;
        let (counted, end) = count(caller, length);
        let expected = 0..counted.len() as u64;
        let in_order = expected
            .map(|each| length * 1000 + each)
            .eq(counted.clone());
        sim::always!(in_order, "{counted:?} of {length}");
        sim::always!(
            end.is_err() || counted.len() as u64 == length,
            "{} of {length} look like all",
            counted.len()
        );
        sim::sometimes!(end.is_ok());
        sim::sometimes!(end.is_err() && !counted.is_empty());
    }
}

/// One thing or another that happens to the network or the server; then all is well.
fn weather(world: &World, api: &sim::Host) {
    pause(world, 20_000);
    match world.draw(0..4) {
        0 => {
            let cut = world.partition(&["scenario"], &["api"]);
            pause(world, 400_000);
            cut.heal();
        }
        1 => {
            let cut = world.partition_one_way(&["api"], &["scenario"]);
            pause(world, 400_000);
            cut.heal();
        }
        2 => {
            api.crash();
            pause(world, 400_000);
            api.restart();
        }
        _ => {
            let resets = world.rule(|packet| packet.between("scenario", "api").then_reset());
            pause(world, 5000);
            drop(resets);
        }
    }
}

#[test]
fn no_answer_is_anothers_and_no_stream_that_broke_off_looks_complete() {
    sim::check(sim::seeds(200), |world| {
        let done = Arc::new(Done::default());
        let (own, theirs) = (world.clone(), done.clone());
        let api = world.host("api", move || serve(&own, &theirs));
        let link = world.link("scenario", "api").latency(MILLI..4 * MILLI);
        drop(link.loss(0.005));
        world.settle();
        let channel = Channel::to("api:80").connect_timeout(100 * MILLI);
        let caller = Caller::new(channel);
        maniple::group(|g| {
            for number in 0..4 {
                let (caller, done) = (&caller, &done);
                g.spawn(move || {
                    for round in 0..6 {
                        let patience = Duration::from_micros(world.draw(5000..200_000));
                        let number = number + 10 * round;
                        let _cut = maniple::timeout(patience, || call(caller, done, number));
                        pause(world, 5000);
                    }
                });
            }
            weather(world, &api);
            Ok::<_, ()>(())
        })
        .unwrap();
        // All is well: a call that finds the old connection broken is the last that does.
        let found = (0..4).any(|round| {
            let answer = maniple::timeout(5000 * MILLI, || echo(&caller, 1000 + round));
            answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer == 1000 + round))
        });
        assert!(found, "the server is found again");
        let handle = done.runs.lock().unwrap().last().unwrap().clone();
        handle.drain();
        world.eventually(Duration::from_secs(1800), || handle.connections() == 0);
    });
}

#[test]
fn a_call_that_is_cut_short_anywhere_leaves_the_answers_of_others_to_them() {
    sim::check(sim::seeds(100), |world| {
        let done = Arc::new(Done::default());
        let (own, theirs) = (world.clone(), done.clone());
        let _api = world.host("api", move || serve(&own, &theirs));
        world.link("scenario", "api").latency(MILLI..4 * MILLI);
        world.settle();
        let caller = Caller::new(Channel::to("api:80").connect_timeout(100 * MILLI));
        maniple::group(|g| {
            for number in 0..4 {
                let (caller, done) = (&caller, &done);
                g.spawn(move || {
                    for round in 0..6 {
                        let ended = sim::cut(|| call(caller, done, number + 10 * round));
                        sim::sometimes!(ended.is_ok());
                    }
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        // What was cut short holds up nobody who comes later.
        let began = world.now();
        maniple::group::map(20, 1000..1020, |number| {
            assert_eq!(echo(&caller, number).unwrap(), number);
        });
        let took = world.now() - began;
        assert!(took < 100 * MILLI, "{took:?}");
        let handle = done.runs.lock().unwrap()[0].clone();
        handle.drain();
        world.eventually(Duration::from_secs(60), || handle.connections() == 0);
    });
}

#[test]
fn a_drain_lets_calls_end_that_it_has_begun_and_refuses_others_unseen() {
    sim::check(sim::seeds(200), |world| {
        let done = Arc::new(Done::default());
        let (own, theirs) = (world.clone(), done.clone());
        let _api = world.host("api", move || serve(&own, &theirs));
        world.settle();
        let caller = Caller::new(Channel::to("api:80").connect_timeout(100 * MILLI));
        let answered = Mutex::new(BTreeSet::new());
        maniple::group(|g| {
            for number in 0..3 {
                let (caller, answered) = (&caller, &answered);
                g.spawn(move || {
                    for round in 0..5 {
                        let number = number + 10 * round;
                        match echo(caller, number) {
                            Ok(answer) => {
                                sim::always!(answer == number, "{answer} for {number}");
                                answered.lock().unwrap().insert(number);
                            }
                            Err(status) => {
                                sim::always!(status.code() == Code::Unavailable, "{status}");
                            }
                        }
                    }
                });
            }
            pause(world, 15_000);
            let handle = done.runs.lock().unwrap()[0].clone();
            handle.drain();
            world.eventually(Duration::from_secs(60), || handle.connections() == 0);
            Ok::<_, ()>(())
        })
        .unwrap();
        let answered = answered.into_inner().unwrap();
        sim::sometimes!(answered.len() == 15);
        sim::sometimes!(!answered.is_empty() && answered.len() < 15);
        assert_eq!(
            *done.echoed.lock().unwrap(),
            answered,
            "what was begun was answered"
        );
    });
}

#[test]
fn who_waits_for_the_connection_of_another_has_a_deadline_of_its_own() {
    sim::check(sim::seeds(20), |world| {
        let _api = world.host("api", || {});
        // Nobody says that nobody is there.
        let _cut = world.rule(|packet| packet.between("scenario", "api").then_drop());
        let caller = Caller::new(Channel::to("api:80"));
        let first = caller.clone();
        let first = maniple::spawn(move || echo(&first, 1));
        maniple::sleep(MILLI);
        let began = world.now();
        let told = maniple::timeout(20 * MILLI, || echo(&caller, 2));
        assert!(matches!(told, Ok(Err(_)) | Err(_)), "{told:?}");
        assert!(world.now() - began < 30 * MILLI);
        assert_eq!(first.join().unwrap().unwrap_err().code(), Code::Unavailable);
    });
}
