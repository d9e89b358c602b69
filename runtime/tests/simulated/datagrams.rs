//! UDP in a world.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    time::Duration,
};

use maniple::{
    net::{RecvBatch, UdpSocket},
    sim::{self, PacketKind, Verdict, World},
};

use super::network::{MILLIS, MINUTE};

/// Sends back what comes.
fn echo() {
    let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
    let mut buffer = [0; 100];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if socket.send_to(&buffer[..length], from).is_err() {
            return;
        }
    }
}

/// What comes back of a hundred numbers, in the order in which it does.
fn of_a_hundred(world: &World) -> Vec<u8> {
    let _server = world.host("server", echo);
    world.settle();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for number in 0..100 {
        assert_eq!(socket.send_to(&[number], "server:7").unwrap(), 1);
    }
    socket.set_read_timeout(Some(MINUTE)).unwrap();
    let mut back = Vec::new();
    let mut buffer = [0; 2];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        assert_eq!((length, from.port()), (1, 7));
        back.push(buffer[0]);
    }
    back
}

#[test]
fn datagrams_come_in_another_order_and_whole_where_nothing_is_lost() {
    sim::check(sim::seeds(50), |world| {
        let back = of_a_hundred(world);
        assert_eq!(back.iter().collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(back.len(), 100);
        sim::sometimes!(!back.is_sorted());
    });
}

#[test]
fn datagrams_are_lost_and_come_twice_as_often_as_the_link_says() {
    sim::check(sim::seeds(50), |world| {
        let _server = world.host("server", echo);
        let rule = world.rule(|packet| {
            let back = packet.goes("server", "scenario").of(PacketKind::Datagram);
            back.and(packet.bytes() == [42]).then(Verdict::Drop)
        });
        world.settle();
        _ = world.link("scenario", "server").loss(0.1).duplicates(0.1);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..100 {
            socket.send_to(&[number], "server:7").unwrap();
        }
        socket.set_read_timeout(Some(MINUTE)).unwrap();
        let mut times = BTreeMap::<u8, u32>::new();
        let mut buffer = [0];
        while socket.recv(&mut buffer).is_ok() {
            *times.entry(buffer[0]).or_default() += 1;
        }
        drop(rule);
        assert!((40..100).contains(&times.len()), "{times:?}");
        assert!(!times.contains_key(&42));
        assert!(times.values().any(|times| *times > 1));
        assert!(times.values().all(|times| *times <= 4));
    });
}

#[test]
fn the_same_seed_loses_the_same() {
    let scenario = |world: &World| drop(of_a_hundred(world));
    for seed in 0..20 {
        let runs = [(); 2].map(|()| sim::run(seed, scenario).unwrap());
        assert_eq!(runs[0], runs[1]);
    }
}

#[test]
fn a_connected_socket_hears_its_peer_alone_and_addresses_are_those_of_the_hosts() {
    sim::check(0..20, |world| {
        let server = world.host("server", echo);
        world.settle();
        let socket = UdpSocket::bind("0.0.0.0:9").unwrap();
        let unconnected = socket.send(b"x").unwrap_err();
        assert_eq!(unconnected.raw_os_error(), Some(89), "EDESTADDRREQ");
        socket.connect("server:7").unwrap();
        assert_eq!(socket.peer_addr().unwrap(), (server.address(), 7).into());
        let stranger = UdpSocket::bind("0.0.0.0:0").unwrap();
        stranger
            .send_to(b"stranger", socket.local_addr().unwrap())
            .unwrap();
        socket.send(b"hello").unwrap();
        let mut buffer = [0; 10];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        let cut = maniple::timeout(MINUTE, || socket.recv(&mut buffer));
        assert!(!matches!(cut, Ok(Ok(_))));
        let taken = UdpSocket::bind("0.0.0.0:9").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.send_to(b"near", "localhost:9").unwrap();
    });
}

#[test]
fn what_is_too_large_is_refused_and_of_what_is_large_more_is_lost() {
    sim::check(0..10, |world| {
        let socket = UdpSocket::bind("0.0.0.0:9").unwrap();
        let too_large = socket.send_to(&vec![0; 65_508], "localhost:9").unwrap_err();
        assert_eq!(too_large.raw_os_error(), Some(90), "EMSGSIZE");
        assert_eq!(
            socket.send_to(&vec![0; 65_507], "localhost:9").unwrap(),
            65_507
        );
        let mut buffer = vec![0; 70_000];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 65_507);
        let _far = world.host("far", || {
            let socket = UdpSocket::bind("0.0.0.0:9").unwrap();
            let mut counts = [0; 2];
            let mut buffer = vec![0; 20_000];
            socket.set_read_timeout(Some(MINUTE)).unwrap();
            while let Ok(length) = socket.recv(&mut buffer) {
                counts[usize::from(length > 1000)] += 1;
            }
            // It is of 14 packets, of which each may be lost.
            assert!(counts[0] > 2 * counts[1], "{counts:?}");
        });
        world.settle();
        _ = world.link("scenario", "far").loss(0.1);
        for _ in 0..100 {
            socket.send_to(b"small", "far:9").unwrap();
            socket.send_to(&[0; 20_000], "far:9").unwrap();
            maniple::sleep(MILLIS);
        }
        maniple::sleep(2 * MINUTE);
    });
}

#[test]
fn what_nobody_receives_is_kept_up_to_a_limit_and_received_in_batches() {
    sim::check(0..5, |world| {
        let receiver = UdpSocket::bind("0.0.0.0:9").unwrap();
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let many: Vec<_> = (0..1000).map(|_| ([1; 744], to)).collect();
        assert_eq!(sender.send_batch(&many).unwrap(), 1000);
        // To nobody.
        sender.send_to(b"lost", "scenario:10").unwrap();
        maniple::sleep(MINUTE);
        let mut batch = RecvBatch::new(64, 1000);
        let mut received = 0;
        loop {
            let some = maniple::timeout(10 * MILLIS, || receiver.recv_batch(&mut batch));
            let Ok(Ok(some)) = some else { break };
            received += some;
            assert!(batch.iter().all(|datagram| datagram.bytes == [1; 744]));
            assert!(batch.iter().all(|datagram| datagram.from.ip() == to.ip()));
        }
        assert!((200..1000).contains(&received), "{received}");
        assert!(world.now() >= MINUTE + Duration::from_millis(10));
    });
}

#[test]
fn a_host_that_crashed_receives_nothing() {
    sim::check(sim::seeds(20), |world| {
        let server = world.host("server", echo);
        world.settle();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"early", "server:7").unwrap();
        server.crash();
        socket.send_to(b"late", "server:7").unwrap();
        maniple::sleep(MINUTE);
        server.restart();
        world.settle();
        socket.send_to(b"again", "server:7").unwrap();
        let mut buffer = [0; 10];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"again");
    });
}
