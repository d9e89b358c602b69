//! What is logged, kept to be looked at.

use std::sync::{Mutex, Once};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps lines, and has `env_logger` write them.
struct Kept(env_logger::Logger);

impl log::Log for Kept {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
        if self.0.matches(record) {
            self.0.log(record);
        }
    }

    fn flush(&self) {}
}

pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let logger = env_logger::builder().is_test(true).build();
        log::set_boxed_logger(Box::new(Kept(logger))).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Whether a line has all of these.
pub fn has(texts: &[&str]) -> bool {
    let lines = LINES.lock().unwrap();
    let has_all = |line: &String| texts.iter().all(|text| line.contains(text));
    lines.iter().any(has_all)
}
