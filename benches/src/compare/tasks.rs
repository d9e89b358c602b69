//! Servers that do more than say hello, each task beside the server that is known for it: by CPU time per request, and by the
//! memory that the server needed at most.

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    pair::Served,
    rows::{self, Figures, Row, Run},
};
use crate::{
    capacity::limits::field,
    load::Seen,
    servers::{Name, nginx},
    stats::{Spread, Table},
    task::{FILES, Task, note_of},
    terminal::progress,
};

/// How long, how often, and for how many connections each is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) seconds: f64,
    pub(super) warm_up: f64,
    pub(super) rounds: u16,
    pub(super) connections: u16,
}

/// Who does a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Contender {
    Maniple,
    /// maniple's handler without the chain around it.
    Bare,
    Axum,
    Nginx,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Maniple => "maniple",
            Self::Bare => "maniple, bare",
            Self::Axum => "axum",
            Self::Nginx => "nginx",
        })
    }
}

impl Task {
    /// Whom maniple is held against.
    fn peer(self) -> Contender {
        match self {
            Self::Json => Contender::Axum,
            Self::Chain => Contender::Bare,
            Self::File | Self::LargeFile | Self::Gzip => Contender::Nginx,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Json => "1 KiB of JSON in and out, through extractors",
            Self::File => "a file of 64 KiB",
            Self::LargeFile => "a file of 4 MiB",
            Self::Chain => {
                "hello behind request ids, a timeout, a limit of concurrency and metrics"
            }
            Self::Gzip => "16 KiB of JSON, compressed by gzip (of level 6)",
        }
    }
}

/// What a round saw, and the most memory that the server had resident.
#[derive(Debug, Serialize)]
struct Worked {
    #[serde(flatten)]
    seen: Seen,
    most_resident: u64,
}

impl Figures for Worked {
    fn cpu_us(&self) -> f64 {
        self.seen.cpu_us()
    }

    fn per_second(&self) -> f64 {
        self.seen.per_second()
    }

    fn p50_us(&self) -> f64 {
        self.seen.p50_us
    }

    fn p99_us(&self) -> f64 {
        self.seen.p99_us
    }
}

/// A task with all rounds, for the JSON file.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    task: Task,
    rows: Vec<Row<Contender>>,
    most_resident: Vec<(Contender, Option<Spread>)>,
}

/// The files that are asked for; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("maniple-tasks-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        for (name, bytes) in FILES {
            let content = match name.ends_with(".json") {
                true => note_of(bytes).into_bytes(),
                false => (0..bytes).map(|at| (at % 251) as u8).collect(),
            };
            fs::write(path.join(name), content)?;
        }
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Does each task, and prints a table for it.
pub(super) fn run(effort: Effort, tasks: &[Task]) -> Result<Vec<Done>> {
    let folder = Folder::new()?;
    let mut all = Vec::new();
    for &task in tasks {
        let peer = task.peer();
        if peer == Contender::Nginx && nginx::here().is_none() {
            println!("\n{}: left out, nginx is not installed", task.title());
            continue;
        }
        all.push(compare(effort, task, peer, &folder)?);
    }
    Ok(all)
}

fn compare(effort: Effort, task: Task, peer: Contender, folder: &Folder) -> Result<Done> {
    let contenders = [Contender::Maniple, peer];
    let mut runs: Vec<Run<Contender, Worked>> = Vec::new();
    for round in 1..=effort.rounds {
        for contender in contenders {
            progress(&format!(
                "{task:?}: round {round} of {}, {contender}",
                effort.rounds
            ));
            runs.push(Run {
                round,
                contender,
                outcome: measure(effort, task, contender, folder).into(),
            });
        }
    }
    progress("");
    let rows = contenders.map(|contender| Row::of(contender, peer, &runs));
    let most_resident = contenders.map(|contender| {
        let own = runs.iter().filter(|run| run.contender == contender);
        let most = own.filter_map(|run| Some(run.outcome.seen()?.most_resident as f64));
        (contender, Spread::of(most))
    });
    let (connections, rounds) = (effort.connections, effort.rounds);
    println!(
        "\n{}; {connections} connections, median (min..max) of {rounds} × {} s\n",
        task.title(),
        effort.seconds
    );
    print!(
        "{}",
        rows::table_against(&peer.to_string(), "server", "request", &rows)
    );
    let mut memory = Table::new(&["server", "most resident, MiB"]);
    for (contender, most) in &most_resident {
        let mib = most.map(|most| Spread {
            median: most.median / MIB,
            min: most.min / MIB,
            max: most.max / MIB,
        });
        let shown = mib.map_or("-".to_owned(), |mib| mib.show(1));
        memory.row(vec![contender.to_string(), shown]);
    }
    print!("\n{memory}");
    Ok(Done {
        task,
        rows: rows.into(),
        most_resident: most_resident.into(),
    })
}

const MIB: f64 = (1 << 20) as f64;

fn measure(effort: Effort, task: Task, contender: Contender, folder: &Folder) -> Result<Worked> {
    let named = clap::ValueEnum::to_possible_value(&task).context("a task without a name")?;
    let task = format!("--task={}", named.get_name());
    let mut arguments = vec![task.clone(), format!("--root={}", folder.0.display())];
    let mut served = match contender {
        Contender::Nginx => {
            let (child, address) = nginx::start(&folder.0)?;
            Served::of("nginx", child, address.to_string())
        }
        Contender::Bare => {
            arguments.push("--bare".to_owned());
            Served::start(Name::Maniple, &arguments)?
        }
        Contender::Maniple => Served::start(Name::Maniple, &arguments)?,
        Contender::Axum => Served::start(Name::Axum, &arguments)?,
    };
    let load = [
        format!("--connections={}", effort.connections),
        "--pipeline=1".to_owned(),
        format!("--warm-up-seconds={}", effort.warm_up),
        format!("--seconds={}", effort.seconds),
        task,
    ];
    let seen = served.under("load", &load, effort.warm_up + effort.seconds)?;
    let status = fs::read_to_string(format!("/proc/{}/status", served.process()))?;
    let most = field(&status, "VmHWM:").context("no VmHWM")?;
    Ok(Worked {
        seen,
        most_resident: most.0,
    })
}
