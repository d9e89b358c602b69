//! A client and a server of std's on one worker: whether a program that is linked in some way suspends in its calls.
//! `.ci/linking` links it in each.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use maniple::{Runtime, spawn};

fn main() -> std::io::Result<()> {
    maniple_hook::install!();
    let runtime = Runtime::builder().workers(1).build()?;
    let began = Instant::now();
    runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = spawn(move || -> std::io::Result<()> {
            for stream in listener.incoming().take(10) {
                let mut stream = stream?;
                spawn(move || {
                    #[allow(clippy::disallowed_methods, reason = "it suspends, or this fails")]
                    std::thread::sleep(Duration::from_millis(200));
                    _ = stream.write_all(b"hello");
                });
            }
            Ok(())
        });
        let clients: Vec<_> = (0..10)
            .map(|_| {
                spawn(move || -> std::io::Result<()> {
                    let mut told = String::new();
                    TcpStream::connect(address)?.read_to_string(&mut told)?;
                    assert_eq!(told, "hello");
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.join().expect("it does not panic")?;
        }
        server.join().expect("it does not panic")?;
        assert!(("localhost", 80).to_socket_addrs()?.next().is_some());
        std::io::Result::Ok(())
    })?;
    assert!(
        began.elapsed() < Duration::from_millis(10 * 200),
        "one after another"
    );
    println!("{} calls are hooked", maniple_hook::names().len());
    Ok(())
}
