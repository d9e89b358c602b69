//! Unix-domain sockets with addresses, and pipes, in a world.

use std::{
    io::{ErrorKind, Read, Write},
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
};

use maniple::{
    fs,
    net::{UnixDatagram, UnixListener, UnixSeqpacket, UnixSeqpacketListener, UnixStream, pipe},
    sim,
};

use super::network::MILLIS;

const PATH: &str = "/run/service/that/has/a/rather/long/path/so/that/names/of/the/world/could/not/have/it/in/them.sock";

#[test]
fn sockets_with_paths_are_a_hosts_own_and_have_their_addresses() {
    sim::check(sim::seeds(50), |world| {
        for (name, word) in [("one", "first"), ("other", "second")] {
            world.host(name, move || {
                let listener = UnixListener::bind(PATH).unwrap();
                assert_eq!(
                    listener
                        .local_addr()
                        .unwrap()
                        .as_pathname()
                        .unwrap()
                        .as_os_str(),
                    PATH
                );
                let server = maniple::spawn(move || {
                    let (mut stream, peer) = listener.accept().unwrap();
                    assert!(peer.is_unnamed());
                    stream.write_all(word.as_bytes()).unwrap();
                });
                let mut stream = UnixStream::connect(PATH).unwrap();
                assert_eq!(
                    stream
                        .peer_addr()
                        .unwrap()
                        .as_pathname()
                        .unwrap()
                        .as_os_str(),
                    PATH
                );
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                assert_eq!(text, word);
                server.join().unwrap();
            });
        }
        world.settle();
        let nobody = UnixStream::connect(PATH).unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
        maniple::sleep(MILLIS);
    });
}

#[test]
fn a_socket_file_outlasts_its_socket_until_it_is_removed() {
    sim::check(0..10, |_| {
        drop(UnixListener::bind("/run/it").unwrap());
        let refused = UnixStream::connect("/run/it").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let taken = UnixListener::bind("/run/it").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        fs::remove_file("/run/it").unwrap();
        let first = UnixListener::bind("/run/it").unwrap();
        let _early = UnixStream::connect("/run/it").unwrap();
        fs::remove_file("/run/it").unwrap();
        let _second = UnixListener::bind("/run/it").unwrap();
        let _late = UnixStream::connect("/run/it").unwrap();
        first.accept().unwrap();
    });
}

#[test]
fn abstract_names_datagrams_and_packets_work_as_in_service() {
    sim::check(0..10, |_| {
        let name = SocketAddr::from_abstract_name(b"a name").unwrap();
        let listener = UnixSeqpacketListener::bind_addr(&name).unwrap();
        let client = UnixSeqpacket::connect_addr(&name).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.send(b"one").unwrap();
        client.send(b"two").unwrap();
        let mut buffer = [0; 10];
        assert_eq!(server.recv(&mut buffer).unwrap(), 3);
        let bound = listener.local_addr().unwrap();
        assert_eq!(bound.as_abstract_name().unwrap(), b"a name");
        drop((listener, server));
        // Unlike a file it goes with its socket.
        let again = UnixListener::bind_addr(&name).unwrap();
        drop(again);
        let receiver = UnixDatagram::bind("/run/datagrams").unwrap();
        let sender = UnixDatagram::bind("/run/sender").unwrap();
        sender.send_to(b"to you", "/run/datagrams").unwrap();
        let (length, from) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"to you");
        assert_eq!(from.as_pathname().unwrap().to_str(), Some("/run/sender"));
    });
}

#[test]
fn a_pipe_is_filled_and_read_in_orders_that_are_drawn() {
    let runs = || -> Vec<u64> {
        let scenario = |world: &sim::World| {
            let (mut reader, mut writer) = pipe().unwrap();
            let world = world.clone();
            let writes = maniple::spawn(move || {
                for _ in 0..20 {
                    writer
                        .write_all(&vec![1; world.draw(1..20_000) as usize])
                        .unwrap();
                    maniple::yield_now();
                }
                drop(writer);
            });
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            writes.join().unwrap();
        };
        (0..50)
            .map(|seed| sim::run(seed, scenario).unwrap().trace())
            .collect()
    };
    assert_eq!(runs(), runs());
}
