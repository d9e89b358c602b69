//! The client's role: stays connected, whichever side starts first and however often the server goes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::backoff::Backoff;
use crate::session::Session;

#[derive(Debug, Args)]
pub struct Call {
    /// Whom to call
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7200")]
    pub server: SocketAddr,

    /// The pause between two pings
    #[arg(long, value_name = "MS", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,

    /// How long an answer may take before the server counts as lost
    #[arg(long, value_name = "MS", default_value_t = 500,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub silence: u64,

    /// The longest pause between two attempts to connect
    #[arg(long, value_name = "MS", default_value_t = 5000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub longest_pause: u64,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Calls for ever.
pub fn run(options: &Call) -> io::Result<()> {
    let silence = Duration::from_millis(options.silence);
    let longest = Duration::from_millis(options.longest_pause);
    let mut backoff = Backoff::new(FIRST_PAUSE..=longest, fastrand::Rng::new());
    loop {
        match Session::open(options.server, silence) {
            Ok(mut session) => {
                let (process, attempts) = (session.process, backoff.failures() + 1);
                println!("connected to process {process} at attempt {attempts}");
                // Not before the greeting: a server that dies as it starts is not to be called without pause.
                backoff.reset();
                let lost = session.beat(Duration::from_millis(options.every));
                println!("lost process {process}: {lost}");
                // All clients lost it at the same moment; the jitter keeps them from coming back at the same.
                maniple::sleep(backoff.first());
            }
            Err(error) => {
                let pause = backoff.failed();
                let attempt = backoff.failures();
                println!(
                    "attempt {attempt}: {error}; again in {} ms",
                    pause.as_millis()
                );
                maniple::sleep(pause);
            }
        }
    }
}
