use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
};

use super::*;

/// A server of so many connections, each on a thread of its own that answers so many requests and then closes.
fn serve(connections: usize, requests: usize) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1, 0, 8), 0)).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        panic!("not an IPv4 address");
    };
    thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut request = [0; 1024];
                for _ in 0..requests {
                    match stream.read(&mut request) {
                        Ok(1..) => stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
                            .unwrap(),
                        _ => return,
                    }
                }
            });
        }
    });
    address
}

fn client(server: SocketAddrV4) -> Client {
    let options = Options {
        server,
        sources: 2,
        window: 3,
    };
    Client::new(options).unwrap()
}

#[test]
fn every_connection_is_used_and_closed() {
    let mut client = client(serve(7, usize::MAX));
    for until in [4, 7] {
        assert_eq!(client.obey(Order::Open { until }).unwrap(), Report::Done);
        assert_eq!(client.connections.len(), until);
    }
    client.obey(Order::Hold { seconds: 1e-3 }).unwrap();
    let order = Order::Trickle {
        requests: 14,
        per_second: 1000.0,
    };
    let Report::Trickled(trickled) = client.obey(order).unwrap() else {
        panic!("no latencies");
    };
    assert_eq!(trickled.answered + trickled.skipped, 14);
    assert!(trickled.answered >= 7, "{trickled:?}");
    assert_eq!(client.obey(Order::Close).unwrap(), Report::Done);
    assert!(client.connections.is_empty());
}

#[test]
fn latency_runs_from_when_a_request_was_due() {
    let mut client = client(serve(1, usize::MAX));
    client.obey(Order::Open { until: 1 }).unwrap();
    // The first of these is due at once; while it waits, the second, due as well, is skipped.
    let trickled = client.trickle(2, 1e9).unwrap();
    assert_eq!((trickled.answered, trickled.skipped), (1, 1));
    client.latencies.reset();
    let long_ago = Instant::now() - Duration::from_millis(50);
    client.send(0, long_ago).unwrap();
    while client.waiting > 0 {
        client.turn_or_give_up().unwrap();
    }
    assert!(client.latencies.min() >= 49_000_000);
}

#[test]
fn a_connection_that_the_server_closes_is_named() {
    let mut client = client(serve(2, 1));
    // Either while the second is opened, or after.
    let error = client
        .obey(Order::Open { until: 2 })
        .and_then(|_| client.obey(Order::Hold { seconds: 20.0 }))
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("closed by the server"), "{text}");
    assert!(text.contains("connection "), "{text}");
}

#[test]
fn a_server_that_refuses_is_named_with_the_connection() {
    let options = Options {
        // Nobody listens at an address that nobody has.
        server: SocketAddrV4::new(Ipv4Addr::new(127, 1, 255, 254), 1),
        sources: 1,
        window: 1,
    };
    let mut client = Client::new(options).unwrap();
    let error = client.obey(Order::Open { until: 1 }).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("opening: connection 1 "), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn each_number_is_visited_once_in_a_round() {
    for count in [1, 2, 3, 10, 97, 1000, 18_750] {
        let order = Shuffled::of(count);
        let seen: HashSet<usize> = (0..count as u64).map(|index| order.get(index)).collect();
        assert_eq!(seen.len(), count);
        assert!(seen.iter().all(|&number| number < count));
        assert_eq!(order.get(count as u64), order.get(0));
    }
}
