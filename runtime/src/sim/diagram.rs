//! What has happened in a world, as a sequence diagram: hosts beside each other, time downwards, an arrow for each
//! thing that was sent.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use crate::driver::sim::{Entry, HostId, Moment};

/// What happened in a world: see [`record`](super::record).
#[derive(Clone, Debug)]
pub struct Record {
    hosts: Vec<String>,
    entries: Vec<Entry>,
}

const LEFT: usize = 130;
const LANE: usize = 300;
const TOP: usize = 50;
const ROW: usize = 22;
/// A picture with more rows is no longer one that anybody looks at.
const MOST_ROWS: usize = 2_000;

impl Record {
    pub(super) fn new(hosts: Vec<String>, entries: Vec<Entry>) -> Self {
        Self { hosts, entries }
    }

    /// A line for each turn, each thing that was sent and that arrived, and what hosts did.
    pub fn text(&self) -> String {
        let name = |host: HostId| self.name(host).to_owned();
        let mut text = String::new();
        for entry in &self.entries {
            _ = writeln!(text, "{}", entry.line(&name));
        }
        text
    }

    fn name(&self, host: HostId) -> &str {
        let name = self.hosts.get(host.0 as usize);
        name.map_or("nobody", String::as_str)
    }

    /// A sequence diagram, as SVG: a line for each host, and an arrow for each thing that was sent, from when it was
    /// sent to when it arrived; one that never did ends in a cross. Each thing that happened is a row, so distances
    /// downwards are no times; those stand on the left. Turns of coroutines are left out.
    pub fn svg(&self) -> String {
        let rows = self.rows();
        let width = LEFT + LANE * self.hosts.len();
        let height = TOP + ROW * (rows.len() + 2);
        let mut svg = String::new();
        _ = self.draw(&mut svg, &rows, (width, height));
        svg
    }

    /// What is drawn, a row each.
    fn rows(&self) -> Vec<&Entry> {
        let is_drawn = |entry: &&Entry| !matches!(entry.what, Moment::Turn { .. });
        self.entries
            .iter()
            .filter(is_drawn)
            .take(MOST_ROWS)
            .collect()
    }

    fn draw(
        &self,
        svg: &mut String,
        rows: &[&Entry],
        (width, height): (usize, usize),
    ) -> fmt::Result {
        let lane = |host: HostId| LEFT + LANE / 2 + LANE * (host.0 as usize).min(self.hosts.len());
        let level = |row: usize| TOP + ROW * (row + 1);
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"11\">"
        )?;
        writeln!(
            svg,
            "<defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\">\
             <path d=\"M0,0 L8,4 L0,8 z\"/></marker></defs>"
        )?;
        writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")?;
        for (number, name) in self.hosts.iter().enumerate() {
            let x = lane(HostId(number as u32));
            let name = escaped(name);
            writeln!(
                svg,
                "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\" font-weight=\"bold\">{name}</text>"
            )?;
            let end = height - ROW;
            writeln!(
                svg,
                "<line x1=\"{x}\" y1=\"30\" x2=\"{x}\" y2=\"{end}\" stroke=\"gray\"/>"
            )?;
        }
        let arrivals: BTreeMap<u64, (usize, bool)> = (rows.iter().enumerate())
            .filter_map(|(row, entry)| match entry.what {
                Moment::Came { number } => Some((number, (row, true))),
                Moment::Lost { number } => Some((number, (row, false))),
                _ => None,
            })
            .collect();
        for (row, entry) in rows.iter().enumerate() {
            let y = level(row);
            let at = Duration::from_nanos(entry.at);
            writeln!(
                svg,
                "<text x=\"8\" y=\"{}\" fill=\"gray\">{at:.3?}</text>",
                y + 4
            )?;
            match &entry.what {
                Moment::Sent {
                    number,
                    from,
                    to,
                    text,
                } => {
                    let arrival = arrivals.get(number).copied();
                    let (x1, x2) = (lane(*from), lane(*to));
                    arrow(
                        svg,
                        (x1, y),
                        (x2, arrival.map(|(row, _)| level(row))),
                        arrival,
                    )?;
                    let middle = if from == to { x1 + 60 } else { x1.midpoint(x2) };
                    let text = escaped(text);
                    writeln!(
                        svg,
                        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                        y - 4
                    )?;
                }
                Moment::Power { host, is_on } => {
                    let (x, color) = (lane(*host), if *is_on { "green" } else { "red" });
                    let text = if *is_on { "is back" } else { "stops" };
                    writeln!(
                        svg,
                        "<circle cx=\"{x}\" cy=\"{y}\" r=\"5\" fill=\"{color}\"/>\
                         <text x=\"{}\" y=\"{}\" fill=\"{color}\">{text}</text>",
                        x + 10,
                        y + 4
                    )?;
                }
                Moment::Said { host, text } => {
                    let text = escaped(text);
                    writeln!(
                        svg,
                        "<text x=\"{}\" y=\"{}\" font-style=\"italic\">{text}</text>",
                        lane(*host) + 10,
                        y + 4
                    )?;
                }
                Moment::Came { .. } | Moment::Lost { .. } | Moment::Turn { .. } => {}
            }
        }
        if rows.len() == MOST_ROWS {
            let y = height - ROW / 2;
            writeln!(
                svg,
                "<text x=\"8\" y=\"{y}\">and so on: the text has all of it</text>"
            )?;
        }
        writeln!(svg, "</svg>")
    }
}

/// From where it sets out to where it arrives, or to a cross half the way.
fn arrow(
    svg: &mut String,
    (x1, y1): (usize, usize),
    (x2, y2): (usize, Option<usize>),
    arrival: Option<(usize, bool)>,
) -> fmt::Result {
    match (arrival, y2) {
        (Some((_, true)), Some(y2)) if x1 == x2 => writeln!(
            svg,
            "<path d=\"M{x1},{y1} C{x},{y1} {x},{y2} {x1},{y2}\" fill=\"none\" stroke=\"black\" \
             marker-end=\"url(#tip)\"/>",
            x = x1 + 50
        ),
        (Some((_, true)), Some(y2)) => writeln!(
            svg,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"black\" marker-end=\"url(#tip)\"/>"
        ),
        _ => {
            let (x, y) = (x1.midpoint(x2) + usize::from(x1 == x2) * 25, y1 + ROW / 2);
            writeln!(
                svg,
                "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x}\" y2=\"{y}\" stroke=\"red\" stroke-dasharray=\"4\"/>\
                 <text x=\"{x}\" y=\"{}\" fill=\"red\" text-anchor=\"middle\">✕</text>",
                y + 4
            )
        }
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push('\u{FFFD}'),
            c => safe.push(c),
        }
    }
    safe
}
