//! The comparison as pictures: throughput by connections, what a request takes, and what it takes to write.

use std::path::Path;

use anyhow::Result;

use super::{
    plan::Plan,
    row::{Figures, Load, Outcome, Row},
    tables::usual,
};
use crate::capacity::plot::{Figure, Named, Panel, Ranks};

/// Writes all figures for which there are models.
pub(super) fn write(folder: &Path, rows: &[Row], plan: &Plan) -> Result<()> {
    if rows.iter().any(|row| !row.serves_chat) {
        throughput(rows, plan).write(folder, "models-throughput.svg")?;
        costs(rows, plan).write(folder, "models-costs.svg")?;
        code(rows, plan).write(folder, "models-code.svg")?;
    }
    if rows.iter().any(|row| row.serves_chat) {
        chat(rows).write(folder, "models-chat.svg")?;
    }
    Ok(())
}

/// What a model is made of, as it was seen under load.
const FAMILIES: [&str; 4] = [
    "several processes",
    "a thread per connection",
    "a pool of threads",
    "few threads",
];

fn family(processes: usize, threads: usize, connections: usize) -> usize {
    match (processes, threads) {
        (2.., _) => 0,
        (_, threads) if threads >= connections => 1,
        (_, threads) if threads > FEW_THREADS => 2,
        _ => 3,
    }
}

/// That of a row, from the load with which models are compared.
fn family_of(row: &Row, plan: &Plan) -> usize {
    let connections = usual(plan);
    let figures = row
        .load(|load| load == Load::Closed(connections))
        .and_then(Outcome::seen);
    let holdings = figures.and_then(|figures| figures.holdings).or(row.idle);
    holdings.map_or(FAMILIES.len() - 1, |held| {
        family(held.processes, held.threads, connections)
    })
}

/// A panel for each family, a line for each model.
fn throughput(rows: &[Row], plan: &Plan) -> Figure {
    let all: Vec<(f64, f64)> = rows.iter().flat_map(rates).collect();
    let panel = |wanted: usize| {
        let of_it = rows
            .iter()
            .filter(|row| !row.serves_chat && family_of(row, plan) == wanted);
        let lines: Vec<_> = of_it
            .map(|row| (row.name.to_owned(), wanted, rates(row)))
            .collect();
        (!lines.is_empty()).then(|| {
            Panel::Named(Named {
                x: "connections".to_owned(),
                y: "answers a second".to_owned(),
                lines,
                room_for: all.clone(),
            })
        })
    };
    Figure {
        title: "Answers a second in a closed loop, by connections".to_owned(),
        series: series(),
        panels: (0..FAMILIES.len()).filter_map(panel).collect(),
    }
}

/// Answers a second by connections.
fn rates(row: &Row) -> Vec<(f64, f64)> {
    let points = row.loads.iter().filter_map(|loaded| match loaded.load {
        Load::Closed(connections) => {
            let seen = &loaded.outcome.seen()?.seen;
            Some((connections as f64, seen.per_second))
        }
        _ => None,
    });
    points.collect()
}

fn costs(rows: &[Row], plan: &Plan) -> Figure {
    let connections = usual(plan);
    let ranks = |unit: &str, figure: &dyn Fn(&Row) -> Option<f64>| {
        let rows = rows.iter().filter(|row| !row.serves_chat);
        let rows = rows.filter_map(|row| {
            let figure = figure(row)?;
            Some((row.name.to_owned(), family_of(row, plan), figure))
        });
        Panel::Ranks(Ranks {
            unit: unit.to_owned(),
            rows: rows.collect(),
        })
    };
    let figures = |row: &Row, of: &dyn Fn(&Figures) -> Option<f64>| {
        row.load(|load| load == Load::Closed(connections))
            .and_then(Outcome::seen)
            .and_then(of)
    };
    Figure {
        title: format!("What an answer takes, over {connections} connections"),
        series: series(),
        panels: vec![
            ranks("CPU time, µs a request", &|row| {
                figures(row, &|figures| Some(figures.cost?.cpu_us))
            }),
            ranks("latency p99, ms", &|row| {
                figures(row, &|figures| figures.seen.p99_ms)
            }),
            ranks(
                "memory, bytes a connection, at the most connections",
                &|row| row.memory_per_connection(),
            ),
        ],
    }
}

/// Lines of code against CPU time.
fn code(rows: &[Row], plan: &Plan) -> Figure {
    let connections = usual(plan);
    let lines = rows.iter().filter_map(|row| {
        let load = row.load(|load| load == Load::Closed(connections))?;
        let cpu_us = load.seen()?.cost?.cpu_us;
        let point = (row.lines_of_code as f64, cpu_us);
        Some((row.name.to_owned(), family_of(row, plan), vec![point]))
    });
    Figure {
        title: format!("What a model takes to write and to run, over {connections} connections"),
        series: series(),
        panels: vec![Panel::Named(Named {
            x: "lines of code".to_owned(),
            y: "CPU time, µs a request".to_owned(),
            lines: lines.collect(),
            room_for: Vec::new(),
        })],
    }
}

fn chat(rows: &[Row]) -> Figure {
    let seen = || {
        let rows = rows.iter();
        rows.filter_map(|row| Some((row, row.chat.as_ref()?.seen()?)))
    };
    let mut stalls = Vec::new();
    for (row, chat) in seen() {
        if let Some(stall) = chat.stall.seen() {
            stalls.push((row.name.to_owned(), 0, stall.before));
            stalls.push((format!("{}, one stalled", row.name), 1, stall.during));
        }
    }
    let crowds = seen().map(|(row, chat)| (row.name.to_owned(), 0, chat.crowd.lines_per_second));
    let ranks = |unit: &str, rows| {
        Panel::Ranks(Ranks {
            unit: unit.to_owned(),
            rows,
        })
    };
    Figure {
        title: "Lines delivered a second in a chat room".to_owned(),
        series: vec!["all read".to_owned(), "one does not".to_owned()],
        panels: vec![
            ranks("a room of many", crowds.collect()),
            ranks("a room of few, before and while one stops reading", stalls),
        ],
    }
}

fn series() -> Vec<String> {
    FAMILIES.map(str::to_owned).to_vec()
}

/// More than loops, coroutine workers and what they keep beside themselves come to on a small machine.
const FEW_THREADS: usize = 16;

#[cfg(test)]
mod tests {
    use super::{
        super::row::tests::{figures, row},
        *,
    };

    #[test]
    fn families_are_told_by_what_was_seen() {
        assert_eq!(FAMILIES[family(257, 257, 256)], "several processes");
        assert_eq!(FAMILIES[family(1, 257, 256)], "a thread per connection");
        assert_eq!(FAMILIES[family(1, 65, 256)], "a pool of threads");
        assert_eq!(FAMILIES[family(1, 3, 256)], "few threads");
    }

    #[test]
    fn each_model_is_in_each_figure() {
        let plan = Plan::new(Some(vec![16, 256]), None, true);
        let loads = vec![
            (Load::Closed(16), Outcome::Seen(figures(400.0, 50_000))),
            (Load::Closed(256), Outcome::Seen(figures(5000.0, 90_000))),
        ];
        let rows = [row(loads)];
        for figure in [
            throughput(&rows, &plan),
            costs(&rows, &plan),
            code(&rows, &plan),
        ] {
            let svg = figure.svg().unwrap();
            assert!(svg.contains(rows[0].name), "{svg}");
            assert!(svg.contains("few threads"), "{svg}");
        }
        assert_eq!(rates(&rows[0]), [(16.0, 400.0), (256.0, 5000.0)]);
    }

    #[test]
    fn a_model_without_figures_is_left_out() {
        let plan = Plan::new(None, None, true);
        let rows = [row(vec![(Load::Closed(256), Outcome::Failed("no".into()))])];
        for figure in [
            throughput(&rows, &plan),
            costs(&rows, &plan),
            code(&rows, &plan),
        ] {
            figure.svg().unwrap();
        }
    }
}
