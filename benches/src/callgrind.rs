//! A program of ours under valgrind's callgrind: how many instructions ran, and which.
//!
//! Counts of instructions do not depend on what else the machine does, so small differences mean something.
//! Stacks that are switched confuse callgrind about who called whom, which nothing here asks; each
//! instruction's own count is right.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// This program, to be run under callgrind.
pub(crate) fn this_program() -> Result<PathBuf> {
    if cfg!(debug_assertions) {
        bail!("instructions of a debug build say nothing: add --release");
    }
    std::env::current_exe().context("finding this program")
}

/// A command that runs the program under callgrind, which writes its counts to `output`, for each
/// instruction if `each` is set. Arguments are still to be added.
pub(crate) fn command(program: &Path, output: &Path, each: bool) -> Command {
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(output);
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--compress-strings=yes"])
        .arg(if each {
            "--dump-instr=yes"
        } else {
            "--dump-instr=no"
        })
        .arg(file)
        .arg(program);
    command
}

/// What to do about a valgrind that cannot be started.
pub(crate) const HINT: &str = "starting valgrind (Debian and Ubuntu: apt-get install valgrind)";

/// Where instructions of the program, or of a library, lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// The program.
    Own,
    /// The C library.
    Libc,
    /// The dynamic linker and whatever else.
    Other,
}

/// The counts that callgrind wrote.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Of the program's instructions.
    pub(crate) own: u64,
    /// Of the C library's.
    pub(crate) libc: u64,
    /// Of each of the program's, by its place in the file; empty unless asked for.
    pub(crate) each: BTreeMap<u64, u64>,
}

impl Counts {
    /// Reads what callgrind wrote to a file about the program.
    pub(crate) fn read(file: &Path, program: &Path) -> Result<Self> {
        let opened = std::fs::File::open(file)
            .with_context(|| format!("opening callgrind's {}", file.display()))?;
        Self::parse(BufReader::new(opened), program)
            .with_context(|| format!("reading callgrind's {}", file.display()))
    }

    /// The format is described in valgrind's manual, "Callgrind Format Specification".
    fn parse(text: impl BufRead, program: &Path) -> Result<Self> {
        let mut counts = Self::default();
        // Names are spelled out where they first come.
        let mut objects: HashMap<String, Object> = HashMap::new();
        let mut object = Object::Other;
        let mut addresses = false;
        let mut address = 0;
        // The line behind `calls=` says what the callee's instructions were, which are counted there.
        let mut of_callee = false;
        let (mut seen, mut total) = (0, None);
        for line in text.lines() {
            let line = line?;
            if let Some(name) = line.strip_prefix("ob=") {
                object = object_of(name, program, &mut objects)?;
            } else if let Some(name) = line.strip_prefix("cob=") {
                object_of(name, program, &mut objects)?;
            } else if let Some(columns) = line.strip_prefix("positions:") {
                addresses = columns.contains("instr");
            } else if let Some(sum) = line.strip_prefix("summary:") {
                total = Some(number(sum.trim())?);
            } else if line.starts_with("calls=") {
                of_callee = true;
            } else if line
                .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            {
                let mut words = line.split(' ');
                let place = words.next().unwrap_or_default();
                if addresses {
                    address = moved(address, place)?;
                    words.next();
                }
                // Absent is zero.
                let count = words.next().map_or(Ok(0), number)?;
                if std::mem::take(&mut of_callee) {
                    continue;
                }
                seen += count;
                match object {
                    Object::Own => {
                        counts.own += count;
                        if addresses {
                            *counts.each.entry(address).or_default() += count;
                        }
                    }
                    Object::Libc => counts.libc += count,
                    Object::Other => {}
                }
            }
        }
        match total {
            None => bail!("it has no summary: was the program killed?"),
            Some(total) if total != seen => bail!("its lines sum up to {seen}, not to {total}"),
            Some(_) => Ok(counts),
        }
    }
}

/// Which object `(id) path`, or a mere `(id)` that came before, stands for.
fn object_of(name: &str, program: &Path, known: &mut HashMap<String, Object>) -> Result<Object> {
    let Some((id, path)) = name.split_once(' ') else {
        return known
            .get(name)
            .copied()
            .with_context(|| format!("no object {name}"));
    };
    let path = Path::new(path);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let object = match () {
        () if path == program => Object::Own,
        () if file.starts_with("libc.so") || file.starts_with("libc-2") => Object::Libc,
        () => Object::Other,
    };
    known.insert(id.to_owned(), object);
    Ok(object)
}

/// A position: the same as before, relative to it, or absolute.
fn moved(before: u64, place: &str) -> Result<u64> {
    Ok(match place.split_at_checked(1) {
        Some(("*", "")) => before,
        Some(("+", by)) => before.wrapping_add(number(by)?),
        Some(("-", by)) => before.wrapping_sub(number(by)?),
        _ => number(place)?,
    })
}

fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("not a number: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
positions: instr line
events: Ir
summary: 1035

ob=(1) /lib/ld-linux.so.2
fn=(1) start
0x10 1 5
cob=(2) /bin/program
cfn=(2) main
calls=1 0x20
0x18 2 1030

ob=(2)
fn=(2)
0x20 7 20
+8 +1 10
cob=(3) /lib/libc.so.6
cfn=(3) malloc
calls=3 0x900
* * 1000
-8 7 1
+4 *

ob=(3)
fn=(3)
0x900 1 999
";

    fn parse(text: &str) -> Result<Counts> {
        Counts::parse(text.as_bytes(), Path::new("/bin/program"))
    }

    #[test]
    fn instructions_count_once_and_where_they_lie() {
        let counts = parse(PROFILE).unwrap();
        assert_eq!((counts.own, counts.libc), (31, 999));
        assert_eq!(
            counts.each,
            BTreeMap::from([(0x20, 21), (0x24, 0), (0x28, 10)])
        );
    }

    #[test]
    fn a_profile_that_does_not_add_up_is_refused() {
        let error = parse(&PROFILE.replace("1035", "1036")).unwrap_err();
        assert!(error.to_string().contains("1035"), "{error}");
        assert!(parse("ob=(1) /bin/program\n7 20\n").is_err());
        assert!(parse("summary: 0\nob=(4)\n").is_err());
    }

    #[test]
    fn lines_without_addresses_are_counted_too() {
        let counts =
            parse("summary: 9\npositions: line\nob=(1) /bin/program\n7 4\n+1 5\n").unwrap();
        assert_eq!(counts.own, 9);
        assert_eq!(counts.each, BTreeMap::new());
    }
}
