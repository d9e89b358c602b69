//! Cuts a wait short that cannot return an error: ends well where there is unwinding, else with a line that says why.
//!
//! `.ci/run` builds it both ways.

use std::time::Duration;

struct ToStderr;

impl log::Log for ToStderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

fn main() {
    log::set_logger(&ToStderr).expect("no other logger is set");
    log::set_max_level(log::LevelFilter::Warn);
    let slept = maniple::run(|| {
        let nap = || maniple::sleep(Duration::from_secs(60));
        maniple::timeout(Duration::from_millis(5), nap)
    });
    println!("cut short: {}", slept.is_err());
}
