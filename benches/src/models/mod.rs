//! The classic server models, measured side by side under the same loads.

mod book;
mod chat;
mod clients;
mod cost;
mod figures;
mod load;
mod plan;
mod question;
mod room;
mod row;
pub(crate) mod server;
mod subject;
mod tables;
mod tally;
mod tree;
mod verdict;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Result, ensure};
use clap::Args;
use maniple_models::{MODELS, Model};
use serde::Serialize;

use self::{plan::Plan, row::Row, tables::Section};
use crate::{
    json::JsonFile,
    process::raise_descriptor_limit,
    stats::Machine,
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// The models, by name; all if none is named.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = known)]
    only: Vec<String>,
    /// Connections of the closed loops; without it, 1,16,256,2048, or 16,256 with --quick.
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: Vec<u16>,
    /// How long each load is measured; without it 2.5, or 0.3 with --quick.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Fewer and shorter loads: to see that all works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A folder of the book's chapters: writes their tables to its `measured`, and the figures to the `img` beside it.
    #[arg(long, value_name = "DIR")]
    book: Option<PathBuf>,
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    plan: Plan,
    models: Vec<Row>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(0)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let plan = options.plan();
    let machine = Machine::here(&["maniple", "may", "tokio"]);
    println!("{machine}");
    server::adopt_orphans()?;
    server::go_first();
    let started = Instant::now();
    let models: Vec<&Model> = options.models().collect();
    let rows: Vec<Row> = models
        .iter()
        .enumerate()
        .map(|(index, model)| {
            let place = format!("{} of {}, {}", index + 1, models.len(), model.name);
            if !io::stderr().is_terminal() {
                eprintln!("{place}");
            }
            subject::measure(model, &plan, |load| progress(&format!("{place}: {load}")))
        })
        .collect();
    progress("");
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!("\n{} models in {minutes:.1} minutes", rows.len());
    let sections = tables::sections(&rows, &plan);
    for Section { heading, table } in &sections {
        print!("\n{heading}\n\n{table}");
    }
    if let Some(folder) = &options.book {
        let origin = book::origin(options, &plan, &machine);
        book::write(folder, &rows, &sections, &origin)?;
        figures::write(&folder.join("../img"), &rows, &plan)?;
    }
    let measured = rows.iter().any(Row::has_figures);
    file.write(&Report {
        machine,
        options,
        plan,
        models: rows,
    })?;
    ensure!(measured, "no model could be measured");
    Ok(())
}

impl Options {
    fn models(&self) -> impl Iterator<Item = &'static Model> {
        let wanted = |model: &&Model| {
            self.only.is_empty() || self.only.iter().any(|name| name == model.name)
        };
        MODELS.iter().filter(wanted)
    }

    fn plan(&self) -> Plan {
        let connections = self.connections.iter().map(|&count| usize::from(count));
        let connections = (!self.connections.is_empty()).then(|| connections.collect());
        Plan::new(connections, self.seconds, self.quick)
    }
}

/// The name of a model.
fn known(name: &str) -> Result<String, String> {
    let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
    match names.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("no such model; known are {}", names.join(", "))),
    }
}
