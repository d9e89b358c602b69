//! Packets of two connections come in either order, also at the same nanosecond; those of one connection keep theirs.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple::{
    net::{TcpListener, TcpStream, UdpSocket},
    sim,
    sync::mpsc,
};

use super::network::{MILLIS, connected, echo};

/// Tells which of two connections have brought a byte, and which byte, in that order.
fn tell_what_comes() -> mpsc::Receiver<(usize, u8)> {
    let (tell, told) = mpsc::channel();
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    maniple::spawn(move || {
        for nth in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let tell = tell.clone();
            maniple::spawn(move || {
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    tell.send((nth, byte[0])).unwrap();
                }
            });
        }
    });
    told
}

fn first_of_two(latency: std::ops::Range<Duration>) {
    sim::check(sim::seeds(200), move |world| {
        let (tell, told) = mpsc::channel();
        let _server = world.host("server", move || {
            let came = tell_what_comes();
            (0..4).for_each(|_| tell.send(came.recv().unwrap()).unwrap());
        });
        world.link("scenario", "server").latency(MILLIS..MILLIS);
        world.settle();
        let streams: Vec<_> = (0..2)
            .map(|_| TcpStream::connect("server:7").unwrap())
            .collect();
        world.link("scenario", "server").latency(latency.clone());
        for byte in [1, 2] {
            for mut stream in &streams {
                stream.set_nodelay(true).unwrap();
                stream.write_all(&[byte]).unwrap();
            }
        }
        let came: Vec<_> = (0..4).map(|_| told.recv().unwrap()).collect();
        for nth in 0..2 {
            let own: Vec<_> = came.iter().filter(|each| each.0 == nth).collect();
            assert_eq!(own, [&(nth, 1), &(nth, 2)], "a connection keeps its order");
        }
        sim::sometimes!(came[0].0 == 0);
        sim::sometimes!(came[0].0 == 1);
    });
}

#[test]
fn of_two_connections_either_is_first_at_the_same_time() {
    first_of_two(MILLIS..MILLIS);
}

#[test]
fn what_is_sent_later_on_another_connection_may_come_first() {
    first_of_two(MILLIS..20 * MILLIS);
}

#[test]
fn of_two_datagrams_either_is_first_at_the_same_time() {
    sim::check(sim::seeds(50), |world| {
        let (tell, told) = mpsc::channel();
        let _server = world.host("server", move || {
            let socket = UdpSocket::bind("0.0.0.0:9").unwrap();
            let mut byte = [0];
            for _ in 0..2 {
                socket.recv_from(&mut byte).unwrap();
                tell.send(byte[0]).unwrap();
            }
        });
        world.link("scenario", "server").latency(MILLIS..MILLIS);
        world.settle();
        for byte in [1, 2] {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&[byte], "server:9").unwrap();
        }
        let first = told.recv().unwrap();
        sim::sometimes!(first == 1);
        sim::sometimes!(first == 2);
    });
}

#[test]
fn an_answer_that_comes_as_the_deadline_passes_is_in_time_or_late() {
    sim::check(sim::seeds(50), |world| {
        let _server = world.host("server", echo);
        world.link("scenario", "server").latency(MILLIS..MILLIS);
        let mut stream = connected(world);
        stream.write_all(&[1]).unwrap();
        stream.set_read_timeout(Some(2 * MILLIS)).unwrap();
        let is_late = stream.read_exact(&mut [0]).is_err();
        sim::sometimes!(is_late);
        sim::sometimes!(!is_late);
    });
}
