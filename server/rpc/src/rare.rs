//! Rare ways that are right, and that simulated worlds take on purpose.

/// Whether the way of that name is taken here, now: sometimes in a simulated world, never elsewhere.
macro_rules! rarely {
    ($way:literal) => {
        maniple::sim::buggify!() && $crate::rare::taken($way)
    };
}

pub(crate) use rarely;

/// Notes that a way was taken, in tests of this crate.
pub(crate) fn taken(way: &'static str) -> bool {
    #[cfg(test)]
    tests::TAKEN.lock().insert(way);
    _ = way;
    true
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use maniple::{sim, sync::Mutex};

    use crate::{Call, Caller, Channel, Replies, Server, Service, Status};

    pub(super) static TAKEN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

    const WAYS: &[&str] = &[
        "a question to the peer goes late",
        "one coroutine gives way between two calls",
        "room is granted for each message",
        "what came is read byte by byte",
        "what goes waits its turn though there is room",
        "what goes is written in small pieces",
        "what goes is written by the keeper",
    ];

    fn serve() {
        let service = Service::new("t.T")
            .unary("Echo", |_: &mut Call, text: String| Ok::<_, Status>(text))
            .server_streaming(
                "Repeat",
                |_: &mut Call, times: u64, replies: &mut Replies<'_, u64>| {
                    (0..times).try_for_each(|number| replies.send(&number))
                },
            );
        let server = Server::builder().service(service);
        // A world that ends cuts it short.
        _ = server.bind("0.0.0.0:7").unwrap().serve();
    }

    #[test]
    fn each_is_taken_in_some_world_and_calls_come_to_the_same() {
        sim::check(0..60, |world| {
            let _server = world.host("server", serve);
            world.settle();
            let channel = Channel::builder("server:7")
                .window_bytes(1_000)
                .heartbeat(Duration::from_millis(50));
            let caller = Caller::new(channel.open().unwrap());
            maniple::group::map(5, 0..10, |number| {
                let text = "x".repeat(number * 100);
                assert_eq!(
                    *caller.unary::<_, String>("/t.T/Echo", &text).unwrap(),
                    text
                );
                let times = number as u64 * 10;
                let replies = caller.server_streaming::<_, u64>("/t.T/Repeat", &times);
                let replies: Result<Vec<_>, _> = replies.unwrap().collect();
                assert_eq!(replies.unwrap(), Vec::from_iter(0..times));
            });
            // Long enough for heartbeats.
            maniple::sleep(Duration::from_secs(1));
        });
        let taken = TAKEN.lock().clone();
        assert_eq!(taken, BTreeSet::from_iter(WAYS.iter().copied()));
    }
}
