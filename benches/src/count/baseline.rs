//! The counts that are kept in the repository, what they were counted with, and what counts as a change.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Baseline {
    /// What made the counts.
    pub(super) build: Build,
    /// Counts may differ by this much,
    tolerance_percent: f64,
    /// or by this many, in paths so short that a single instruction is a few percent.
    tolerance_instructions: f64,
    pub(super) paths: BTreeMap<String, Count>,
}

/// Instructions of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Count {
    /// Of the program, with all that it is linked to statically.
    pub(super) own: f64,
    /// Of the C library: memory from `malloc`, moved memory, clocks.
    pub(super) libc: f64,
}

/// What counts depend on, beside the source and the lock file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Build {
    rustc: String,
    target: String,
    /// Flags beside the profile's.
    flags: String,
    libc: String,
}

impl Build {
    /// What a program says that it was built with, a line for each thing, and what it runs with here.
    pub(super) fn told(lines: &str) -> Option<Self> {
        let mut lines = lines.lines().map(str::to_owned);
        Some(Self {
            rustc: lines.next()?,
            target: lines.next()?,
            flags: lines.next()?,
            libc: libc_version(),
        })
    }

    /// Whether the same source gives the same code.
    pub(super) fn compares_to(&self, other: &Self) -> bool {
        (&self.rustc, &self.target, &self.flags) == (&other.rustc, &other.target, &other.flags)
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.rustc, self.target)?;
        if !self.flags.is_empty() {
            write!(f, " with {}", self.flags)?;
        }
        write!(f, ", C library {}", self.libc)
    }
}

#[cfg(target_env = "gnu")]
fn libc_version() -> String {
    // SAFETY: it returns a string that lives as long as the library.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_string_lossy().into_owned()
}

/// Part of the program, so that the compiler's version stands for it, too.
#[cfg(not(target_env = "gnu"))]
fn libc_version() -> String {
    "linked statically".to_owned()
}

impl Baseline {
    pub(super) fn new(build: Build) -> Self {
        Self {
            build,
            // What the compiler inlines changes a little with code elsewhere in a crate.
            tolerance_percent: 3.0,
            tolerance_instructions: 2.0,
            paths: BTreeMap::new(),
        }
    }

    pub(super) fn read(file: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// What is wrong with the counts that were seen of a path. Fewer instructions are wrong, too: the next
    /// regression could hide in the difference.
    pub(super) fn complaint(&self, name: &str, seen: Count, build: &Build) -> Option<String> {
        let Some(expected) = self.paths.get(name) else {
            return Some(format!("{name}: not in the baseline, {:.1} seen", seen.own));
        };
        let tell = |whose: &str, expected: f64, seen: f64| {
            let allowed =
                (expected * self.tolerance_percent / 100.0).max(self.tolerance_instructions);
            // Counts have one decimal, sums of them may be off by less.
            ((seen - expected).abs() > allowed + 0.01).then(|| {
                let verdict = if seen > expected { "more" } else { "fewer" };
                format!(
                    "{name}: {verdict} instructions{whose}: expected {expected:.1} ± {allowed:.1}, seen {seen:.1} ({:+.1} %)",
                    (seen / expected - 1.0) * 100.0
                )
            })
        };
        tell("", expected.own, seen.own).or_else(|| {
            // Other versions allocate and copy differently.
            let same = self.build.libc == build.libc;
            same.then(|| tell(" of the C library", expected.libc, seen.libc))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(rustc: &str, libc: &str) -> Build {
        Build {
            rustc: rustc.into(),
            target: "t".into(),
            flags: String::new(),
            libc: libc.into(),
        }
    }

    fn complaint(own: f64, libc: f64, version: &str) -> Option<String> {
        let mut baseline = Baseline::new(build("1", "2.36"));
        baseline.tolerance_percent = 3.0;
        let expected = Count {
            own: 1000.0,
            libc: 200.0,
        };
        baseline.paths.insert("spawn-join".into(), expected);
        baseline.complaint("spawn-join", Count { own, libc }, &build("1", version))
    }

    #[test]
    fn what_is_within_the_tolerance_is_no_change() {
        assert_eq!(complaint(1030.0, 206.0, "2.36"), None);
        assert_eq!(complaint(970.0, 194.0, "2.36"), None);
    }

    #[test]
    fn a_change_is_named_with_what_was_expected_and_seen() {
        let more = complaint(1031.0, 200.0, "2.36").unwrap();
        assert!(
            more.starts_with("spawn-join: more instructions: expected 1000.0 ± 30.0, seen 1031.0"),
            "{more}"
        );
        let fewer = complaint(900.0, 200.0, "2.36").unwrap();
        assert!(
            fewer.contains("fewer") && fewer.contains("-10.0 %"),
            "{fewer}"
        );
    }

    #[test]
    fn the_c_library_counts_where_it_is_the_same() {
        let more = complaint(1000.0, 300.0, "2.36").unwrap();
        assert!(more.contains("of the C library"), "{more}");
        assert_eq!(complaint(1000.0, 300.0, "2.39"), None);
    }

    #[test]
    fn a_single_instruction_of_a_short_path_is_no_change() {
        let mut baseline = Baseline::new(build("1", "2.36"));
        baseline.paths.insert(
            "mutex".into(),
            Count {
                own: 20.0,
                libc: 0.0,
            },
        );
        let seen = |own| baseline.complaint("mutex", Count { own, libc: 0.0 }, &baseline.build);
        assert_eq!(seen(22.0), None);
        assert!(seen(23.0).is_some());
    }

    #[test]
    fn a_path_without_a_baseline_is_told() {
        let baseline = Baseline::new(build("1", "2.36"));
        let seen = Count {
            own: 7.0,
            libc: 0.0,
        };
        assert!(baseline.complaint("new", seen, &baseline.build).is_some());
    }

    #[test]
    fn a_build_is_told_in_lines() {
        let told = Build::told("rustc 1\nx86\n-C x\n").unwrap();
        assert_eq!(
            (&*told.rustc, &*told.target, &*told.flags),
            ("rustc 1", "x86", "-C x")
        );
        assert!(Build::told("rustc 1\n").is_none());
    }

    #[test]
    fn counts_of_another_compiler_do_not_compare() {
        assert!(build("1", "2.36").compares_to(&build("1", "2.39")));
        assert!(!build("1", "2.36").compares_to(&build("2", "2.36")));
    }
}
