//! Topics over Redis and NATS themselves: who hears what, and what is told of what is lost.

mod authority;
mod engine;
mod kept;

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use maniple_parts::hub::{Lag, Listen, PublishError, RecvError, SubscribeError, Topics};
use maniple_topics::{Message, SharedHub, SharedMember};

use authority::Authority;
use engine::{Broker, Kind, PATIENCE, eventually};

fn in_a_runtime(test: impl FnOnce() + Send) {
    kept::keep();
    let runtime = maniple::Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| maniple::timeout(PATIENCE * 2, test).expect("no hang"));
}

fn text(message: &Message) -> &str {
    str::from_utf8(message).unwrap()
}

#[track_caller]
fn hears(member: &mut SharedMember) -> String {
    let received = member.recv_timeout(PATIENCE).unwrap();
    text(&received.message).to_owned()
}

#[track_caller]
fn is_told_a_gap(member: &mut SharedMember) {
    match member.recv_timeout(PATIENCE) {
        Err(RecvError::Gap { topic }) => assert_eq!(&*topic, member.topic()),
        other => panic!("{other:?}"),
    }
}

fn say(hub: &SharedHub, topic: &str, text: &str) {
    hub.publish(topic, text.as_bytes()).unwrap();
}

fn messages_reach_the_members_of_all_processes_in_one_order(kind: Kind) {
    let broker = Broker::start(kind);
    let (here, there) = (broker.hub(), broker.hub());
    let mut one = here.subscribe("garden", Lag::Disconnect).unwrap();
    let mut two = there.subscribe("garden", Lag::DropOldest).unwrap();
    let mut other = there.subscribe("kitchen", Lag::DropOldest).unwrap();
    let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
    for n in 0..10 {
        say(&here, "garden", &format!("here {n}"));
        say(&there, "garden", &format!("there {n}"));
    }
    for _ in 0..20 {
        of_one.push(hears(&mut one));
        of_two.push(hears(&mut two));
    }
    assert_eq!(of_one, of_two);
    say(&here, "kitchen", "");
    assert_eq!(hears(&mut other), "");
    // Nobody listens, which is no fault.
    say(&here, "cellar", "hello");
    let bytes: Vec<u8> = (0..=255).collect();
    here.publish("kitchen", bytes.clone()).unwrap();
    assert_eq!(*other.recv().unwrap().message, *bytes);
    let stats = here.stats();
    assert_eq!((stats.published, stats.received, stats.gaps), (13, 20, 0));
}

fn a_hub_of_any_kind_is_used_alike(kind: Kind) {
    fn exchange(rooms: &impl Topics<Message>) -> Message {
        let mut member = rooms.subscribe("garden", Lag::DropOldest).unwrap();
        rooms.publish("garden", (*b"hello").into()).unwrap();
        member.recv().unwrap().message
    }
    let broker = Broker::start(kind);
    let local = maniple_parts::hub::Hub::builder("local").build().unwrap();
    assert_eq!(exchange(&local), exchange(&broker.hub()));
}

fn who_comes_back_at_once_hears_at_once(kind: Kind) {
    let broker = Broker::start(kind);
    let (here, there) = (broker.hub(), broker.hub());
    for n in 0..200 {
        let mut member = here.subscribe("garden", Lag::DropOldest).unwrap();
        let said = n.to_string();
        say(&there, "garden", &said);
        assert_eq!(hears(&mut member), said);
    }
    assert_eq!(here.stats().gaps, 0);
}

fn many_publishers_are_heard_each_in_order(kind: Kind) {
    let broker = Broker::start(kind);
    let (here, there) = (broker.hub(), broker.builder().queue(5000).build().unwrap());
    let mut member = there.subscribe("garden", Lag::Disconnect).unwrap();
    let result: Result<(), maniple::JoinError> = maniple::group(|g| {
        for publisher in 0..50 {
            let here = &here;
            g.spawn(move || (0..40).for_each(|n| say(here, "garden", &format!("{publisher} {n}"))));
        }
        Ok(())
    });
    result.unwrap();
    let mut next = [0; 50];
    for _ in 0..2000 {
        let said = hears(&mut member);
        let (publisher, n) = said.split_once(' ').unwrap();
        let publisher: usize = publisher.parse().unwrap();
        assert_eq!(n, next[publisher].to_string());
        next[publisher] += 1;
    }
    assert_eq!(
        member.recv_timeout(Duration::ZERO).unwrap_err().to_string(),
        "no message from `garden` in time"
    );
}

fn a_broker_that_dies_leaves_a_gap_that_is_told(kind: Kind) {
    let mut broker = Broker::start(kind);
    let (here, there) = (broker.hub(), broker.hub());
    let mut member = here.subscribe("garden", Lag::DropOldest).unwrap();
    let mut neighbour = here.subscribe("garden", Lag::Disconnect).unwrap();
    say(&there, "garden", "before");
    assert_eq!(hears(&mut member), "before");
    broker.kill();
    eventually("it is seen", || {
        there.stats().broker.is_none() && here.stats().broker.is_none()
    });
    match there.publish("garden", *b"lost") {
        Err(PublishError::Broker {
            may_have_arrived, ..
        }) => assert!(!may_have_arrived),
        other => panic!("{other:?}"),
    }
    match here.subscribe("kitchen", Lag::DropOldest) {
        Err(SubscribeError::Broker { topic, .. }) => assert_eq!(&*topic, "kitchen"),
        other => panic!("{other:?}"),
    }
    broker.run();
    is_told_a_gap(&mut member);
    // From the gap on all is heard.
    say(&there, "garden", "after");
    assert_eq!(hears(&mut member), "after");
    assert_eq!(hears(&mut neighbour), "before");
    is_told_a_gap(&mut neighbour);
    assert_eq!(hears(&mut neighbour), "after");
}

fn a_broker_that_falls_silent_is_left_and_what_was_on_its_way_is_told(kind: Kind) {
    let broker = Broker::start(kind);
    let (here, there) = (broker.hub(), broker.hub());
    let mut member = here.subscribe("garden", Lag::DropOldest).unwrap();
    say(&there, "garden", "before");
    assert_eq!(hears(&mut member), "before");
    broker.freeze();
    match there.publish("garden", *b"perhaps") {
        Err(PublishError::Broker {
            may_have_arrived, ..
        }) => assert!(may_have_arrived),
        other => panic!("{other:?}"),
    }
    eventually("it is left", || here.stats().broker.is_none());
    broker.thaw();
    is_told_a_gap(&mut member);
    say(&here, "garden", "after");
    assert_eq!(hears(&mut member), "after");
}

fn a_publisher_waits_no_longer_than_it_may(kind: Kind) {
    let broker = Broker::start(kind);
    let hub = broker.builder().patience(PATIENCE).build().unwrap();
    say(&hub, "garden", "hello");
    broker.freeze();
    let soon = Duration::from_millis(100);
    let published = maniple::timeout(soon, || hub.publish("garden", *b"hello")).unwrap();
    assert!(
        matches!(published, Err(PublishError::Elapsed { .. })),
        "{published:?}"
    );
    let joined = maniple::timeout(soon, || hub.subscribe("garden", Lag::DropOldest)).unwrap();
    assert!(
        matches!(joined, Err(SubscribeError::CutShort { .. })),
        "{joined:?}"
    );
    broker.thaw();
}

fn a_laggard_is_told_what_it_missed_and_holds_nobody_up(kind: Kind) {
    let broker = Broker::start(kind);
    let hub = broker.builder().queue(2).build().unwrap();
    let mut slow = hub.subscribe("garden", Lag::DropOldest).unwrap();
    let mut gone = hub.subscribe("garden", Lag::Disconnect).unwrap();
    let mut quick = hub.subscribe("garden", Lag::DropOldest).unwrap();
    for n in 0..5 {
        say(&hub, "garden", &n.to_string());
        assert_eq!(hears(&mut quick), n.to_string());
    }
    let received = slow.recv().unwrap();
    assert_eq!((received.dropped, text(&received.message)), (3, "3"));
    assert!(matches!(gone.recv(), Err(RecvError::Disconnected { .. })));
    let waits = hub.subscribe("garden", Lag::Wait);
    assert!(
        waits
            .unwrap_err()
            .to_string()
            .contains("no broker has publishers wait")
    );
}

fn a_message_that_is_too_long_is_a_gap_to_who_cannot_take_it(kind: Kind) {
    let broker = Broker::start(kind);
    let (small, large) = (
        broker.builder().max_message(1024).build().unwrap(),
        broker.hub(),
    );
    let mut member = small.subscribe("garden", Lag::DropOldest).unwrap();
    let mut at_large = large.subscribe("garden", Lag::DropOldest).unwrap();
    say(&large, "garden", &"x".repeat(100_000));
    say(&large, "garden", &"y".repeat(1024));
    is_told_a_gap(&mut member);
    assert_eq!(hears(&mut member), "y".repeat(1024));
    assert_eq!(hears(&mut at_large).len(), 100_000);
    let refused = small.publish("garden", vec![0; 1025]).unwrap_err();
    assert!(
        refused.to_string().contains("1025 bytes are too many"),
        "{refused}"
    );
    // Of what the broker itself takes at most, no connection is lost either.
    assert_eq!((small.stats().lost, large.stats().lost), (0, 0));
}

fn what_a_broker_refuses_concerns_nobody_else(kind: Kind) {
    let broker = Broker::start(kind);
    let builder = broker
        .builder()
        .user("limited", "secret")
        .prefix(match kind {
            Kind::Redis => "",
            Kind::Nats => "open.",
        });
    let hub = builder.build().unwrap();
    let closed = broker.builder().user("limited", "secret").build().unwrap();
    let mut member = hub.subscribe("open", Lag::DropOldest).unwrap();
    let result: Result<(), maniple::JoinError> = maniple::group(|g| {
        // Among many that are allowed.
        for _ in 0..20 {
            g.spawn(|| say(&hub, "open", "hello"));
            g.spawn(|| match closed.publish("secret", *b"hello") {
                Err(PublishError::Broker {
                    may_have_arrived: false,
                    reason,
                    ..
                }) => {
                    assert!(reason.to_lowercase().contains("perm"), "{reason}");
                }
                other => panic!("{other:?}"),
            });
        }
        g.spawn(|| match closed.subscribe("secret", Lag::DropOldest) {
            Err(SubscribeError::Broker { reason, .. }) => {
                assert!(reason.to_lowercase().contains("perm"), "{reason}");
            }
            other => panic!("{other:?}"),
        });
        Ok(())
    });
    result.unwrap();
    for _ in 0..20 {
        assert_eq!(hears(&mut member), "hello");
    }
    assert_eq!((hub.stats().lost, closed.stats().lost), (0, 0));
    let guessed = broker.builder().user("limited", "guessed").build().unwrap();
    eventually("it is refused", || guessed.stats().lost > 0);
    assert!(guessed.stats().broker.is_none() && !format!("{guessed:?}").contains("guessed"));
}

fn the_next_broker_of_the_list_is_taken_when_one_is_lost(kind: Kind) {
    let (mut first, second) = (Broker::start(kind), Broker::start(kind));
    let brokers = [
        "127.0.0.1:1".to_owned(),
        first.address.clone(),
        second.address.clone(),
    ];
    let builder = match kind {
        Kind::Redis => SharedHub::redis("rooms", brokers),
        Kind::Nats => SharedHub::nats("rooms", brokers),
    };
    let hub = builder.build().unwrap();
    let mut member = hub.subscribe("garden", Lag::DropOldest).unwrap();
    assert_eq!(hub.stats().broker.as_ref(), Some(&first.address));
    first.kill();
    is_told_a_gap(&mut member);
    assert_eq!(hub.stats().broker.as_ref(), Some(&second.address));
    say(&second.hub(), "garden", "hello");
    assert_eq!(hears(&mut member), "hello");
}

fn with_its_last_handle_a_hub_is_closed(kind: Kind) {
    let broker = Broker::start(kind);
    let hub = broker.hub();
    let mut member = hub.subscribe("garden", Lag::DropOldest).unwrap();
    let again = hub.clone();
    drop(hub);
    say(&again, "garden", "last");
    assert_eq!(hears(&mut member), "last");
    drop(again);
    assert!(matches!(member.recv(), Err(RecvError::Closed { .. })));
}

/// Nothing is to be had over it, and it says why.
#[track_caller]
fn is_lost(hub: SharedHub, why: &str) {
    match hub.publish("open.1", *b"hello") {
        Err(PublishError::Broker {
            may_have_arrived: false,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    eventually("it is lost", || hub.stats().fault.is_some());
    let fault = hub.stats().fault.unwrap_or_default();
    assert!(fault.contains(why), "{fault:?} is not {why:?}");
}

fn by_tls_all_is_as_without(kind: Kind) {
    let authority = Authority::new();
    let mut broker = Broker::start_secured(kind, &authority);
    let believes = || authority.client().build().unwrap();
    let hub = broker.builder_by_tls("limited:secret", believes());
    let (here, there) = (hub.build().unwrap(), {
        // The same of settings.
        let builder = broker.builder().user("limited", "secret").tls(believes());
        builder.build().unwrap()
    });
    let mut member = there.subscribe("open.1", Lag::DropOldest).unwrap();
    for n in 0..20 {
        say(&here, "open.1", &n.to_string());
    }
    // More than a record of TLS, and than what one read takes.
    let long: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    here.publish("open.1", long.clone()).unwrap();
    for n in 0..20 {
        assert_eq!(hears(&mut member), n.to_string());
    }
    assert_eq!(*member.recv().unwrap().message, *long);
    assert!(here.publish("closed", *b"x").is_err(), "it is `limited`");
    assert_eq!(here.stats().broker.as_deref(), Some(&*broker.address));
    // One that stands still is left, and one that is back is had again.
    broker.freeze();
    eventually("it is left", || there.stats().lost > 0);
    broker.thaw();
    is_told_a_gap(&mut member);
    broker.kill();
    broker.run();
    is_told_a_gap(&mut member);
    eventually("it is back", || here.publish("open.1", *b"again").is_ok());
    assert_eq!(hears(&mut member), "again");
}

fn who_is_not_believed_is_told_nothing(kind: Kind) {
    let authority = Authority::new();
    let broker = Broker::start_secured(kind, &authority);
    let strangers = Authority::new().client().build().unwrap();
    let hub = broker.builder_by_tls("limited:secret", strangers);
    is_lost(hub.build().unwrap(), "invalid peer certificate");
    // In plain text, to where TLS is spoken.
    let plain = broker.builder().patience(Duration::from_millis(300));
    match kind {
        // It says something of TLS, or closes.
        Kind::Redis => is_lost(plain.build().unwrap(), ""),
        Kind::Nats => is_lost(plain.build().unwrap(), "it wants TLS"),
    }
    // By TLS, to where there is none.
    let broker = Broker::start(kind);
    let hub = broker.builder_by_tls("limited:sword%66ish", authority.client().build().unwrap());
    let hub = hub.patience(Duration::from_millis(300)).build().unwrap();
    is_lost(hub, "");
    assert!(!kept::has(&["swordfish"]) && !kept::has(&["sword%66ish"]));
}

#[test]
#[ignore = "it needs Redis"]
fn over_redis_a_password_is_never_repeated_by_the_log() {
    in_a_runtime(|| {
        // A command that a server does not know it repeats, with all that came with it.
        let broker = Broker::start_with(Kind::Redis, "rename-command HELLO \"\"", None);
        let hub = broker.builder_at(&format!("redis://limited:swordfish@{}/0", broker.address));
        is_lost(hub.build().unwrap(), "unknown command");
        let broker = Broker::start_with(Kind::Redis, "requirepass sword%fish", None);
        let at = |login: &str| format!("redis://{login}@{}", broker.address);
        is_lost(
            broker.builder_at(&at(":swordfish")).build().unwrap(),
            "WRONGPASS",
        );
        is_lost(broker.builder().build().unwrap(), "NOAUTH");
        for hub in [
            broker.builder_at(&at(":sword%25fish")),
            broker.builder().user("", "sword%fish"),
        ] {
            say(&hub.build().unwrap(), "garden", "hello");
        }
        for secret in ["swordfish", "sword%fish", "sword%25fish"] {
            assert!(!kept::has(&[secret]), "{secret}");
        }
    });
}

#[test]
#[ignore = "it needs NATS"]
fn over_nats_a_token_says_who_asks() {
    in_a_runtime(|| {
        let settings = "authorization { token: \"sword@fish\" }";
        let broker = Broker::start_with(Kind::Nats, settings, None);
        let at = |login: &str| format!("nats://{login}{}", broker.address);
        for hub in [
            broker.builder_at(&at("sword%40fish@")),
            broker.builder_at(&at("")).token("sword@fish"),
        ] {
            say(&hub.build().unwrap(), "garden", "hello");
        }
        for hub in [
            broker.builder_at(&at("swordfish@")),
            broker.builder().user("somebody", "swordfish"),
            broker.builder(),
        ] {
            is_lost(hub.build().unwrap(), "Authorization Violation");
        }
        for secret in ["swordfish", "sword@fish", "sword%40fish"] {
            assert!(!kept::has(&[secret]), "{secret}");
        }
    });
}

#[test]
fn to_nats_without_tls_nothing_is_said_where_tls_is_asked_for() {
    in_a_runtime(|| {
        let tls = Authority::new().client().build().unwrap();
        for (said, why) in [
            ("INFO {\"max_payload\":100}\r\n", "it has no TLS"),
            // As who is between might say it, to be heard once all is encrypted.
            (
                "INFO {\"tls_required\":true}\r\n+OK\r\n",
                "it goes on in plain text",
            ),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = listener.local_addr().unwrap();
            let heard = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(said.as_bytes()).unwrap();
                let mut heard = Vec::new();
                // Who leaves with unread bytes behind resets the connection.
                let _ = stream.read_to_end(&mut heard);
                heard
            });
            let hub = SharedHub::nats("rooms", [format!("tls://u:swordfish@{at}")]);
            let hub = hub
                .tls(tls.clone())
                .patience(Duration::from_secs(10))
                .build()
                .unwrap();
            let told = || hub.stats().fault.is_some_and(|fault| fault.contains(why));
            eventually(why, told);
            let heard = maniple::offload(move || heard.join().unwrap()).unwrap();
            assert!(heard.is_empty(), "{heard:?}");
            drop(hub);
        }
        assert!(!kept::has(&["swordfish"]));
    });
}

macro_rules! with_each {
    ($($name:ident)*) => {
        mod redis {
            $(#[test]
            #[ignore = "it needs Redis"]
            fn $name() {
                super::in_a_runtime(|| super::$name(super::Kind::Redis));
            })*
        }
        mod nats {
            $(#[test]
            #[ignore = "it needs NATS"]
            fn $name() {
                super::in_a_runtime(|| super::$name(super::Kind::Nats));
            })*
        }
    };
}

with_each! {
    messages_reach_the_members_of_all_processes_in_one_order
    a_hub_of_any_kind_is_used_alike
    who_comes_back_at_once_hears_at_once
    many_publishers_are_heard_each_in_order
    a_broker_that_dies_leaves_a_gap_that_is_told
    a_broker_that_falls_silent_is_left_and_what_was_on_its_way_is_told
    a_publisher_waits_no_longer_than_it_may
    a_laggard_is_told_what_it_missed_and_holds_nobody_up
    a_message_that_is_too_long_is_a_gap_to_who_cannot_take_it
    what_a_broker_refuses_concerns_nobody_else
    the_next_broker_of_the_list_is_taken_when_one_is_lost
    with_its_last_handle_a_hub_is_closed
    by_tls_all_is_as_without
    who_is_not_believed_is_told_nothing
}

#[test]
fn a_hub_that_could_not_be_is_none() {
    in_a_runtime(|| {
        let nobody: [&str; 0] = [];
        let wrong = [
            SharedHub::redis("r", nobody),
            SharedHub::redis("r", ["x:1"]).max_message(1023),
            SharedHub::redis("r", ["x:1"]).patience(Duration::ZERO),
            SharedHub::nats("r", ["x:1"]).prefix("a b."),
            SharedHub::nats("r", ["x:1"]).prefix("."),
            SharedHub::nats("r", ["x:1"]).queue(0),
        ];
        for builder in wrong {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
        }
        let hub = SharedHub::nats("r", ["127.0.0.1:1"]).build().unwrap();
        for name in ["a b", "", "a.>", "x\r\nPUB y 0"] {
            assert!(hub.publish(name, *b"x").is_err());
            assert!(hub.subscribe(name, Lag::DropOldest).is_err());
        }
    });
}
