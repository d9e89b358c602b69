//! The program: one line hooks the calls of the client that its library uses.

use std::{net::TcpListener, time::Instant};

use maniple::{Runtime, group, spawn};
use maniple_library_between::{SLOW, ask, serve};

const REQUESTS: usize = 20;

fn main() -> std::io::Result<()> {
    maniple_hook::install!();
    let runtime = Runtime::builder().workers(1).build()?;
    let began = Instant::now();
    runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/", listener.local_addr()?);
        let server = spawn(move || serve(&listener, REQUESTS));
        let told = group::map(REQUESTS, 0..REQUESTS, |_| ask(&url).expect("an answer"));
        assert!(told.iter().all(|told| told == "hello"), "{told:?}");
        server.join().expect("it ends")
    })?;
    assert!(
        began.elapsed() < SLOW * REQUESTS as u32 / 2,
        "one after another"
    );
    println!("{} calls are hooked", maniple_hook::names().len());
    Ok(())
}
