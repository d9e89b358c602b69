//! Where the time of a keep-alive HTTP request of maniple-server goes.
//!
//! Three kinds of runs under the same load: as it comes, for the CPU time there is to explain; under callgrind,
//! for what runs in user space; and the limit with its system calls timed, for what the kernel takes.

mod parts;

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::parts::{Part, Parts};
use crate::{
    callgrind::{self, Counts, HINT},
    load::Seen,
    process::Child,
    servers::kernel::{Call, Timings},
    stats::{Machine, Table},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Keep-alive connections.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Requests at once on each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pipeline: u16,
    /// How long each run is measured.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
}

/// How long a server may take to listen, a load to connect, and callgrind to write what it saw.
const PATIENCE: Duration = Duration::from_secs(60);

/// Before a run at full speed is measured.
const WARM_UP_SECONDS: f64 = 0.5;

pub(crate) fn run(options: &Options) -> Result<()> {
    let &Options {
        connections,
        pipeline,
        seconds,
    } = options;
    println!("{}", Machine::here(&["maniple-server"]));
    progress("at full speed");
    let (seen, _) = options
        .serve(
            Child::start(["serve", "maniple"])?,
            WARM_UP_SECONDS,
            seconds,
        )
        .context("the server as it comes")?;
    progress("its system calls");
    let (_, mut limit) = options
        .serve(
            Child::start(["serve", "epoll", "--timed"])?,
            WARM_UP_SECONDS,
            seconds,
        )
        .context("the limit with its calls timed")?;
    let timings: Timings =
        serde_json::from_str(&limit.line(PATIENCE)?).context("what the limit printed")?;
    progress("under callgrind");
    let parts = options
        .instructions()
        .context("the server under callgrind")?;
    progress("");
    println!("\n{connections} connections, {pipeline} at once on each, {seconds} s; per request\n");
    print!("{}", table(&seen, &timings, &parts));
    Ok(())
}

impl Options {
    /// Puts a server under load; what the load saw, and the server, which goes on.
    fn serve(&self, mut server: Child, warm_up: f64, seconds: f64) -> Result<(Seen, Child)> {
        let address = server.line(PATIENCE)?;
        let mut load = Child::start([
            "load".to_owned(),
            format!("--address={address}"),
            format!("--server={}", server.id()),
            format!("--connections={}", self.connections),
            format!("--pipeline={}", self.pipeline),
            format!("--warm-up-seconds={warm_up}"),
            format!("--seconds={seconds}"),
        ])?;
        let line = load.line(PATIENCE + Duration::from_secs_f64(warm_up + seconds))?;
        let seen = serde_json::from_str(&line).context("what the load printed")?;
        Ok((seen, server))
    }

    /// What runs in user space for a request. As starting and connecting must not count, it is what a longer
    /// run has more than a shorter one.
    fn instructions(&self) -> Result<Parts> {
        let (requests, shorter) = self.under_callgrind(self.seconds / 3.0)?;
        let (more_requests, longer) = self.under_callgrind(self.seconds)?;
        ensure!(
            more_requests > requests,
            "the longer run served less: the machine is too busy"
        );
        let requests = (more_requests - requests) as f64;
        let each = longer.each.iter().map(|(&place, &count)| {
            let before = shorter.each.get(&place).copied().unwrap_or(0);
            (place, (count as f64 - before as f64) / requests)
        });
        let mut parts = Parts::of(each)?;
        let libc = (longer.libc as f64 - shorter.libc as f64) / requests;
        parts.instructions.insert(Part::Libc, libc);
        Ok(parts)
    }

    fn under_callgrind(&self, seconds: f64) -> Result<(u64, Counts)> {
        let file = std::env::temp_dir().join(format!("maniple-budget.{}", std::process::id()));
        let program = callgrind::this_program()?;
        let mut command = callgrind::command(&program, &file, true);
        let server = Child::start_command(Stdio::null(), command.args(["serve", "maniple"]))
            .context(HINT)?;
        // What a warm-up served would be in the counts, but not among the requests.
        let (seen, server) = self.serve(server, 0.0, seconds)?;
        server.stop()?;
        let counts = Counts::read(&file, &program);
        // It is of no use to anybody else, in whatever state.
        let _ = std::fs::remove_file(&file);
        Ok((seen.requests, counts?))
    }
}

fn table(seen: &Seen, timings: &Timings, parts: &Parts) -> Table {
    let measured = seen.server_cpu_seconds * 1e6 / seen.requests as f64;
    let user = measured * (1.0 - seen.server_kernel_share);
    let calls = [
        (Call::Read, "kernel: read", timings.read),
        (Call::Write, "kernel: write", timings.write),
        (Call::Wait, "kernel: epoll_wait", timings.wait),
    ];
    let all: f64 = parts.instructions.values().sum();
    let mut table = Table::new(&["part", "calls", "instructions", "µs", "share"]);
    let mut sum = 0.0;
    let mut add = |title: &str, calls: Option<f64>, instructions: Option<f64>, us: f64| {
        sum += us;
        table.row(vec![
            title.to_owned(),
            calls.map_or(String::new(), |calls| format!("{calls:.3}")),
            instructions.map_or(String::new(), |count| format!("{count:.0}")),
            format!("{us:.3}"),
            format!("{:.1} %", us / measured * 100.0),
        ]);
        sum
    };
    for (call, title, timing) in calls {
        let calls = parts.calls.get(&call).copied().unwrap_or(0.0);
        add(title, Some(calls), None, calls * timing.mean_us());
    }
    let mut explained = 0.0;
    for part in Part::ALL {
        let instructions = parts.instructions.get(&part).copied().unwrap_or(0.0);
        explained = add(
            part.title(),
            None,
            Some(instructions),
            user * instructions / all,
        );
    }
    let of_all = |us: f64| format!("{:.1} %", us / measured * 100.0);
    for (title, instructions, us) in [
        ("sum", format!("{all:.0}"), explained),
        ("measured", String::new(), measured),
    ] {
        table.row(vec![
            title.into(),
            String::new(),
            instructions,
            format!("{us:.3}"),
            of_all(us),
        ]);
    }
    table.note(format!(
        "Of the measured CPU time {:.1} % was the kernel's ({:.3} µs), by the ticks of its clock.",
        seen.server_kernel_share * 100.0,
        measured - user,
    ));
    table.note(
        "Kernel: calls of this server, each at the mean CPU time of such a call in the epoll server under the same load."
            .to_owned(),
    );
    table.note(
        "User space: its measured CPU time, divided among the parts by instructions.".to_owned(),
    );
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::servers::kernel::Timing;

    #[test]
    fn parts_are_held_against_what_was_measured() {
        let seen = Seen {
            requests: 1_000_000,
            seconds: 10.0,
            server_cpu_seconds: 8.0,
            server_kernel_share: 0.75,
            load_cpu_seconds: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            max_us: 1.0,
        };
        let calls = |calls, nanos| Timing { calls, nanos };
        let timings = Timings {
            read: calls(10, 10_000),
            write: calls(10, 40_000),
            wait: calls(1, 2_000),
        };
        let parts = Parts {
            instructions: BTreeMap::from([(Part::Parse, 300.0), (Part::Route, 100.0)]),
            calls: BTreeMap::from([(Call::Read, 1.0), (Call::Write, 1.0), (Call::Wait, 0.1)]),
        };
        let text = table(&seen, &timings, &parts).to_string();
        let row = |title: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("| {title}")))
                .unwrap();
            line.split('|').map(str::trim).collect::<Vec<_>>().join("|")
        };
        assert_eq!(row("kernel: write"), "|kernel: write|1.000||4.000|50.0 %|");
        assert_eq!(
            row("kernel: epoll_wait"),
            "|kernel: epoll_wait|0.100||0.200|2.5 %|"
        );
        assert!(row("parse").ends_with("|300|1.500|18.8 %|"), "{text}");
        assert_eq!(row("sum"), "|sum||400|7.200|90.0 %|");
        assert_eq!(row("measured"), "|measured|||8.000|100.0 %|");
    }
}
