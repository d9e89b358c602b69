//! The comparison as tables: one for each thing that is compared, a row for each model.

use super::{
    chat::{Chat, Stall},
    plan::Plan,
    row::{Cost, Figures, Load, Outcome, Row},
    tally::Seen,
    tree::Holdings,
};
use crate::{capacity::quantity::count, stats::Table};

/// A table and what stands above it.
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) table: Table,
}

/// All tables for which there are rows.
pub(super) fn sections(rows: &[Row], plan: &Plan) -> Vec<Section> {
    let http: Vec<&Row> = rows.iter().filter(|row| !row.serves_chat).collect();
    let chat: Vec<&Row> = rows.iter().filter(|row| row.serves_chat).collect();
    let mut sections = Vec::new();
    if !http.is_empty() {
        sections.extend([
            throughput(&http, plan),
            latency(&http, plan),
            cost(&http, plan),
            beyond(&http, plan),
        ]);
    }
    if !chat.is_empty() {
        sections.extend([fan_out(&chat, plan), stalled(&chat, plan)]);
    }
    sections
}

/// The load of which costs and latencies are shown: 256 connections, or the most below.
pub(super) fn usual(plan: &Plan) -> usize {
    let all = &plan.connections;
    let usual = all
        .iter()
        .copied()
        .filter(|&connections| connections <= USUAL);
    usual.max().or(all.iter().copied().min()).unwrap_or(USUAL)
}

fn throughput(rows: &[&Row], plan: &Plan) -> Section {
    let columns = plan
        .connections
        .iter()
        .map(|&connections| match connections {
            1 => "1 connection".to_owned(),
            _ => count(connections as u64),
        });
    let computing = format!("computing {} µs", plan.cpu_us);
    let header: Vec<String> = ["model", "lines of code", "start ms", "idle memory"]
        .map(str::to_owned)
        .into_iter()
        .chain(columns)
        .chain([computing])
        .collect();
    let mut table = Table::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        let mut cells = vec![
            row.name.to_owned(),
            row.lines_of_code.to_string(),
            number(row.start_up_ms, 1),
            row.idle.map_or_else(dash, |idle| bytes(idle.memory as f64)),
        ];
        let loads = plan
            .connections
            .iter()
            .map(|&connections| Load::Closed(connections));
        for load in loads.chain([Load::Cpu(plan.cpu_connections)]) {
            cells.push(row.load(|other| other == load).map_or_else(dash, rate));
        }
        table.row(cells);
    }
    Section {
        heading: "Answers a second, by connections (closed loop)".to_owned(),
        table,
    }
}

fn latency(rows: &[&Row], plan: &Plan) -> Section {
    let usual = usual(plan);
    let open = format!("{:.0}/s: p50", plan.per_second);
    let closed = format!("{usual} connections: p50");
    let mut table = Table::new(&["model", &open, "p99", "p99.9", &closed, "p99", "p99.9"]);
    for row in rows {
        let open = row.load(|load| matches!(load, Load::Open(_)));
        let closed = row.load(|load| load == Load::Closed(usual));
        let mut cells = vec![row.name.to_owned()];
        for outcome in [open, closed] {
            match outcome {
                Some(Outcome::Seen(Figures { seen, .. })) => {
                    cells.push(with_trouble(&number(seen.p50_ms, 1), seen));
                    cells.extend([seen.p99_ms, seen.p999_ms].map(|ms| number(ms, 1)));
                }
                Some(Outcome::Failed(cause)) => cells.extend([told(cause), dash(), dash()]),
                None => cells.extend([dash(), dash(), dash()]),
            }
        }
        table.row(cells);
    }
    Section {
        heading: format!(
            "Latency in ms, at {:.0} requests a second (open loop) and over {usual} connections (closed)",
            plan.per_second
        ),
        table,
    }
}

fn cost(rows: &[&Row], plan: &Plan) -> Section {
    let usual = usual(plan);
    let mut table = Table::new(&[
        "model",
        "CPU µs/request",
        "switches/request",
        "processes",
        "threads",
        "descriptors",
        "memory",
        "memory/connection",
    ]);
    for row in rows {
        let mut cells = vec![row.name.to_owned()];
        match row.load(|load| load == Load::Closed(usual)) {
            Some(Outcome::Seen(figures)) => {
                cells.extend(costs(figures.cost));
                cells.extend(holdings(figures.holdings));
            }
            Some(Outcome::Failed(cause)) => cells.push(told(cause)),
            None => cells.push(dash()),
        }
        cells.resize(7, dash());
        cells.push(row.memory_per_connection().map_or_else(dash, bytes));
        table.row(cells);
    }
    Section {
        heading: format!("What it takes, over {usual} connections"),
        table,
    }
}

fn beyond(rows: &[&Row], plan: &Plan) -> Section {
    let mut table = Table::new(&[
        "model",
        "peak/s",
        "offered/s",
        "in time/s",
        "in time %",
        "p99 ms",
        "what breaks first",
        "what else",
        "answers again",
    ]);
    for row in rows {
        let mut cells = vec![
            row.name.to_owned(),
            row.peak()
                .map_or_else(dash, |peak| count(peak.round() as u64)),
        ];
        match row.load(|load| matches!(load, Load::Beyond(_))) {
            Some(Outcome::Seen(Figures {
                seen,
                beyond: Some(beyond),
                ..
            })) => cells.extend([
                count(beyond.offered_per_second.round() as u64),
                count(seen.per_second.round() as u64),
                format!("{:.0}", beyond.answered_share * 100.0),
                number(seen.p99_ms, 0),
                told(&beyond.verdict.to_string()),
                seen.trouble().as_deref().map_or_else(dash, told),
                match beyond.afterwards_ms {
                    Some(ms) => format!("after {ms:.0} ms"),
                    None => format!("not within {} s", plan.recovery.as_secs()),
                },
            ]),
            Some(Outcome::Failed(cause)) => cells.push(told(cause)),
            _ => cells.push("it has no peak".to_owned()),
        }
        cells.resize(9, dash());
        table.row(cells);
    }
    Section {
        heading: format!(
            "Beyond capacity: {} times its own peak, open loop",
            plan.beyond
        ),
        table,
    }
}

fn fan_out(rows: &[&Row], plan: &Plan) -> Section {
    let mut table = Table::new(&[
        "model",
        "lines of code",
        "start ms",
        "lines/s",
        "CPU µs/line",
        "switches/line",
        "processes",
        "threads",
        "descriptors",
        "memory",
        "memory/member",
        "p50 ms",
        "p99 ms",
    ]);
    for row in rows {
        let mut cells = vec![
            row.name.to_owned(),
            row.lines_of_code.to_string(),
            number(row.start_up_ms, 1),
        ];
        match &row.chat {
            Some(Outcome::Seen(Chat { crowd, .. })) => {
                cells.push(count(crowd.lines_per_second.round() as u64));
                cells.extend(costs(crowd.cost));
                cells.extend(holdings(crowd.holdings));
                cells.push(crowd.memory_per_member.map_or_else(dash, bytes));
                cells.extend([number(crowd.p50_ms, 2), number(crowd.p99_ms, 2)]);
            }
            Some(Outcome::Failed(cause)) => cells.push(told(cause)),
            None => {}
        }
        cells.resize(13, dash());
        table.row(cells);
    }
    Section {
        heading: format!(
            "Chat: lines delivered in a room of {}, and latency at {:.0} messages a second",
            plan.chat.members, plan.chat.per_second
        ),
        table,
    }
}

fn stalled(rows: &[&Row], plan: &Plan) -> Section {
    let mut table = Table::new(&[
        "model",
        "lines/s before",
        "lines/s during",
        "what becomes of it",
        "MB said",
        "memory grew by",
    ]);
    for row in rows {
        let mut cells = vec![row.name.to_owned()];
        match &row.chat {
            Some(Outcome::Seen(Chat { stall, .. })) => match stall {
                Outcome::Seen(stall) => cells.extend(stall_cells(stall)),
                Outcome::Failed(cause) => cells.push(told(cause)),
            },
            Some(Outcome::Failed(cause)) => cells.push(told(cause)),
            None => {}
        }
        cells.resize(6, dash());
        table.row(cells);
    }
    Section {
        heading: format!(
            "Chat: {} members, beside whom one stops reading",
            plan.chat.few
        ),
        table,
    }
}

pub(super) fn stall_cells(stall: &Stall) -> [String; 5] {
    [
        count(stall.before.round() as u64),
        count(stall.during.round() as u64),
        stall.fate.to_string(),
        format!("{:.1}", stall.bytes as f64 / 1e6),
        bytes(stall.memory as f64),
    ]
}

/// Answers a second, and what went wrong beside them.
fn rate(outcome: &Outcome<Figures>) -> String {
    match outcome {
        Outcome::Seen(Figures { seen, .. }) => {
            with_trouble(&count(seen.per_second.round() as u64), seen)
        }
        Outcome::Failed(cause) => told(cause),
    }
}

pub(super) fn with_trouble(text: &str, seen: &Seen) -> String {
    match (seen.answered, seen.trouble()) {
        (0, trouble) => trouble.unwrap_or_else(|| "no answer".to_owned()),
        (_, Some(trouble)) => format!("{text} ({trouble})"),
        (_, None) => text.to_owned(),
    }
}

pub(super) fn costs(cost: Option<Cost>) -> [String; 2] {
    match cost {
        Some(cost) => [
            format!("{:.1}", cost.cpu_us),
            match cost.more_switches {
                true => format!("≥ {:.1}", cost.switches),
                false => format!("{:.1}", cost.switches),
            },
        ],
        None => [dash(), dash()],
    }
}

pub(super) fn holdings(holdings: Option<Holdings>) -> [String; 4] {
    match holdings {
        Some(holdings) => [
            count(holdings.processes as u64),
            count(holdings.threads as u64),
            count(holdings.descriptors as u64),
            bytes(holdings.memory as f64),
        ],
        None => [dash(), dash(), dash(), dash()],
    }
}

/// A cause, as a cell has room for it.
fn told(cause: &str) -> String {
    let cause = cause.replace('|', "/");
    let words: Vec<&str> = cause.split_whitespace().collect();
    let cause = words.join(" ");
    match cause.char_indices().nth(LONGEST_CAUSE) {
        Some((at, _)) => format!("{}…", &cause[..at]),
        None => cause,
    }
}

pub(super) fn number(figure: Option<f64>, decimals: usize) -> String {
    figure.map_or_else(dash, |figure| format!("{figure:.decimals$}"))
}

pub(super) fn bytes(count: f64) -> String {
    match count {
        ..10_240.0 => format!("{:.1} KiB", count / 1024.0),
        ..1_048_576.0 => format!("{:.0} KiB", count / 1024.0),
        _ => format!("{:.1} MiB", count / 1_048_576.0),
    }
}

pub(super) fn dash() -> String {
    "-".to_owned()
}

const USUAL: usize = 256;
const LONGEST_CAUSE: usize = 100;

#[cfg(test)]
mod tests {
    use super::{
        super::{
            row::tests::{figures, row},
            tally::{Failure, Failures},
            verdict::{Beyond, Verdict},
        },
        *,
    };

    fn plan() -> Plan {
        Plan::new(Some(vec![16, 256, 2048]), Some(1.0), true)
    }

    fn all(rows: &[Row]) -> String {
        let sections = sections(rows, &plan());
        sections
            .iter()
            .map(|section| section.table.to_string())
            .collect()
    }

    #[test]
    fn what_a_model_could_not_do_stands_in_its_cell() {
        let mut starving = figures(812.0, 0);
        starving.seen.starved = 1024;
        let mut refused = figures(0.0, 0);
        refused.seen.answered = 0;
        refused.seen.failures = vec![Failures {
            kind: Failure::Refused,
            count: 7,
            first_seconds: 0.0,
        }];
        let mut beyond = figures(400.0, 0);
        let verdict = Verdict::Died("killed by signal 9: a | b".into());
        beyond.beyond = Some(Beyond::of(1624.0, &beyond.seen, verdict, None));
        let text = all(&[row(vec![
            (Load::Closed(16), Outcome::Seen(refused)),
            (
                Load::Closed(256),
                Outcome::Failed("exited with 1: no\nmore".into()),
            ),
            (Load::Closed(2048), Outcome::Seen(starving)),
            (Load::Beyond(1624.0), Outcome::Seen(beyond)),
        ])]);
        for part in [
            "| 7 refused |",
            "| exited with 1: no more |",
            "| 812 (1024 never answered) |",
            "| ended: killed by signal 9: a / b |",
            " 1,624 |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("lines/s"), "{text}");
    }

    #[test]
    fn costs_are_those_of_the_usual_load() {
        let text = all(&[row(vec![
            (Load::Closed(256), Outcome::Seen(figures(500.0, 20_000))),
            (
                Load::Closed(2048),
                Outcome::Seen(figures(500.0, 1000 + 2048 * 3072)),
            ),
        ])]);
        for part in ["| 33.3 |", "| 2.0 |", "| 3.0 KiB |", "| 55.5 |"] {
            assert!(text.contains(&part.replace("| ", " ")), "{part}: {text}");
        }
        assert_eq!(usual(&plan()), 256);
        assert_eq!(usual(&Plan::new(Some(vec![900]), None, true)), 900);
    }

    #[test]
    fn every_row_has_all_cells() {
        for loads in [
            vec![],
            vec![(Load::Closed(256), Outcome::Failed("no".into()))],
        ] {
            let text = all(&[row(loads)]);
            for block in text.split("| model").skip(1) {
                let bars: Vec<usize> = block
                    .lines()
                    .map(|line| line.matches('|').count())
                    .collect();
                assert!(
                    bars[1..].iter().all(|&count| count == bars[0] + 1),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(512.0), "0.5 KiB");
        assert_eq!(bytes(20_480.0), "20 KiB");
        assert_eq!(bytes(3e6), "2.9 MiB");
        assert_eq!(told(&"x".repeat(200)).chars().count(), 101);
    }
}
