//! What the environment says of worlds: which are run, without what, and how much is told.

use std::thread;

use super::setting::Without;

/// Names the one seed that [`check`](super::check) is to run, in place of its own.
pub const SEED_VARIABLE: &str = "MANIPLE_SIM_SEED";

/// Says how many [`seeds`] there are, in place of what the test says.
pub const SEEDS_VARIABLE: &str = "MANIPLE_SIM_SEEDS";

/// With it set, checks whose turns are drawn go [by priorities](super::Order::Priorities) instead, with so many
/// changes.
pub const CHANGES_VARIABLE: &str = "MANIPLE_SIM_CHANGES";

/// If it is set, each turn of a coroutine, and each thing that is sent, is written to standard error.
pub const TRACE_VARIABLE: &str = "MANIPLE_SIM_TRACE";

/// Names a file: what happened in the seed that failed, or that was asked for, is drawn there, as SVG.
pub const DIAGRAM_VARIABLE: &str = "MANIPLE_SIM_DIAGRAM";

/// Names the one order that [`check_orders`](super::check_orders) is to run, in place of all.
pub const ORDER_VARIABLE: &str = "MANIPLE_SIM_ORDER";

/// Names what is left out of worlds, with commas between.
pub const WITHOUT_VARIABLE: &str = "MANIPLE_SIM_WITHOUT";

/// The seeds from 0 on, as many as the variable [`MANIPLE_SIM_SEEDS`](SEEDS_VARIABLE) says, or else `usual`: few where
/// many tests run, many at night.
///
/// # Examples
/// ```
/// # if std::env::var_os("MANIPLE_SIM_SEEDS").is_some() { return }
/// assert_eq!(maniple::sim::seeds(200), 0..200);
/// ```
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..number_in(SEEDS_VARIABLE).unwrap_or(usual)
}

pub(super) fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable} is {text:?}, and must be a number"),
    }
}

/// The line that runs it again, alone.
pub(super) fn to_see_again(variable: &str, value: &str) -> String {
    // The test harness names its threads after tests.
    let test = thread::current().name().unwrap_or("main").to_owned();
    let test = if test == "main" { String::new() } else { test };
    format!("to see it again: {variable}={value} cargo test {test}")
}

/// The order that the environment names.
pub(super) fn order() -> Option<Vec<u32>> {
    let text = std::env::var(ORDER_VARIABLE).ok()?;
    let choices: Result<_, _> = text.split('.').map(str::parse).collect();
    match choices {
        Ok(choices) => Some(choices),
        Err(_) => panic!("{ORDER_VARIABLE} is {text:?}, and must be numbers with dots between"),
    }
}

/// What the environment says is left out.
pub(super) fn without() -> Without {
    let text = std::env::var(WITHOUT_VARIABLE).unwrap_or_default();
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}
