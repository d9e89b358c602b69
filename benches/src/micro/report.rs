//! The tables of `micro`: a line for each row, a column for each engine, and who leads.

use std::fmt;

use serde::Serialize;

use super::{
    Engine, Measured, Options, Outcome, Run, name,
    row::{COUNTS, Row, THREAD_COUNTS},
};
use crate::stats::{self, Machine, Spread};

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) machine: Machine,
    pub(super) options: &'a Options,
    pub(super) tables: Vec<Table>,
    pub(super) runs: Vec<Run>,
}

/// All rows on so many workers.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    workers: u16,
    engines: Vec<Engine>,
    lines: Vec<Line>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    row: Row,
    title: String,
    /// In the order of the table's engines.
    figures: Vec<Option<Spread>>,
    /// The best peer's median over ours.
    lead: Option<f64>,
}

impl Table {
    pub(super) fn of(workers: u16, rows: &[Row], engines: &[Engine], runs: &[Run]) -> Self {
        let mut lines = Vec::new();
        for &row in rows {
            let own = |engine| {
                runs.iter()
                    .filter(move |run| run.row == row && run.engine == engine)
            };
            for (suffix, figure) in figures_of(row) {
                let spread = |&engine: &Engine| {
                    Spread::of(own(engine).filter_map(|run| match &run.outcome {
                        Outcome::Measured(measured) => Some(figure(measured)),
                        _ => None,
                    }))
                };
                let figures: Vec<_> = engines.iter().map(spread).collect();
                lines.push(Line {
                    row,
                    title: format!("{}{suffix}", name(row)),
                    lead: lead(engines, &figures),
                    figures,
                });
            }
        }
        let mut notes = missing(rows, engines, runs);
        let on_threads = |engine: &Engine| matches!(engine, Engine::Threads | Engine::Crossbeam);
        if engines.iter().any(on_threads) {
            notes.push(fewer_on_threads());
        }
        Self {
            workers,
            engines: engines.to_vec(),
            lines,
            notes,
        }
    }
}

type Figure = fn(&Measured) -> f64;

/// What a row shows, each with what its line's title adds to the row's name.
fn figures_of(row: Row) -> Vec<(&'static str, Figure)> {
    const MILLIS: f64 = COUNTS.sleepers as f64 / 1e6;
    match row {
        Row::Sleepers => vec![
            (", CPU ms of all", |measured| measured.cpu_nanos * MILLIS),
            (", wall ms of all", |measured| measured.wall_nanos * MILLIS),
        ],
        _ => vec![("", |measured| measured.wall_nanos)],
    }
}

fn lead(engines: &[Engine], figures: &[Option<Spread>]) -> Option<f64> {
    let best = |wanted: fn(Engine) -> bool| {
        engines
            .iter()
            .zip(figures)
            .filter(|&(&engine, _)| wanted(engine))
            .filter_map(|(_, figure)| figure.map(|figure| figure.median))
            .min_by(f64::total_cmp)
    };
    let own = best(|engine| engine == Engine::Maniple)?;
    Some(best(Engine::is_peer)? / own)
}

/// What each engine did not measure and why: a line for each reason.
fn missing(rows: &[Row], engines: &[Engine], runs: &[Run]) -> Vec<String> {
    let mut notes: Vec<(String, Vec<String>)> = Vec::new();
    for &engine in engines {
        for &row in rows {
            let of_both = |run: &&Run| run.row == row && run.engine == engine;
            let cause = |run: &Run| match &run.outcome {
                Outcome::NotRun(reason) => Some(format!("on {}: not run: {reason}", name(engine))),
                Outcome::Failed(cause) => Some(format!("on {} failed: {cause}", name(engine))),
                Outcome::Measured(_) => None,
            };
            let Some(cause) = runs.iter().filter(of_both).find_map(cause) else {
                continue;
            };
            match notes.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, rows)) => rows.push(name(row)),
                None => notes.push((cause, vec![name(row)])),
            }
        }
    }
    let line = |(cause, rows): (String, Vec<String>)| format!("{} {cause}", rows.join(", "));
    notes.into_iter().map(line).collect()
}

fn fewer_on_threads() -> String {
    let fewer = THREAD_COUNTS;
    format!(
        "threads do less: {} yields (by {} threads in place of {}), {} spawns, {} groups, \
         {} messages to and fro, {} streamed, {} over sockets, {} contended locks, {} meetings",
        fewer.yields,
        fewer.yielders,
        COUNTS.yielders,
        fewer.spawns,
        fewer.groups,
        fewer.messages,
        fewer.streamed,
        fewer.socket_messages,
        fewer.contended_locks,
        fewer.meetings,
    )
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.engines.iter().map(|&engine| name(engine)).collect();
        let mut header = vec!["operation"];
        header.extend(names.iter().map(String::as_str));
        header.push("best peer / maniple");
        let mut table = stats::Table::new(&header);
        for line in &self.lines {
            let mut cells = vec![line.title.clone()];
            let show = |figure: &Option<Spread>| figure.map(|figure| figure.show(1));
            let figures = line.figures.iter();
            cells.extend(figures.map(|figure| show(figure).unwrap_or("-".to_owned())));
            let lead = line.lead.map(|lead| format!("{lead:.2}"));
            cells.push(lead.unwrap_or("-".to_owned()));
            table.row(cells);
        }
        for note in &self.notes {
            table.note(note.clone());
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(row: Row, engine: Engine, outcome: Outcome) -> Run {
        let (workers, round) = (1, 1);
        Run {
            workers,
            row,
            round,
            engine,
            outcome,
        }
    }

    fn measured(wall_nanos: f64, cpu_nanos: f64) -> Outcome {
        Outcome::Measured(Measured {
            wall_nanos,
            cpu_nanos,
        })
    }

    const ENGINES: [Engine; 3] = [Engine::Maniple, Engine::May, Engine::Tokio];

    #[test]
    fn the_lead_is_over_the_best_peer() {
        let runs = [
            run(Row::Mutex, Engine::Maniple, measured(10.0, 0.0)),
            run(Row::Mutex, Engine::May, measured(25.0, 0.0)),
            run(Row::Mutex, Engine::Tokio, measured(40.0, 0.0)),
        ];
        let table = Table::of(1, &[Row::Mutex], &ENGINES, &runs);
        assert_eq!(table.lines[0].lead, Some(2.5));
        let own = [
            run(Row::Mutex, Engine::Maniple, measured(10.0, 0.0)),
            run(Row::Mutex, Engine::ManipleTracked, measured(30.0, 0.0)),
        ];
        let engines = [Engine::Maniple, Engine::ManipleTracked];
        let alone = Table::of(1, &[Row::Mutex], &engines, &own);
        assert_eq!(alone.lines[0].lead, None, "it is no peer of its own");
    }

    #[test]
    fn the_limit_has_a_column_and_is_no_peer() {
        let runs = [
            run(Row::Yield2, Engine::Maniple, measured(10.0, 0.0)),
            run(Row::Yield2, Engine::Tokio, measured(40.0, 0.0)),
            run(Row::Yield2, Engine::Limit, measured(2.5, 0.0)),
        ];
        let engines = [Engine::Maniple, Engine::Tokio, Engine::Limit];
        let table = Table::of(1, &[Row::Yield2], &engines, &runs);
        assert_eq!(table.lines[0].lead, Some(4.0));
        let text = table.to_string();
        assert!(text.contains(" limit | best peer / maniple |"), "{text}");
        assert!(text.contains("2.5 (2.5..2.5)"), "{text}");
    }

    #[test]
    fn sleepers_show_the_cpu_time_and_the_wall_time_of_all() {
        let runs = [run(Row::Sleepers, Engine::Tokio, measured(1200.0, 800.0))];
        let table = Table::of(1, &[Row::Sleepers], &ENGINES, &runs);
        let medians = table
            .lines
            .iter()
            .map(|line| line.figures[2].map(|figure| figure.median));
        assert_eq!(medians.collect::<Vec<_>>(), [Some(80.0), Some(120.0)]);
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let not_run = Outcome::NotRun("too many".to_owned());
        let failed = Outcome::Failed("it broke".to_owned());
        let runs = [
            run(Row::Timer, Engine::May, not_run),
            run(Row::Timer, Engine::Tokio, failed),
        ];
        let text = Table::of(1, &[Row::Timer], &ENGINES, &runs).to_string();
        assert!(text.contains("timer on may: not run: too many"), "{text}");
        assert!(text.contains("timer on tokio failed: it broke"), "{text}");
    }

    #[test]
    fn rows_that_an_engine_lacks_for_one_reason_share_a_note() {
        let lacks = |row| {
            let reason = Outcome::NotRun("it has none".to_owned());
            run(row, Engine::Tokio, reason)
        };
        let rows = [Row::Rendezvous, Row::ChannelMpmc];
        let table = Table::of(1, &rows, &ENGINES, &rows.map(lacks));
        assert_eq!(
            table.notes,
            ["rendezvous, channel-mpmc on tokio: not run: it has none"]
        );
    }
}
