//! The figures as the book includes them: a file for each model, one with the whole comparison, and where they come from.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    Options,
    chat::Chat,
    plan::Plan,
    row::{Figures, Load, Outcome, Row},
    subject::name,
    tables::{Section, bytes, costs, dash, holdings, number, stall_cells, with_trouble},
    verdict::Beyond,
};
use crate::{
    capacity::quantity::count,
    stats::{Machine, Table},
};

/// Writes all files to `folder/measured`.
pub(super) fn write(folder: &Path, rows: &[Row], sections: &[Section], origin: &str) -> Result<()> {
    let folder = folder.join("measured");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let put = |name: &str, text: String| {
        let path = folder.join(name).with_extension("md");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    for row in rows {
        put(row.name, format!("{}\n{origin}\n", of_one(row)))?;
    }
    let all: String = sections
        .iter()
        .map(|Section { heading, table }| format!("### {heading}\n\n{table}\n"))
        .collect();
    put("all", format!("{all}{origin}\n"))
}

/// How and where figures came about, in a line.
pub(super) fn origin(options: &Options, plan: &Plan, machine: &Machine) -> String {
    let mut command = "cargo run --release -p maniple-bench -- models".to_owned();
    if options.quick {
        command += " --quick";
    }
    if !options.connections.is_empty() {
        let list: Vec<String> = options.connections.iter().map(u16::to_string).collect();
        command += &format!(" --connections {}", list.join(","));
    }
    if let Some(seconds) = options.seconds {
        command += &format!(" --seconds {seconds}");
    }
    let machine = machine.to_string().replace('\n', "; ");
    format!("`{command}`, {} s a load: {machine}.", plan.seconds)
}

/// All figures of one model.
fn of_one(row: &Row) -> String {
    let start = number(row.start_up_ms, 1);
    let idle = match row.idle {
        Some(idle) => format!(
            "before its first client it has {} processes, {} threads and {}",
            idle.processes,
            idle.threads,
            bytes(idle.memory as f64)
        ),
        None => "it could not be looked at before its first client".to_owned(),
    };
    let facts = format!(
        "{} lines of code; listens after {start} ms; {idle}.\n",
        row.lines_of_code
    );
    match &row.chat {
        Some(Outcome::Seen(chat)) => format!("{}\n{facts}", of_chat(chat)),
        Some(Outcome::Failed(cause)) => format!("It could not be measured: {cause}\n\n{facts}"),
        None => format!("{}\n{facts}{}", of_loads(row), of_beyond(row)),
    }
}

fn of_loads(row: &Row) -> Table {
    let mut table = Table::new(&[
        "load",
        "answers/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU µs/request",
        "switches/request",
        "processes",
        "threads",
        "descriptors",
        "memory",
    ]);
    for loaded in &row.loads {
        let mut cells = vec![name(loaded.load)];
        match &loaded.outcome {
            Outcome::Seen(Figures {
                seen,
                cost,
                holdings: held,
                ..
            }) => {
                let per_second = count(seen.per_second.round() as u64);
                cells.push(with_trouble(&per_second, seen));
                cells.extend([seen.p50_ms, seen.p99_ms, seen.p999_ms].map(|ms| number(ms, 1)));
                cells.extend(costs(*cost));
                cells.extend(holdings(*held));
            }
            Outcome::Failed(cause) => cells.push(cause.replace('|', "/").replace('\n', " ")),
        }
        cells.resize(11, dash());
        table.row(cells);
    }
    table
}

/// What the table does not say of the load beyond capacity.
fn of_beyond(row: &Row) -> String {
    let figures = row.load(|load| matches!(load, Load::Beyond(_)));
    let beyond = figures
        .and_then(Outcome::seen)
        .and_then(|figures| figures.beyond.as_ref());
    let Some(Beyond {
        answered_share,
        verdict,
        afterwards_ms,
        ..
    }) = beyond
    else {
        return String::new();
    };
    let afterwards = match afterwards_ms {
        Some(ms) => format!("{ms:.0} ms after the load it answered again"),
        None => "after the load it did not answer again".to_owned(),
    };
    let share = answered_share * 100.0;
    format!("Beyond capacity: {verdict}; {share:.0} % were answered in time; {afterwards}.\n")
}

fn of_chat(Chat { crowd, stall }: &Chat) -> String {
    let mut table = Table::new(&["figure", "value"]);
    let [cpu, switches] = costs(crowd.cost);
    let [processes, threads, descriptors, memory] = holdings(crowd.holdings);
    let mut say = |figure: String, value: String| table.row(vec![figure, value]);
    let members = crowd.members;
    say(
        format!("lines/s delivered to {members} members"),
        count(crowd.lines_per_second as u64),
    );
    say("CPU µs/line".into(), cpu);
    say("switches/line".into(), switches);
    say("processes".into(), processes);
    say("threads".into(), threads);
    say("descriptors".into(), descriptors);
    say("memory".into(), memory);
    say(
        "memory/member".into(),
        crowd.memory_per_member.map_or_else(dash, bytes),
    );
    say(
        "p50 ms from said to read, at a calm rate".into(),
        number(crowd.p50_ms, 2),
    );
    say("p99 ms".into(), number(crowd.p99_ms, 2));
    match stall {
        Outcome::Seen(stall) => {
            let names = [
                "lines/s in a room of few",
                "lines/s once one member does not read",
                "what becomes of that member",
                "MB said meanwhile",
                "memory grew by",
            ];
            for (name, value) in names.into_iter().zip(stall_cells(stall)) {
                say(name.into(), value);
            }
        }
        Outcome::Failed(cause) => say("with a member that does not read".into(), cause.clone()),
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            row::tests::{figures, row},
            verdict::Verdict,
        },
        *,
    };

    #[test]
    fn a_chapter_has_every_load_of_its_model() {
        let mut storm = figures(900.0, 0);
        let verdict = Verdict::Queued;
        let again = Some(std::time::Duration::from_millis(7));
        storm.beyond = Some(Beyond::of(1000.0, &storm.seen, verdict, again));
        let text = of_one(&row(vec![
            (Load::Closed(1), Outcome::Seen(figures(33.0, 5000))),
            (Load::Cpu(16), Outcome::Failed("exited with 1".into())),
            (Load::Beyond(1000.0), Outcome::Seen(storm)),
        ]));
        for part in [
            "| 1 connection ",
            "| exited with 1 |",
            "beyond capacity, 1000 a second",
            "listens after 2.5 ms",
            "queued; 100 % were answered in time; 7 ms after the load it answered again",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn files_are_written_where_chapters_include_them() {
        let folder = std::env::temp_dir().join(format!("lab-book-{}", std::process::id()));
        let rows = [row(Vec::new())];
        write(&folder, &rows, &[], "from here").unwrap();
        let read = |name: &str| fs::read_to_string(folder.join("measured").join(name)).unwrap();
        let (one, all) = (read(&format!("{}.md", rows[0].name)), read("all.md"));
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            one.contains("lines of code") && one.ends_with("\nfrom here\n"),
            "{one}"
        );
        assert_eq!(all, "from here\n");
    }
}
