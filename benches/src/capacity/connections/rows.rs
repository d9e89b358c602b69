//! What every server was tried with and what came of it, as a table.

use anyhow::Result;
use serde::Serialize;

use super::attempt::Figures;
use crate::{capacity::quantity::count, servers::Name, stats::Table};

/// One server with one count.
#[derive(Debug, Serialize)]
pub(super) struct Attempt {
    pub(super) server: Name,
    #[serde(flatten)]
    pub(super) tried: Tried,
}

#[derive(Debug, Serialize)]
pub(super) struct Tried {
    pub(super) connections: usize,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Survived(Box<Figures>),
    Failed(String),
}

impl From<Figures> for Outcome {
    fn from(figures: Figures) -> Self {
        Self::Survived(Box::new(figures))
    }
}

/// Tries with half as many after each failure. All that was tried; the last has survived, unless none did.
pub(super) fn halve_until_it_survives(
    most: usize,
    mut attempt: impl FnMut(usize) -> Result<Outcome>,
) -> Vec<Tried> {
    let mut all = Vec::new();
    let mut connections = most;
    while connections > 0 {
        let outcome = attempt(connections);
        let survived = outcome.is_ok();
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        all.push(Tried {
            connections,
            outcome,
        });
        if survived {
            break;
        }
        connections /= 2;
    }
    all
}

/// A row for every attempt; causes of failures stand below.
pub(super) fn table(attempts: &[Attempt]) -> Table {
    let mut table = Table::new(&[
        "server",
        "connections",
        "RSS KiB",
        "page tables KiB",
        "sum KiB",
        "after requests KiB",
        "kernel KiB",
        "CPU µs/request",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "ramp s",
        "drain s",
    ]);
    let mut notes = vec![
        "RSS and page tables of the server's processes, and the kernel's memory for both ends, are for each idle \
         connection; the sum is taken again after the requests, with what they left behind."
            .to_owned(),
    ];
    for Attempt { server, tried } in attempts {
        let connections = count(tried.connections as u64);
        let mut cells = vec![server.to_string(), connections.clone()];
        match &tried.outcome {
            Outcome::Survived(figures) => {
                cells.extend(cells_of(figures));
                if figures.skipped > 0 {
                    notes.push(format!(
                        "{server} with {connections}: {} requests were not sent, since their connection still waited \
                         for an answer",
                        count(figures.skipped)
                    ));
                }
            }
            Outcome::Failed(cause) => {
                cells.resize(14, "-".to_owned());
                notes.push(format!("{server} failed with {connections}: {cause}"));
            }
        }
        table.row(cells);
    }
    notes.into_iter().for_each(|note| table.note(note));
    table
}

fn cells_of(figures: &Figures) -> [String; 12] {
    let kib = |bytes: f64| format!("{:.2}", bytes / 1024.0);
    let ms = |us: f64| format!("{:.2}", us / 1e3);
    let (resident, page_tables) = figures.held();
    [
        kib(resident),
        kib(page_tables),
        kib(resident + page_tables),
        kib(figures.served()),
        kib(figures.kernel()),
        format!("{:.2}", figures.cpu_us()),
        ms(figures.p50_us),
        ms(figures.p99_us),
        ms(figures.p999_us),
        ms(figures.max_us),
        format!("{:.1}", figures.ramp_seconds),
        format!("{:.1}", figures.drain_seconds),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use anyhow::bail;

    use super::*;
    use crate::{capacity::connections::meter::Kernel, memory::Memory};

    pub(in crate::capacity::connections) fn figures(connections: usize) -> Figures {
        let bytes = |each: u64| 1_000_000 + connections as u64 * each;
        let memory = |resident, page_tables| Memory {
            resident: bytes(resident),
            page_tables: bytes(page_tables),
        };
        let kernel = |buffers, slab| Kernel {
            buffers: bytes(buffers),
            slab: bytes(slab),
            ..Kernel::default()
        };
        Figures {
            connections,
            ramp_seconds: 1.25,
            drain_seconds: 0.5,
            memory_before: memory(0, 0),
            memory_held: memory(4096, 512),
            memory_served: memory(5120, 512),
            memory_drained: memory(0, 0),
            kernel_before: kernel(0, 0),
            kernel_held: kernel(1024, 9216),
            requests: 2000,
            skipped: 0,
            trickle_seconds: 2.0,
            server_cpu_seconds: 0.05,
            p50_us: 100.0,
            p99_us: 250.0,
            p999_us: 1500.0,
            max_us: 30_000.0,
            curve: Vec::new(),
        }
    }

    #[test]
    fn what_fails_is_tried_with_half_until_it_survives() {
        let tried = halve_until_it_survives(300_000, |connections| match connections {
            ..=80_000 => Ok(figures(connections).into()),
            _ => bail!("no more than 80,000"),
        });
        let counts: Vec<usize> = tried.iter().map(|tried| tried.connections).collect();
        assert_eq!(counts, [300_000, 150_000, 75_000]);
        assert!(matches!(tried[2].outcome, Outcome::Survived(_)));
    }

    #[test]
    fn what_never_survives_ends_at_one() {
        let tried = halve_until_it_survives(5, |_| bail!("no"));
        let counts: Vec<usize> = tried.iter().map(|tried| tried.connections).collect();
        assert_eq!(counts, [5, 2, 1]);
    }

    #[test]
    fn a_row_shows_memory_for_each_connection() {
        let attempt = Attempt {
            server: Name::Maniple,
            tried: Tried {
                connections: 10_000,
                outcome: figures(10_000).into(),
            },
        };
        let text = table(&[attempt]).to_string();
        let row = text.lines().nth(2).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let expected = [
            "", "maniple", "10,000", "4.00", "0.50", "4.50", "5.50", "10.00", "25.00", "0.10",
            "0.25", "1.50", "30.00", "1.2", "0.5", "",
        ];
        assert_eq!(cells, expected, "{text}");
    }

    #[test]
    fn a_failure_is_a_row_with_its_cause_below() {
        let tried = halve_until_it_survives(20, |connections| match connections {
            20 => bail!("threads ended: no more threads"),
            _ => {
                let mut figures = figures(connections);
                figures.skipped = 3;
                Ok(figures.into())
            }
        });
        let attempts: Vec<Attempt> = tried
            .into_iter()
            .map(|tried| Attempt {
                server: Name::Threads,
                tried,
            })
            .collect();
        let text = table(&attempts).to_string();
        assert!(
            text.contains("| threads |          20 |       - |"),
            "{text}"
        );
        assert!(
            text.contains("| threads |          10 |    4.00 |"),
            "{text}"
        );
        assert!(
            text.contains("threads failed with 20: threads ended: no more threads"),
            "{text}"
        );
        assert!(
            text.contains("threads with 10: 3 requests were not sent"),
            "{text}"
        );
    }
}
