//! A program that is linked with this crate and does not install it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{Runtime, spawn};

#[test]
fn calls_block_their_worker_as_ever() {
    assert!(maniple_hook::names().contains(&"recv"), "it is linked");
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || {
        #[allow(clippy::disallowed_methods, reason = "a plain thread")]
        std::thread::sleep(Duration::from_millis(50));
        far.write_all(b"x").unwrap();
    });
    runtime.run(|| {
        let ran = Arc::new(AtomicBool::new(false));
        let theirs = ran.clone();
        let other = spawn(move || theirs.store(true, Ordering::Relaxed));
        near.read_exact(&mut [0]).unwrap();
        assert!(!ran.load(Ordering::Relaxed), "another had its turn");
        other.join().unwrap();
    });
    writer.join().unwrap();
}
