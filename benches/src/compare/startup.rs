//! HTTP servers by the time from their start to the first byte of their first answer.
//!
//! Each is this program started again, so that all have the same file to load, the same command line to parse, and
//! the same core to be pinned to: what differs is what each sets up.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::{http::CRATES, pair::Served, rows};
use crate::{
    go::enlist,
    json::JsonFile,
    memory::Memory,
    outcome::Outcome,
    servers::Name,
    stats::{Machine, Spread, Table},
    terminal::progress,
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// How often each server is started.
    #[arg(long, value_name = "N", default_value_t = 25)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The servers; all if none is named. Ratios need epoll.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Name>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One start.
#[derive(Debug, Serialize)]
struct Seen {
    /// Until it had told where it listens.
    listening_ms: f64,
    /// Until the first byte of its first answer had come.
    answered_ms: f64,
    /// Resident then.
    resident_bytes: u64,
}

type Run = rows::Run<Name, Seen>;

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    servers: Vec<Row>,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Row {
    server: Name,
    listening_ms: Option<Spread>,
    answered_ms: Option<Spread>,
    /// Until the first byte, over that of epoll in the same round.
    ratio: Option<Spread>,
    resident_mib: Option<Spread>,
    /// The cause of the first round that failed.
    failed: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&CRATES);
    let servers = enlist(&options.only, &Name::ALL, &[Name::Go], &mut machine);
    println!("{machine}");
    let runs = measure(options.rounds, &servers);
    let servers: Vec<Row> = servers
        .iter()
        .map(|&server| Row::of(server, &runs))
        .collect();
    let rounds = options.rounds;
    println!("\nfrom start to first answer; median (min..max) of {rounds}\n");
    print!("{}", table(&servers));
    file.write(&Report {
        machine,
        options,
        servers,
        runs,
    })
}

/// All rounds: A B C, A B C. One more comes first that is not counted: it reads the program from disk.
fn measure(rounds: u16, servers: &[Name]) -> Vec<Run> {
    let mut runs = Vec::new();
    for round in 0..=rounds {
        for &server in servers {
            progress(&format!("round {round} of {rounds}, {server}"));
            let outcome = start_once(server).into();
            if round > 0 {
                runs.push(Run {
                    round,
                    contender: server,
                    outcome,
                });
            }
        }
    }
    progress("");
    runs
}

fn start_once(server: Name) -> Result<Seen> {
    let started = Instant::now();
    let served = Served::start(server, &[])?;
    let listening = started.elapsed();
    let mut stream = TcpStream::connect(served.address()).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = [0; STATUS.len()];
    stream
        .read_exact(&mut answer[..1])
        .context("its first answer")?;
    let answered = started.elapsed();
    let memory = Memory::of(&[served.process()])?;
    stream.read_exact(&mut answer[1..])?;
    ensure!(answer == *STATUS, "it answers {}", answer.escape_ascii());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Seen {
        listening_ms: ms(listening),
        answered_ms: ms(answered),
        resident_bytes: memory.resident,
    })
}

const PATIENCE: Duration = Duration::from_secs(20);
const STATUS: &[u8; 12] = b"HTTP/1.1 200";

impl Row {
    fn of(server: Name, runs: &[Run]) -> Self {
        let seen = |wanted: Name| {
            runs.iter().filter_map(move |run| match &run.outcome {
                Outcome::Seen(seen) if run.contender == wanted => Some((run.round, seen)),
                _ => None,
            })
        };
        let spread =
            |figure: fn(&Seen) -> f64| Spread::of(seen(server).map(|(_, seen)| figure(seen)));
        let ratios = seen(server).filter_map(|(round, own)| {
            let (_, limit) = seen(Name::Epoll).find(|(other, _)| *other == round)?;
            Some(own.answered_ms / limit.answered_ms)
        });
        Self {
            server,
            listening_ms: spread(|seen| seen.listening_ms),
            answered_ms: spread(|seen| seen.answered_ms),
            ratio: Spread::of(ratios),
            resident_mib: spread(|seen| seen.resident_bytes as f64 / f64::from(1 << 20)),
            failed: runs.iter().find_map(|run| match &run.outcome {
                Outcome::Failed(cause) if run.contender == server => Some(cause.clone()),
                _ => None,
            }),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "server",
        "listens after ms",
        "first byte after ms",
        "× epoll",
        "resident MiB",
    ]);
    let show = |spread: &Option<Spread>, decimals| {
        spread.map_or("-".to_owned(), |spread| spread.show(decimals))
    };
    for row in rows {
        table.row(vec![
            row.server.to_string(),
            show(&row.listening_ms, 2),
            show(&row.answered_ms, 2),
            show(&row.ratio, 2),
            show(&row.resident_mib, 2),
        ]);
        if let Some(cause) = &row.failed {
            table.note(format!("{} failed: {cause}", row.server));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u16, contender: Name, outcome: Result<f64>) -> Run {
        let outcome = outcome.map(|answered_ms| Seen {
            listening_ms: answered_ms / 2.0,
            answered_ms,
            resident_bytes: 3 << 20,
        });
        Run {
            round,
            contender,
            outcome: outcome.into(),
        }
    }

    #[test]
    fn starts_are_compared_within_a_round() {
        let runs = [
            run(1, Name::Maniple, Ok(6.0)),
            run(1, Name::Epoll, Ok(3.0)),
            run(2, Name::Maniple, Ok(20.0)),
            run(2, Name::Epoll, Ok(5.0)),
        ];
        let row = Row::of(Name::Maniple, &runs);
        assert_eq!(row.ratio, Spread::of([2.0, 4.0]));
        assert_eq!(row.listening_ms, Spread::of([3.0, 10.0]));
        assert_eq!(row.resident_mib, Spread::of([3.0]));
    }

    #[test]
    fn a_server_that_does_not_start_has_a_row_with_the_cause() {
        let runs = [run(1, Name::Axum, Err(anyhow::anyhow!("address in use")))];
        let text = table(&[Row::of(Name::Axum, &runs)]).to_string();
        assert!(text.contains("| axum "), "{text}");
        assert!(text.contains("axum failed: address in use"), "{text}");
    }
}
