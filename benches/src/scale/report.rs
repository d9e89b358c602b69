//! The tables and the figure of `scale`.

use super::{Engine, Operation, Outcome, Run, name};
use crate::{
    capacity::{
        plot::{Figure, Lines, Panel},
        quantity::count,
    },
    stats::{Spread, Table},
};

/// Nanoseconds of CPU time: a row for each number, a column for each engine.
pub(super) fn table(operation: Operation, engines: &[Engine], runs: &[Run]) -> Table {
    let names: Vec<String> = engines.iter().map(|engine| name(*engine)).collect();
    let title = format!("{}: CPU ns", operation.title());
    let header: Vec<&str> = std::iter::once(title.as_str())
        .chain(names.iter().map(String::as_str))
        .collect();
    let mut table = Table::new(&header);
    for &at in &counts(runs) {
        let cells = engines
            .iter()
            .map(|engine| match cost(runs, operation, *engine, at) {
                Some(spread) => spread.show(0),
                None => "-".to_owned(),
            });
        table.row(std::iter::once(count(at)).chain(cells).collect());
    }
    for run in runs {
        let at = run.point;
        match &run.outcome {
            Outcome::Measured(_) => {}
            Outcome::NotRun(reason) => table.note(format!("{at}: not run: {reason}")),
            Outcome::Failed(cause) => table.note(format!("{at}: failed: {cause}")),
        }
    }
    table
}

/// A panel for each operation, a line for each engine.
pub(super) fn figure(operations: &[Operation], engines: &[Engine], runs: &[Run]) -> Figure {
    let panel = |operation: &Operation| {
        let line = |engine: &Engine| {
            let costs = counts(runs).into_iter().filter_map(|at| {
                let spread = cost(runs, *operation, *engine, at)?;
                Some((at as f64, spread.median))
            });
            costs.collect()
        };
        Panel::Lines(Lines {
            x: "at a time".to_owned(),
            y: format!("CPU ns per {}", operation.title()),
            points: engines.iter().map(line).collect(),
        })
    };
    Figure {
        title: "Cost of one operation, by how many are at it".to_owned(),
        series: engines.iter().map(|engine| name(*engine)).collect(),
        panels: operations.iter().map(panel).collect(),
    }
}

fn counts(runs: &[Run]) -> Vec<u64> {
    let mut counts: Vec<u64> = runs.iter().map(|run| run.point.count).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn cost(runs: &[Run], operation: Operation, engine: Engine, at: u64) -> Option<Spread> {
    let of_cell = |run: &&Run| {
        let point = run.point;
        (point.operation, point.engine, point.count) == (operation, engine, at)
    };
    Spread::of(
        runs.iter()
            .filter(of_cell)
            .filter_map(|run| match &run.outcome {
                Outcome::Measured(measured) => Some(measured.cpu_nanos),
                _ => None,
            }),
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::point::{Measured, Point},
        *,
    };

    fn run(engine: Engine, count: u64, outcome: Outcome) -> Run {
        let operation = Operation::Yield;
        Run {
            round: 1,
            point: Point {
                engine,
                operation,
                count,
                rounds: None,
            },
            outcome,
        }
    }

    fn measured(cpu_nanos: f64) -> Outcome {
        Outcome::Measured(Measured {
            cpu_nanos,
            wall_nanos: 9e9,
        })
    }

    fn runs() -> Vec<Run> {
        vec![
            run(Engine::Maniple, 10, measured(40.0)),
            run(Engine::Maniple, 10, measured(60.0)),
            run(Engine::May, 10, measured(70.0)),
            run(Engine::Maniple, 100_000, measured(90.0)),
            run(
                Engine::May,
                100_000,
                Outcome::NotRun("too few mappings".to_owned()),
            ),
        ]
    }

    #[test]
    fn a_row_has_what_each_engine_took_and_a_note_says_who_is_missing() {
        let text = table(Operation::Yield, &[Engine::Maniple, Engine::May], &runs()).to_string();
        let row = |begins: &str| text.lines().find(|line| line.starts_with(begins)).unwrap();
        assert!(row("| 10 ").contains("50 (40..60)"), "{text}");
        assert!(row("| 100,000 ").trim_end().ends_with("- |"), "{text}");
        assert!(
            text.contains("may, yield, 100,000: not run: too few mappings"),
            "{text}"
        );
    }

    #[test]
    fn a_line_has_the_points_that_were_measured() {
        let figure = figure(
            &[Operation::Yield],
            &[Engine::Maniple, Engine::May],
            &runs(),
        );
        let [Panel::Lines(lines)] = &figure.panels[..] else {
            panic!("one panel of lines");
        };
        assert_eq!(
            lines.points,
            [vec![(10.0, 50.0), (1e5, 90.0)], vec![(10.0, 70.0)]]
        );
    }
}
