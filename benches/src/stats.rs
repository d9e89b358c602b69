//! Medians and spreads, the tables that show them, and the machine that they hold for.

use std::{collections::BTreeMap, time::SystemTime};

use serde::Serialize;

/// Median, least and most of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of some figures, or `None` if there are none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }

    /// `median (min..max)` with so many decimals.
    pub(crate) fn show(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
    }
}

/// Rows of text that are printed as a Markdown table, aligned for reading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()],
            notes: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing stay empty.
    pub(crate) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.rows[0].len(), String::new());
        self.rows.push(cells);
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // The first column names, the others count.
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if index == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    match column {
                        0 => write!(f, "|:{}-|", "-".repeat(width))?,
                        _ => write!(f, "-{}:|", "-".repeat(width))?,
                    }
                }
                writeln!(f)?;
            }
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// Where, when and with what figures were taken.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: &'static str,
    /// Versions of the contenders' crates.
    crates: BTreeMap<&'static str, &'static str>,
    /// The version of Go that takes part, or that it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) go: Option<String>,
    date: String,
}

impl Machine {
    /// This machine, now, with the versions of `crates` that this binary was built from.
    pub(crate) fn here(crates: &[&'static str]) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: cpu_model(&read("/proc/cpuinfo"))
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: env!("BENCH_RUSTC_VERSION"),
            crates: crates
                .iter()
                .map(|&name| (name, locked_version(LOCK_FILE, name).unwrap_or("unknown")))
                .collect(),
            go: None,
            date: httpdate::fmt_http_date(SystemTime::now()),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cpu,
            cores,
            kernel,
            rustc,
            crates,
            go,
            date,
        } = self;
        writeln!(f, "{cpu}, {cores} cores, Linux {kernel}, {rustc}, {date}")?;
        let crates: Vec<String> = crates
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        write!(f, "{}", crates.join(", "))?;
        match go {
            Some(go) => write!(f, "\n{go}"),
            None => Ok(()),
        }
    }
}

const LOCK_FILE: &str = include_str!("../../Cargo.lock");

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// The version that a lock file holds of a crate.
fn locked_version<'a>(lock_file: &'a str, name: &str) -> Option<&'a str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let at = lock_file.find(&entry)? + entry.len();
    lock_file[at..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
    }

    #[test]
    fn a_spread_has_its_ends_and_its_middle() {
        let spread = Spread::of([9.0, 1.0, 5.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 5.0, 9.0));
        assert_eq!(spread.show(1), "5.0 (1.0..9.0)");
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_table_is_aligned_markdown() {
        let mut table = Table::new(&["server", "n"]);
        table.row(vec!["a".into(), "10".into()]);
        table.row(vec!["b".into()]);
        let expected = "| server |  n |\n|:-------|---:|\n| a      | 10 |\n| b      |    |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"may\"\nversion = \"0.3.51\"\n";
        assert_eq!(locked_version(lock, "may"), Some("0.3.51"));
        assert_eq!(locked_version(lock, "ma"), None);
        assert!(locked_version(LOCK_FILE, "hyper").is_some());
    }

    #[test]
    fn the_cpu_is_named() {
        assert_eq!(cpu_model("a\nmodel name\t: X 9\n"), Some("X 9"));
        assert_eq!(cpu_model(""), None);
    }
}
