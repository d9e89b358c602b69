//! A client and a server of std's on one worker: whether a program that is linked in some way suspends in its calls.
//! `.ci/linking` links it in each.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use maniple::{Runtime, cancel::CancelToken, spawn};

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
        maniple_hook::files::offload(use_files)?;
        std::io::Result::Ok(())
    })?;
    assert!(
        began.elapsed() < Duration::from_millis(10 * 200),
        "one after another"
    );
    println!("{} calls are hooked", maniple_hook::names().len());
    Ok(())
}

/// Calls with each number of arguments, among them those that C declares with any.
fn use_files() -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("maniple-links-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let (path, other) = (folder.join("file"), folder.join("other"));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    file.lock()?;
    file.write_all(b"kept")?;
    file.sync_all()?;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "kept");
    fs::rename(&path, &other)?;
    assert_eq!(fs::metadata(&other)?.len(), 4);
    let token = CancelToken::new();
    token.cancel();
    let cut = token.run(|| fs::remove_file(&other));
    let cut = cut
        .expect("it does not unwind")
        .expect_err("it is not made");
    assert_eq!(cut.raw_os_error(), Some(125), "ECANCELED");
    fs::remove_dir_all(&folder)
}
