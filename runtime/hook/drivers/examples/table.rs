//! The book's table of drivers: `cargo run --example table`, in `runtime/hook/drivers`. Versions are those of the lock file, and
//! symbols what `nm` finds that a crate, or the C library below it, calls by itself. What the verdicts rest on is tested.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a crate calls the C library by.
enum By {
    /// Itself, and crates below it; and whatever std does for them.
    Crates(&'static [&'static str]),
    /// A shared library.
    Library(&'static str),
    /// A library in the crate's own archive.
    Bundled(&'static str),
}
use By::{Bundled, Crates, Library};

/// Crate, what of it, how it calls, the verdict, and why.
const DRIVERS: &[(&str, &str, By, &str, &str)] = &[
    (
        "redis",
        "",
        Crates(&["redis", "socket2"]),
        "works",
        "connections, pipelines, pub/sub; with `r2d2`, see below",
    ),
    (
        "mysql",
        ", `Conn`",
        Crates(&["mysql", "socket2"]),
        "works",
        "with `r2d2` by `r2d2_mysql`, see below",
    ),
    (
        "mysql",
        ", `Pool`",
        Crates(&["mysql"]),
        "**breaks** unless it is full from the beginning",
        "it connects while it holds its own lock: set the least to the most, and no fewer than there are callers",
    ),
    (
        "diesel",
        " with PostgreSQL",
        Library("libpq.so.5"),
        "works",
        "with its `r2d2`, see below",
    ),
    (
        "diesel",
        " with MySQL",
        Library("libmariadb.so.3"),
        "works",
        "with its `r2d2`, whose look at connections (`test_on_check_out`) has to stay on; see below",
    ),
    (
        "diesel",
        " with SQLite",
        Bundled("libsqlite3_sys"),
        "works; on `offload` better",
        "as `rusqlite`",
    ),
    (
        "postgres",
        "",
        Crates(&["mio", "socket2", "tokio"]),
        "on `offload`",
        "tokio inside: the second in the coroutines of a worker **panics**, a runtime within a runtime; \
         [adapter](#whole-frameworks-inside)",
    ),
    (
        "r2d2_postgres",
        "",
        Crates(&[]),
        "on `offload`",
        "as `postgres`",
    ),
    (
        "r2d2_mysql",
        "",
        Crates(&[]),
        "works with a caveat",
        "as `r2d2`",
    ),
    (
        "r2d2_sqlite",
        "",
        Crates(&[]),
        "on `offload`",
        "as `rusqlite`",
    ),
    (
        "memcache",
        "",
        Crates(&["memcache"]),
        "works with a caveat",
        "its pool is `r2d2`'s, whose look at connections (`test_on_check_out`) has to stay on; see below",
    ),
    (
        "rusqlite",
        "",
        Bundled("libsqlite3_sys"),
        "works; on `offload` better",
        "files block for as long as the disk takes; waiting for another's lock suspends; not within \
         [`files::offload`](#files)",
    ),
    (
        "r2d2",
        "",
        Crates(&["parking_lot_core"]),
        "works with a caveat",
        "who finds it empty blocks the worker: on `offload`, or behind permits of ours; \
         [a pool of ours](parts.md#a-pool-of-connections) takes its managers",
    ),
    ("ureq", "", Crates(&["ureq"]), "works", "one agent for all"),
    (
        "reqwest",
        ", `blocking`",
        Crates(&["mio", "socket2", "tokio"]),
        "on `offload`",
        "parks the worker for a thread of its own, on which tokio is: right, one after another, and the watch names \
         who does; [adapter](#whole-frameworks-inside)",
    ),
    ("attohttpc", "", Crates(&["attohttpc"]), "works", ""),
    ("minreq", "", Crates(&["minreq"]), "works", ""),
    ("curl", "", Library("libcurl.so.4"), "works", ""),
    ("lettre", "", Crates(&["lettre", "socket2"]), "works", ""),
    (
        "tungstenite",
        "",
        Crates(&["tungstenite"]),
        "works",
        "both ends",
    ),
    (
        "rumqttc",
        "",
        Crates(&["mio", "socket2", "tokio"]),
        "on a thread of its own",
        "as `postgres`; [adapter](#whole-frameworks-inside)",
    ),
    (
        "nats",
        "",
        Crates(&["nats", "parking_lot_core"]),
        "on `offload`, and a thread of its own to receive",
        "its own threads have the connection, and callers park theirs",
    ),
];

#[allow(
    dead_code,
    reason = "the test that holds the book against it has its own"
)]
fn main() {
    print!("{}", table());
}

pub fn table() -> String {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"))
        .expect("the lock file");
    let rows = DRIVERS.iter().map(|(name, of, by, verdict, why)| {
        let version = version(&lock, name);
        let found = match by {
            Crates(crates) => crates
                .iter()
                .flat_map(|name| undefined(&archive(name), false))
                .collect(),
            Library(name) => undefined(&library(name), true),
            Bundled(name) => undefined(&archive(name), false),
        };
        let calls: Vec<_> = found.iter().map(|call| format!("`{call}`")).collect();
        let of_std = matches!(by, Crates(_)).then_some("std".to_owned());
        let needs: Vec<_> = of_std.into_iter().chain(calls).collect();
        format!(
            "| `{name}`{of} | {version} | {} | {verdict} | {why} |\n",
            needs.join(", ")
        )
    });
    let head = "| crate | version | needs | | |\n|---|---|---|---|---|\n";
    head.chars()
        .chain(rows.collect::<String>().chars())
        .collect()
}

fn version<'a>(lock: &'a str, name: &str) -> &'a str {
    let package = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock
        .split_once(&package)
        .unwrap_or_else(|| panic!("{name} is locked"));
    rest.split('"').next().unwrap_or_default()
}

/// The newest that was built of a crate, beside this program.
fn archive(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let folder = own.parent().expect("a folder");
    let folder = if folder.ends_with("deps") {
        folder.to_owned()
    } else {
        folder.join("../deps")
    };
    let prefix = format!("lib{name}-");
    let all = fs::read_dir(folder)
        .expect("what was built")
        .map(|entry| entry.expect("an entry").path());
    let all = all.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".rlib")
    });
    let newest = all.max_by_key(|path| {
        fs::metadata(path)
            .and_then(|of| of.modified())
            .expect("a time")
    });
    newest.unwrap_or_else(|| panic!("{name} is built"))
}

fn library(name: &str) -> PathBuf {
    let output = Command::new("/sbin/ldconfig")
        .arg("-p")
        .output()
        .expect("ldconfig");
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = all.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} is installed"));
    line.rsplit(' ').next().unwrap_or_default().into()
}

/// The hooked calls that something calls by itself, but for those on files.
fn undefined(path: &Path, is_shared: bool) -> BTreeSet<&'static str> {
    let mut command = Command::new("nm");
    command
        .args(is_shared.then_some("-D"))
        .arg("--undefined-only")
        .arg(path);
    let output = command.output().expect("nm");
    assert!(
        output.status.success() || !output.stdout.is_empty(),
        "{command:?}"
    );
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    let called: BTreeSet<_> = all
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|name| name.split('@').next().unwrap_or_default())
        .collect();
    let on_files = maniple_hook::names_on_files();
    let hooked = maniple_hook::names().into_iter();
    hooked
        .filter(|name| !on_files.contains(name))
        .filter(|name| called.contains(name))
        .map(|name| name.trim_start_matches("__").trim_end_matches("_chk"))
        .collect()
}
