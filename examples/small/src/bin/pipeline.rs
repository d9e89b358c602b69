//! Channels: one stage makes work, four do it side by side, one gathers, and `select!` ends
//! it all after a while.
//!
//! Try it: `cargo run --bin pipeline`.

use std::time::Duration;

use maniple::{select, sync::channel};

fn main() {
    maniple::run(|| {
        let (orders, work) = channel::bounded(8); // who is ahead waits
        let (done, results) = channel::bounded(8);
        maniple::spawn(move || (1..=20_u64).try_for_each(|order| orders.send(order)));
        for _ in 0..4 {
            let (work, done) = (work.clone(), done.clone());
            maniple::spawn(move || {
                for order in work {
                    maniple::sleep(Duration::from_millis(5)); // a wait, as for a database
                    if done.send(order * order).is_err() {
                        return; // nobody gathers any more
                    }
                }
            });
        }
        drop(done); // the stages have theirs: the last one to end closes the channel

        let late = channel::after(Duration::from_secs(5));
        let mut sum = 0;
        loop {
            select! {
                recv(results) -> result => match result {
                    Ok(square) => sum += square,
                    Err(_) => break println!("sum of 20 squares: {sum}"),
                },
                recv(late) -> _ => break println!("late: {sum} so far"),
            }
        }
    });
}
