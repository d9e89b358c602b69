//! Runs one of the server models.
//!
//! `model thread` serves at 127.0.0.1:8080, with backends of its own in another process; `model --list` tells which
//! models there are.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use maniple_models::{MODELS, Site, backends, find, site::end_with_parent, work::backend::COUNT};

/// One of the classic server models.
#[derive(Debug, Parser)]
#[command(name = "model")]
struct Options {
    /// Which model; `backends` runs A, B and C alone.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Says which models there are.
    #[arg(long)]
    list: bool,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where A, B and C are, divided by commas; without it they are started for this run, each on a free port.
    #[arg(long, value_delimiter = ',')]
    backends: Vec<SocketAddr>,
    /// Threads, processes or workers that may wait, in models with a fixed number of them.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    workers: u16,
    /// Threads that compute, and event loops; by default one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: Option<u16>,
    /// Ends when the process that started it does.
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("model: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.end_with_parent {
        end_with_parent().context("binding this process to its parent")?;
    }
    let name = match &options.name {
        Some(name) if !options.list => name.as_str(),
        _ => {
            let mut out = io::stdout().lock();
            for model in MODELS {
                let line = format!("{:2}  {:24} {}", model.number, model.name, model.title);
                // The reader may have seen enough.
                if writeln!(out, "{line}").is_err() {
                    break;
                }
            }
            return Ok(());
        }
    };
    if name == "backends" {
        let addresses = match options.backends[..] {
            [] => [SocketAddr::from(([127, 0, 0, 1], 0)); COUNT],
            _ => three(&options.backends)?,
        };
        return backends::serve(addresses).context("serving as the backends");
    }
    let model = find(name).with_context(|| {
        format!("there is no model {name:?}: `model --list` tells which there are")
    })?;
    // Held so that they end with this process.
    let (addresses, _own) = match options.backends[..] {
        [] => start_backends().map(|(addresses, own)| (addresses, Some(own)))?,
        _ => (three(&options.backends)?, None),
    };
    let site = Site {
        listen: options.listen,
        backends: addresses,
        workers: usize::from(options.workers),
        cores: match options.cores {
            Some(cores) => usize::from(cores),
            None => thread::available_parallelism().map_or(1, usize::from),
        },
    };
    (model.serve)(&site).with_context(|| format!("{} at {}", model.title, site.listen))
}

fn three(addresses: &[SocketAddr]) -> Result<[SocketAddr; COUNT]> {
    let count = addresses.len();
    addresses.try_into().with_context(|| {
        format!("--backends names {count} addresses, and there are {COUNT} backends")
    })
}

/// The backends, as a process that ends with this one.
fn start_backends() -> Result<([SocketAddr; COUNT], Child)> {
    let mut child = Command::new(std::env::current_exe().context("finding this program")?)
        .args(["backends", "--end-with-parent"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the backends")?;
    let mut line = String::new();
    let said = child.stdout.take().context("the backends say nothing")?;
    BufReader::new(said)
        .read_line(&mut line)
        .context("asking the backends where they are")?;
    let Some(list) = line.trim_end().strip_prefix("backends ") else {
        bail!("the backends did not start");
    };
    let addresses: Vec<SocketAddr> = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
    ensure!(!addresses.is_empty(), "the backends say no address");
    Ok((three(&addresses)?, child))
}
