//! What all rounds say of each contender's latencies under a given rate.

use std::fmt::Display;

use serde::Serialize;

use super::rows::Run;
use crate::{
    load::open::Seen,
    outcome::Outcome,
    stats::{Spread, Table},
};

/// One contender, over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct Row<C> {
    contender: C,
    /// Requests a second whose latencies were counted.
    per_second: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    p999_us: Option<Spread>,
    max_us: Option<Spread>,
    /// 99th percentile over that of the limit in the same round.
    p99_ratio: Option<Spread>,
    /// CPU time of the server, in cores.
    server_cores: Option<Spread>,
    load_cores: Option<Spread>,
    /// How long after a request was due the load turned to it.
    late_p99_us: Option<Spread>,
    /// In how many rounds that says more of the load than of the server.
    late_rounds: usize,
    /// How many connections the most frequent thread served, or goroutine where none keeps to a thread.
    crowd: Option<Spread>,
    /// The cause of the first round that failed.
    failed: Option<String>,
}

impl<C: Copy + Display + PartialEq> Row<C> {
    pub(super) fn of(contender: C, limit: Option<C>, runs: &[Run<C, Seen>]) -> Self {
        let seen = |wanted: C| {
            runs.iter().filter_map(move |run| match &run.outcome {
                Outcome::Seen(seen) if run.contender == wanted => Some((run.round, seen)),
                _ => None,
            })
        };
        let spread =
            |figure: fn(&Seen) -> f64| Spread::of(seen(contender).map(|(_, seen)| figure(seen)));
        let ratios = seen(contender).filter_map(|(round, own)| {
            let (_, limit) = seen(limit?).find(|(other, _)| *other == round)?;
            Some(own.p99_us / limit.p99_us)
        });
        let crowds = seen(contender).filter_map(|(_, seen)| Some(seen.crowd? as f64));
        Self {
            contender,
            per_second: spread(|seen| seen.requests as f64 / seen.seconds),
            p50_us: spread(|seen| seen.p50_us),
            p99_us: spread(|seen| seen.p99_us),
            p999_us: spread(|seen| seen.p999_us),
            max_us: spread(|seen| seen.max_us),
            p99_ratio: Spread::of(ratios),
            server_cores: spread(|seen| seen.server_cpu_seconds / seen.seconds),
            load_cores: spread(|seen| seen.load_cpu_seconds / seen.seconds),
            late_p99_us: spread(|seen| seen.late_p99_us),
            late_rounds: seen(contender).filter(|(_, seen)| is_late(seen)).count(),
            crowd: Spread::of(crowds),
            failed: runs.iter().find_map(|run| match &run.outcome {
                Outcome::Failed(cause) if run.contender == contender => Some(cause.clone()),
                _ => None,
            }),
        }
    }

    /// Whether any round of it could be measured.
    pub(super) fn is_measured(&self) -> bool {
        self.p50_us.is_some()
    }
}

/// Whether the load was late by so much that its latencies say little about the server.
fn is_late(seen: &Seen) -> bool {
    seen.late_p99_us > (seen.p99_us * LATE_SHARE).max(LATE_US)
}

/// The rows as a table; what failed, and where the load was at fault, stands below. Without a limit there are no ratios.
pub(super) fn table<C: Display>(rows: &[Row<C>], limit: Option<C>) -> Table {
    let ratio = limit.map(|limit| format!("p99 × {limit}"));
    let mut header = vec!["server", "p50 µs", "p99 µs"];
    header.extend(ratio.as_deref());
    header.extend(["p99.9 µs", "max µs", "requests/s", "cores: server", "load"]);
    let mut table = Table::new(&header);
    let show = |spread: &Option<Spread>, decimals| {
        spread.map_or("-".to_owned(), |spread| spread.show(decimals))
    };
    let middle = |spread: &Option<Spread>, decimals: usize| {
        spread.map_or("-".to_owned(), |spread| {
            format!("{:.decimals$}", spread.median)
        })
    };
    for row in rows {
        let mut cells = vec![
            row.contender.to_string(),
            show(&row.p50_us, 0),
            show(&row.p99_us, 0),
        ];
        if ratio.is_some() {
            cells.push(show(&row.p99_ratio, 2));
        }
        cells.extend([
            show(&row.p999_us, 0),
            show(&row.max_us, 0),
            middle(&row.per_second, 0),
            middle(&row.server_cores, 2),
            middle(&row.load_cores, 2),
        ]);
        table.row(cells);
        for note in notes(row) {
            table.note(note);
        }
    }
    table
}

fn notes<C: Display>(row: &Row<C>) -> impl Iterator<Item = String> {
    let Row {
        contender,
        late_rounds,
        ..
    } = row;
    let crowd = row.crowd.map(|crowd| {
        let most = crowd.show(0);
        format!("{contender}: the most frequent thread, or goroutine, served {most} connections")
    });
    let late = row
        .late_p99_us
        .filter(|_| *late_rounds > 0)
        .map(|late| {
            let late = late.show(0);
            format!(
                "{contender}: in {late_rounds} of the rounds the load could not keep up and was late itself, p99 {late} µs: do not blame the server"
            )
        });
    let failed = row
        .failed
        .as_ref()
        .map(|cause| format!("{contender} failed: {cause}"));
    [crowd, late, failed].into_iter().flatten()
}

/// The load's own lateness may be so much of a latency,
const LATE_SHARE: f64 = 0.1;
/// or that much, which is what sending one request takes.
const LATE_US: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u16, contender: &'static str, p99_us: f64) -> Run<&'static str, Seen> {
        Run {
            round,
            contender,
            outcome: Outcome::Seen(Seen {
                requests: 1000,
                seconds: 2.0,
                server_cpu_seconds: 0.5,
                load_cpu_seconds: 0.25,
                p50_us: p99_us / 2.0,
                p99_us,
                p999_us: p99_us * 2.0,
                max_us: p99_us * 3.0,
                late_p99_us: 90.0,
                late_max_us: 100.0,
                crowd: None,
            }),
        }
    }

    #[test]
    fn tails_are_compared_within_a_round() {
        let runs = [
            run(1, "peer", 6000.0),
            run(1, "limit", 3000.0),
            run(2, "peer", 20000.0),
            run(2, "limit", 5000.0),
        ];
        let row = Row::of("peer", Some("limit"), &runs);
        assert_eq!(row.p99_ratio, Spread::of([2.0, 4.0]));
        assert_eq!(row.per_second.unwrap().median, 500.0);
        assert_eq!(row.server_cores.unwrap().median, 0.25);
        assert_eq!(Row::of("peer", None, &runs).p99_ratio, None);
        let text = table(&[row], Some("limit")).to_string();
        assert!(text.contains("p99 × limit"), "{text}");
        assert!(text.contains("3.00 (2.00..4.00)"), "{text}");
        assert!(!text.contains("keep up"), "{text}");
    }

    #[test]
    fn a_load_that_is_late_takes_the_blame() {
        // It is 90 µs late, which is much of 500 and little of 5000.
        let runs = [run(1, "peer", 500.0), run(2, "peer", 5000.0)];
        let text = table(&[Row::of("peer", None, &runs)], None).to_string();
        assert!(
            text.contains("peer: in 1 of the rounds the load could not keep up"),
            "{text}"
        );
        assert!(text.contains("p99 90 (90..90) µs"), "{text}");
    }

    #[test]
    fn a_contender_that_failed_has_a_row_with_the_cause() {
        let failed = Run {
            round: 1,
            contender: "threads",
            outcome: Outcome::from(Err(anyhow::anyhow!("no more threads"))),
        };
        let row = Row::of("threads", None, &[failed]);
        assert!(!row.is_measured());
        let text = table(&[row], None).to_string();
        assert!(text.contains("| threads | "), "{text}");
        assert!(text.contains("threads failed: no more threads"), "{text}");
    }
}
