//! Deadlines: all that a call does shares one, and an inner one can only be sooner.
//!
//! Try it: `cargo run --bin deadline`.

use std::time::{Duration, Instant};

use maniple::time::Elapsed;

/// Takes as long as the table is large.
fn query(table: &str) -> usize {
    maniple::sleep(Duration::from_millis(20 * table.len() as u64));
    table.len()
}

/// The user matters; the advertisement is left out if it does not come at once.
fn page() -> String {
    let advertisement = maniple::timeout(Duration::from_millis(50), || query("advertisements"));
    let user = query("user");
    match advertisement {
        Ok(rows) => format!("user: {user}, advertisement: {rows}"),
        Err(Elapsed { .. }) => format!("user: {user}, no advertisement"),
    }
}

fn main() {
    maniple::run(|| {
        for milliseconds in [1000, 100] {
            let began = Instant::now();
            let page = maniple::timeout(Duration::from_millis(milliseconds), page);
            let page = page.unwrap_or_else(|elapsed| format!("no page: {elapsed}"));
            println!(
                "within {milliseconds} ms: {page} (after {:.0?})",
                began.elapsed()
            );
        }
    });
}
