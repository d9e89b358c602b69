//! What all rounds say of each contender: a row with medians, and its ratio to the limit.

use std::fmt::Display;

use serde::Serialize;

use crate::{
    outcome::Outcome,
    stats::{Spread, Table},
};

/// One contender in one round.
#[derive(Debug, Serialize)]
pub(super) struct Run<C, S> {
    pub(super) round: u16,
    pub(super) contender: C,
    #[serde(flatten)]
    pub(super) outcome: Outcome<S>,
}

/// What was seen of a contender in one round.
pub(super) trait Figures {
    /// CPU time per operation.
    fn cpu_us(&self) -> f64;
    /// Operations per second.
    fn per_second(&self) -> f64;
    fn p50_us(&self) -> f64;
    fn p99_us(&self) -> f64;
}

/// One contender, over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct Row<C> {
    contender: C,
    pub(super) cpu_us: Option<Spread>,
    /// CPU time per operation over that of the limit in the same round.
    pub(super) ratio: Option<Spread>,
    pub(super) per_second: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    /// The cause of the first round that failed.
    pub(super) failed: Option<String>,
}

impl<C: Copy + Display + PartialEq> Row<C> {
    pub(super) fn of<S: Figures>(contender: C, limit: C, runs: &[Run<C, S>]) -> Self {
        let seen = |wanted: C| {
            runs.iter().filter_map(move |run| match &run.outcome {
                Outcome::Seen(seen) if run.contender == wanted => Some((run.round, seen)),
                _ => None,
            })
        };
        let spread =
            |figure: fn(&S) -> f64| Spread::of(seen(contender).map(|(_, seen)| figure(seen)));
        let ratios = seen(contender).filter_map(|(round, own)| {
            let (_, limit) = seen(limit).find(|(other, _)| *other == round)?;
            Some(own.cpu_us() / limit.cpu_us())
        });
        Self {
            contender,
            cpu_us: spread(S::cpu_us),
            ratio: Spread::of(ratios),
            per_second: spread(S::per_second),
            p50_us: spread(S::p50_us),
            p99_us: spread(S::p99_us),
            failed: runs.iter().find_map(|run| match &run.outcome {
                Outcome::Failed(cause) if run.contender == contender => Some(cause.clone()),
                _ => None,
            }),
        }
    }
}

/// The rows as a table, of contenders of that `kind` that do such operations; what failed stands below.
pub(super) fn table<C: Display>(kind: &str, operation: &str, rows: &[Row<C>]) -> Table {
    table_against("epoll", kind, operation, rows)
}

/// The same with ratios to that contender.
pub(super) fn table_against<C: Display>(
    limit: &str,
    kind: &str,
    operation: &str,
    rows: &[Row<C>],
) -> Table {
    let ratio = format!("× {limit}");
    let per_operation = format!("CPU µs/{operation}");
    let per_second = format!("{operation}s/s");
    let mut table = Table::new(&[
        kind,
        &per_operation,
        &ratio,
        &per_second,
        "p50 µs",
        "p99 µs",
    ]);
    let show = |spread: &Option<Spread>, decimals| {
        spread.map_or("-".to_owned(), |spread| spread.show(decimals))
    };
    for row in rows {
        table.row(vec![
            row.contender.to_string(),
            show(&row.cpu_us, 2),
            show(&row.ratio, 2),
            show(&row.per_second, 0),
            show(&row.p50_us, 0),
            show(&row.p99_us, 0),
        ]);
        if let Some(cause) = &row.failed {
            table.note(format!("{} failed: {cause}", row.contender));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU time per operation, and nothing else of interest.
    struct Cpu(f64);

    impl Figures for Cpu {
        fn cpu_us(&self) -> f64 {
            self.0
        }

        fn per_second(&self) -> f64 {
            500_000.0
        }

        fn p50_us(&self) -> f64 {
            1.0
        }

        fn p99_us(&self) -> f64 {
            2.0
        }
    }

    fn run(round: u16, contender: &'static str, cpu_us: f64) -> Run<&'static str, Cpu> {
        Run {
            round,
            contender,
            outcome: Outcome::Seen(Cpu(cpu_us)),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let runs = [
            run(1, "peer", 6.0),
            run(1, "limit", 3.0),
            run(2, "peer", 20.0),
            run(2, "limit", 5.0),
        ];
        let row = Row::of("peer", "limit", &runs);
        assert_eq!(row.ratio, Spread::of([2.0, 4.0]));
        assert_eq!(row.per_second.unwrap().median, 500_000.0);
        assert_eq!(Row::of("limit", "limit", &runs).ratio, Spread::of([1.0]));
    }

    #[test]
    fn a_contender_that_failed_has_a_row_with_the_cause() {
        let failed = Run {
            round: 1,
            contender: "threads",
            outcome: Outcome::<Cpu>::from(Err(anyhow::anyhow!("no more threads"))),
        };
        let rows = [Row::of("threads", "limit", &[failed])];
        let text = table("server", "request", &rows).to_string();
        assert!(text.contains("| threads | "), "{text}");
        assert!(text.contains("threads failed: no more threads"), "{text}");
    }
}
