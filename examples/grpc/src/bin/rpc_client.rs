//! Calls without end, to the first of a few servers that is there; it may be started before them, and says who answers.
//!
//! Try it: `cargo run -p maniple-example-grpc --bin rpc_client -- 127.0.0.1:7000 127.0.0.1:7001`

use std::{
    env, io,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::CancelToken,
    signal::{SIGINT, SIGTERM, shutdown_signals},
};
use maniple_example_grpc::chat::{ChatRpcClient, Empty};
use maniple_rpc::Channel;

fn main() -> io::Result<()> {
    env_logger::init();
    let mut addresses = env::args().skip(1);
    let first = addresses
        .next()
        .unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let builder = Channel::builder(first)
        .heartbeat(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(30));
    let builder = addresses.fold(builder, |all, one| all.or(one));
    maniple::run(|| {
        let told = shutdown_signals(&[SIGTERM, SIGINT])?;
        let client = ChatRpcClient::new(builder.open()?);
        let (calls, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let (who, stop) = (Mutex::new(String::new()), CancelToken::new());
        maniple::group(|g| {
            for _ in 0..4 {
                g.spawn(|| {
                    while !stop.is_cancelled() {
                        calls.fetch_add(1, Ordering::Relaxed);
                        // Its `.proto` says that it may be called again, so it is, wherever it has got to.
                        match client.nothing(&Empty {}) {
                            Ok(reply) => {
                                let process = reply.metadata().get("process").unwrap_or_default();
                                let process = String::from_utf8_lossy(process);
                                let mut who = who.lock().unwrap();
                                if *who != process {
                                    println!("process {process} answers");
                                    *who = process.into_owned();
                                }
                            }
                            Err(status) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                                println!("failed: {status}");
                            }
                        }
                    }
                });
            }
            let told = told.recv();
            stop.cancel();
            told
        })?;
        println!(
            "{} calls, {} failed",
            calls.into_inner(),
            failed.into_inner()
        );
        Ok(())
    })
}
