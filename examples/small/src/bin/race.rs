//! A race: the first success counts, and the others are cancelled at once.
//!
//! Try it: `cargo run --bin race`.

use std::{io, time::Duration};

use maniple::group;

fn ask(mirror: &str, milliseconds: u64) -> io::Result<String> {
    maniple::sleep(Duration::from_millis(milliseconds));
    match mirror {
        "broken" => Err(io::Error::other("broken")),
        _ => Ok(format!("{mirror}'s answer")),
    }
}

fn main() {
    maniple::run(|| {
        let mirrors = [("far", 200), ("broken", 1), ("near", 20)];
        let first = group::race(mirrors.map(|(mirror, time)| move || ask(mirror, time)));
        println!(
            "{}",
            first.unwrap_or_else(|errors| format!("all failed: {errors:?}"))
        );

        // Two of three must agree that a record is stored: the third is not waited for.
        let stored = group::quorum(2, [30, 10, 500].map(|time| move || ask("replica", time)));
        println!(
            "stored by {} of 3",
            stored.map_or(0, |answers| answers.len())
        );
    });
}
