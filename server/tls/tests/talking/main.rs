//! Streams over real sockets: handshakes, both directions at once, ends, waits that are cut, certificates.

mod certificates;
mod depth;
mod ends;
mod handshakes;
mod waits;

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use maniple::{
    Runtime,
    net::{TcpListener, TcpStream, UnixStream},
    sim::{self, Order},
};
use maniple_tls::{ClientConfig, Error, ServerBuilder, ServerConfig, Stream, self_signed};

const LONG: Duration = Duration::from_secs(60);

/// Which driver [`in_a_runtime`] has: `epoll`, if it is not set, or `sim`.
const DRIVER: &str = "MANIPLE_DRIVER";

/// Tests that need the real kernel, below why they do.
const NEED_THE_KERNEL: &[(&str, &[&str])] = &[(
    "what is sent has arrived at once",
    &["handshakes::handshakes_beyond_the_bound_wait_for_others_to_end"],
)];

/// Whether the test that runs here does so in a simulated world.
fn is_simulated() -> bool {
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "epoll".to_owned());
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let mut kept = NEED_THE_KERNEL.iter().flat_map(|(_, names)| *names);
    match driver.as_str() {
        "epoll" => false,
        "sim" => !kept.any(|name| *name == test),
        other => panic!("{DRIVER} is {other:?}, and must be epoll or sim"),
    }
}

/// In a coroutine, on one worker, for at most a minute; or in a world that is like that.
fn in_a_runtime<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let bounded = || maniple::timeout(LONG, f).unwrap();
    match is_simulated() {
        true => sim::run_here(Order::InTurn, 0, bounded),
        false => {
            let runtime = Runtime::builder().workers(1).build().unwrap();
            runtime.run(bounded)
        }
    }
}

/// A server for `localhost`, and a client that believes it.
fn configs() -> (ServerConfig, ClientConfig) {
    configs_with(|builder| builder)
}

fn configs_with(
    settings: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (ServerConfig, ClientConfig) {
    let certificate = self_signed(["localhost"]).unwrap();
    let client = ClientConfig::builder().roots_pem(certificate.chain_pem());
    let server = settings(ServerConfig::builder().certificate(certificate));
    (server.build().unwrap(), client.build().unwrap())
}

type Pair = (Stream<TcpStream>, Stream<TcpStream>);

/// The ends of a connection, the client's first.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// A client and a server over TCP that have not shaken hands yet.
fn strangers((server, client): &(ServerConfig, ClientConfig)) -> Pair {
    let (to_server, to_client) = connected();
    (
        client.stream(to_server, "localhost").unwrap(),
        server.stream(to_client).unwrap(),
    )
}

fn acquainted(configs: &(ServerConfig, ClientConfig)) -> Pair {
    let (client, server) = strangers(configs);
    let (one, other) = maniple::join!(client.handshake().map(drop), server.handshake().map(drop));
    one.unwrap();
    other.unwrap();
    (client, server)
}

/// The TLS error of a call that failed.
#[track_caller]
fn tls_error<T: std::fmt::Debug>(result: io::Result<T>) -> Error {
    let error = result.unwrap_err();
    match Error::of(&error) {
        Some(error) => error.clone(),
        None => panic!("not about TLS: {error:?}"),
    }
}

#[test]
fn what_is_written_is_read_over_tcp_and_over_unix_sockets_and_in_plain_threads() {
    let configs = configs();
    let talk = |mut client: Box<dyn ReadWrite>, mut server: Box<dyn ReadWrite>| {
        let (asked, answered) = maniple::join!(
            {
                client.write_all(b"a question").unwrap();
                let mut answer = [0; 9];
                client.read_exact(&mut answer).unwrap();
                answer
            },
            {
                let mut question = [0; 10];
                server.read_exact(&mut question).unwrap();
                server.write_all(b"an answer").unwrap();
                question
            }
        );
        assert_eq!((&asked, &answered), (b"an answer", b"a question"));
    };
    in_a_runtime(|| {
        let (client, server) = strangers(&configs);
        talk(Box::new(client), Box::new(server));
        let (one, other) = UnixStream::pair().unwrap();
        let client = configs.1.stream(one, "localhost").unwrap();
        talk(Box::new(client), Box::new(configs.0.stream(other).unwrap()));
    });
    let (mut client, mut server) = strangers(&configs);
    std::thread::scope(|scope| {
        scope.spawn(move || client.write_all(b"from a thread").unwrap());
        let mut heard = [0; 13];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"from a thread");
    });
}

trait ReadWrite: Read + Write + Send {}

impl<S: Read + Write + Send> ReadWrite for S {}

#[test]
fn much_goes_both_ways_at_once_through_two_coroutines_an_end() {
    // More than the kernel's buffers hold, so that each writer waits for its reader.
    const MUCH: usize = 24 * 1024 * 1024;
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        let pattern = |seed: usize| move |at: usize| (at * 31 + at / 251 + seed) as u8;
        let send = |stream: &Stream<TcpStream>, seed| {
            let bytes: Vec<u8> = (0..MUCH).map(pattern(seed)).collect();
            let mut rest = &bytes[..];
            let mut size = 1;
            while !rest.is_empty() {
                let (piece, others) = rest.split_at(size.min(rest.len()));
                let mut writer = stream;
                writer.write_all(piece).unwrap();
                rest = others;
                size = size * 7 % 100_003 + 1;
            }
        };
        let receive = |stream: &Stream<TcpStream>, seed| {
            let mut reader = stream;
            let mut buffer = vec![0; 50_000];
            let (mut at, mut size) = (0, 1);
            while at < MUCH {
                let count = reader.read(&mut buffer[..size]).unwrap();
                assert!(count > 0);
                let is_right = (at..at + count)
                    .map(pattern(seed))
                    .eq(buffer[..count].iter().copied());
                assert!(is_right, "near byte {at}");
                at += count;
                size = size * 5 % 49_999 + 1;
            }
        };
        maniple::join!(
            send(&client, 1),
            receive(&client, 2),
            send(&server, 2),
            receive(&server, 1),
        );
    });
}

#[test]
fn halves_go_to_two_coroutines_and_the_connection_lasts_as_long_as_one() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        let (mut reader, mut writer) = server.split();
        let echoing = maniple::spawn(move || {
            let mut buffer = [0; 5];
            reader.read_exact(&mut buffer).unwrap();
            buffer
        });
        let mut client = &client;
        client.write_all(b"hello").unwrap();
        assert_eq!(&echoing.join().unwrap(), b"hello");
        // The reading half is gone.
        writer.write_all(b"bye").unwrap();
        drop(writer);
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert_eq!(all, "bye");
    });
}

#[test]
fn pieces_of_a_write_share_a_record() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        let long = vec![b'l'; 40_000];
        for pieces in [
            &[&b"head "[..], b"", b"body"][..],
            &[b"head", &long, b"tail"],
            &[&long, &long, b"", &long, b"tail"],
            &[b"", b"x"],
        ] {
            let whole = pieces.concat();
            let slices: Vec<io::IoSlice<'_>> =
                pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let mut writer = &client;
            let taken = writer.write_vectored(&slices).unwrap();
            assert_eq!(taken, whole.len().min(32 * 1024));
            let mut heard = vec![0; taken];
            // What fits one record is there at once.
            let count = (&server).read(&mut heard).unwrap();
            assert_eq!(count, taken.min(16 * 1024));
            (&server).read_exact(&mut heard[count..]).unwrap();
            assert!(heard == whole[..taken]);
        }
        assert_eq!((&client).write(&[]).unwrap(), 0);
    });
}

#[test]
fn what_an_idle_stream_holds_is_small() {
    // As large as its types; the buffers are with the worker.
    let size = std::mem::size_of::<Stream<TcpStream>>();
    assert!(size <= 2048, "{size}");
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        (&client).write_all(b"some").unwrap();
        (&server).read_exact(&mut [0; 4]).unwrap();
        assert!(!server.holds_input() && server.unsent() == 0);
        (&client).write_all(b"more").unwrap();
        server.wait_readable().unwrap();
        assert!(server.holds_input());
    });
}
