//! Go's part in the comparisons: a program in `benches/go`, built where there is a toolchain.
//!
//! `go build` puts it into the directory of this program, before anything is measured. A contender is then a process of
//! this program like the others, which is pinned like the others and becomes Go's program where others start an engine;
//! or, as a server on one core, Go's program from the beginning, since `compare startup` measures how long that takes.

use std::{
    env,
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{process::Child, stats::Machine};

/// The contenders: those whom somebody named, or else `all`, but for `go` where no toolchain is new enough. The machine
/// tells which Go it has, or why it is left out.
pub(crate) fn enlist<C: Copy + PartialEq>(
    named: &[C],
    all: &[C],
    go: &[C],
    machine: &mut Machine,
) -> Vec<C> {
    let wanted = if named.is_empty() { all } else { named };
    if !wanted.iter().any(|one| go.contains(one)) {
        return wanted.to_vec();
    }
    match here() {
        Here::Built(version) => machine.go = Some(version.clone()),
        Here::Unfit(cause) if named.is_empty() => {
            machine.go = Some(format!("go is left out: {cause}"));
            let others = wanted.iter().filter(|one| !go.contains(one));
            return others.copied().collect();
        }
        // Its row tells the cause.
        Here::Unfit(_) | Here::Broken(_) => {}
    }
    wanted.to_vec()
}

/// That Go's program can be started, or why not. The first one who asks waits until it is built.
pub(crate) fn ready() -> Result<()> {
    match here() {
        Here::Built(_) => Ok(()),
        Here::Unfit(cause) | Here::Broken(cause) => bail!("{cause}"),
    }
}

/// Turns this process, with its pinning and its descriptors, into Go's program with so many workers.
pub(crate) fn become_peer<S: AsRef<OsStr>>(
    workers: usize,
    arguments: impl IntoIterator<Item = S>,
) -> Result<()> {
    let program = folder()?.join(PROGRAM);
    let error = Command::new(&program)
        .env("GOMAXPROCS", workers.to_string())
        .args(arguments)
        .exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

/// Starts Go's server on the first core, and not by way of this program, which would be loaded before.
pub(crate) fn start_server() -> Result<Child> {
    ready()?;
    let mut command = Command::new(folder()?.join(PROGRAM));
    command.arg("serve").env("GOMAXPROCS", "1");
    Child::start_on_first_core(&mut command).context("starting Go's server")
}

/// What there is of Go.
#[derive(Debug)]
enum Here {
    /// The program, by a toolchain of this version.
    Built(String),
    /// No toolchain, or one that is too old: the same for every contender.
    Unfit(String),
    /// A toolchain that should do and does not.
    Broken(String),
}

fn here() -> &'static Here {
    static HERE: OnceLock<Here> = OnceLock::new();
    HERE.get_or_init(|| {
        let Some(go) = find(&env::var_os("PATH").unwrap_or_default()) else {
            return Here::Unfit("there is no go on the PATH".to_owned());
        };
        let version = match version(&go) {
            Ok(version) => version,
            Err(error) => return Here::Broken(format!("{error:#}")),
        };
        if let Some(cause) = too_old(&version) {
            return Here::Unfit(cause);
        }
        let built = || build(&go, &folder()?, Path::new(SOURCE));
        match built() {
            Ok(()) => Here::Built(version),
            Err(error) => Here::Broken(format!("{error:#}")),
        }
    })
}

fn find(path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("go"))
        .find(|file| file.is_file())
}

/// Beside this program, which is in the target directory.
fn folder() -> Result<PathBuf> {
    let own = env::current_exe().context("finding this program")?;
    let folder = own.parent().context("this program is in no folder")?;
    Ok(folder.join("go"))
}

/// The toolchain's version, such as `go1.25.3`. It is asked for where no `go.mod` can demand another.
fn version(go: &Path) -> Result<String> {
    let output = Command::new(go)
        .arg("version")
        .current_dir("/")
        .env("GOTOOLCHAIN", "local")
        .output()
        .with_context(|| format!("starting {}", go.display()))?;
    ensure!(output.status.success(), cause(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find(|word| word.starts_with("go1"));
    Ok(version.unwrap_or(text.trim()).to_owned())
}

/// Why a toolchain of this version cannot build the program. One whose version cannot be read is tried.
fn too_old(version: &str) -> Option<String> {
    let minor = version.strip_prefix("go1.")?;
    let digits = minor.find(|c: char| !c.is_ascii_digit());
    let minor: u32 = minor[..digits.unwrap_or(minor.len())].parse().ok()?;
    (minor < OLDEST).then(|| format!("{version} is too old, 1.{OLDEST} or later is needed"))
}

/// Builds what is in `source` into `folder`.
fn build(go: &Path, folder: &Path, source: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    // Another measurement at the same time never sees half a program.
    let fresh = folder.join(format!("{PROGRAM}-{}", std::process::id()));
    let output = Command::new(go)
        .args([
            "build".as_ref(),
            "-o".as_ref(),
            fresh.as_os_str(),
            ".".as_ref(),
        ])
        .current_dir(source)
        // The toolchain that is here, the standard library alone, and nothing from elsewhere or for elsewhere.
        .envs([
            ("GOTOOLCHAIN", "local"),
            ("GO111MODULE", "on"),
            ("GOFLAGS", "-mod=mod"),
            ("GOPROXY", "off"),
            ("GOWORK", "off"),
            ("CGO_ENABLED", "0"),
        ])
        .env("GOCACHE", folder.join("cache"))
        .output()
        .with_context(|| format!("starting {}", go.display()))?;
    if !output.status.success() {
        return Err(cause(&output)).context("building Go's program");
    }
    std::fs::rename(&fresh, folder.join(PROGRAM)).context("placing Go's program")
}

/// What a command that failed said, without the lines that only name a package.
fn cause(output: &Output) -> anyhow::Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    match line {
        Some(line) => anyhow!("{line}"),
        None => anyhow!("go failed: {}", output.status),
    }
}

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/go");
const PROGRAM: &str = "peer";
/// Of Go 1, the version that `benches/go/go.mod` names.
const OLDEST: u32 = 25;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// A folder with a program named go that does what the script says.
    fn toolchain(test: &str, script: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("maniple-go-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let go = folder.join("go");
        fs::write(&go, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&go, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn a_toolchain_is_found_on_the_path_or_not_at_all() {
        let folder = toolchain("found", "exit 0");
        let path = env::join_paths([Path::new("/nowhere"), &folder]).unwrap();
        assert_eq!(find(&path), Some(folder.join("go")));
        assert_eq!(find(OsStr::new("")), None);
        assert_eq!(find(OsStr::new("/nowhere")), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_build_puts_the_program_in_its_place() {
        let folder = toolchain("built", "echo $GOTOOLCHAIN $GOPROXY > $3");
        let target = folder.join("target");
        build(&folder.join("go"), &target, Path::new(SOURCE)).unwrap();
        let program = fs::read_to_string(target.join(PROGRAM)).unwrap();
        assert_eq!(program, "local off\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_build_that_fails_tells_what_the_compiler_said() {
        let folder = toolchain(
            "failed",
            "echo '# maniple.bench/peer' >&2; echo './main.go:1: no' >&2; exit 1",
        );
        let error = build(&folder.join("go"), &folder, Path::new(SOURCE)).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(text, "building Go's program: ./main.go:1: no");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_version_is_read_and_the_oldest_that_does_is_the_one_of_the_module() {
        let folder = toolchain("version", "echo go version go1.22.0 linux/amd64");
        assert_eq!(version(&folder.join("go")).unwrap(), "go1.22.0");
        fs::remove_dir_all(folder).unwrap();
        for old in ["go1.9", "go1.22.0", "go1.24.11", "go1.24rc1"] {
            let cause = format!("{old} is too old, 1.25 or later is needed");
            assert_eq!(too_old(old), Some(cause));
        }
        for fit in ["go1.25", "go1.25rc1", "go1.27.3", "go2.0", "devel +1a2b3c"] {
            assert_eq!(too_old(fit), None);
        }
        let module = fs::read_to_string(Path::new(SOURCE).join("go.mod")).unwrap();
        assert!(module.contains(&format!("\ngo 1.{OLDEST}\n")), "{module}");
    }

    #[test]
    fn who_has_no_need_of_go_does_not_look_for_it() {
        let mut machine = Machine::here(&[]);
        assert_eq!(enlist(&["b"], &["a", "go"], &["go"], &mut machine), ["b"]);
        assert_eq!(machine.go, None);
    }
}
