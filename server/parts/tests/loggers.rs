//! A logger that panics at every line: its lines are lost, and nothing else is.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use maniple::Runtime;
use maniple_parts::pool::Pool;

static LINES: AtomicUsize = AtomicUsize::new(0);

struct Broken;

impl log::Log for Broken {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("maniple_parts") {
            LINES.fetch_add(1, SeqCst);
            panic!("intended");
        }
    }

    fn flush(&self) {}
}

/// One test, since a process has one log.
#[test]
fn a_logger_that_panics_costs_a_pool_no_worker() {
    log::set_logger(&Broken).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let pool = Pool::builder("tested").workers(1).build().unwrap();
        for count in 1..4 {
            let ticket = pool.submit(|| -> u8 { panic!("intended") }).unwrap();
            assert!(ticket.join().is_err());
            assert_eq!(LINES.load(SeqCst), count);
        }
        assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
    });
}
