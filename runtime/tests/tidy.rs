//! Holds the sources against their map in ARCHITECTURE.md, and against a few habits that readers rely on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use maniple_tidy::Crate;

struct Source {
    /// Its path below `src`, without `.rs`.
    name: String,
    text: String,
}

impl Source {
    /// Lines of code that are `unsafe` in the way that `is` tells from them and what is above, and where none of
    /// `words` stands in so many lines before.
    fn unexplained(&self, is: fn(&[&str]) -> bool, before: usize, words: &[&str]) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let stated = |line: &&str| words.iter().any(|word| line.contains(word));
        (0..lines.len())
            .filter(|&at| !lines[at].trim_start().starts_with("//") && is(&lines[..=at]))
            .filter(|&at| !lines[at.saturating_sub(before)..=at].iter().any(stated))
            .map(|at| format!("{}.rs:{}", self.name, at + 1))
            .collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let (src, mut found) = (root().join("src"), Vec::new());
    walk(&src, &mut found);
    assert!(found.len() > 20, "the sources are found");
    let read = |path: PathBuf| Source {
        name: path
            .strip_prefix(&src)
            .unwrap()
            .with_extension("")
            .to_str()
            .unwrap()
            .to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    found.into_iter().map(read).collect()
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let runtime = Crate::read(env!("CARGO_MANIFEST_DIR"), "..", "`runtime/`");
    let complaints = runtime.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// The names in backquotes that are sentences, as tests have them, in the table of what may run where.
fn promised_tests() -> Vec<String> {
    let text = fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    let from = text
        .find("## What may run where")
        .expect("the table is there");
    let section = text[from..].split("\n## ").next().unwrap();
    let held_by = section.lines().filter_map(|line| line.rsplit(" | ").next());
    let quoted = held_by.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted
        .filter(|name| name.matches('_').count() > 2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_may_run_where_is_held_by_tests_that_there_are() {
    let promised = promised_tests();
    assert!(promised.len() > 15, "the table is read: {promised:?}");
    let mut text: String = sources().into_iter().map(|source| source.text).collect();
    for entry in fs::read_dir(root().join("tests/promises")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    // Or in a macro that makes one of each name.
    let missing = |name: &&String| {
        !text.contains(&format!("fn {name}()")) && !text.contains(&format!("{name}:\n"))
    };
    let missing: Vec<_> = promised.iter().filter(missing).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn nothing_above_the_driver_says_what_it_waits_with() {
    let below = |source: &Source| {
        let folder = source.name.split('/').next();
        ["driver", "sys"].map(Some).contains(&folder)
    };
    for source in sources().into_iter().filter(|source| !below(source)) {
        for line in source.text.lines() {
            let code = line.split("//").next().unwrap().to_lowercase();
            let kinds = ["epoll", "timerfd", "io_uring"];
            let found = kinds.iter().find(|kind| code.contains(**kind));
            assert_eq!(found, None, "{}.rs: {line}", source.name);
        }
    }
}

#[test]
fn every_file_says_what_lives_there() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}

#[test]
fn no_line_is_over_120_columns() {
    for source in sources() {
        let long = source.text.lines().find(|line| line.chars().count() > 120);
        assert_eq!(long, None, "{}.rs", source.name);
    }
}

#[test]
fn every_unsafe_block_has_its_reason() {
    fn is_block(lines: &[&str]) -> bool {
        let line = lines[lines.len() - 1].trim_start();
        line.contains("unsafe {") || line.starts_with("unsafe impl")
    }
    for source in sources() {
        let found = source.unexplained(is_block, 8, &["SAFETY:", "# Safety"]);
        assert!(found.is_empty(), "unsafe without a reason: {found:?}");
    }
}

#[test]
fn every_unsafe_function_states_its_contract() {
    /// A method of a trait's implementation keeps the contract that the trait states.
    fn is_own_function(lines: &[&str]) -> bool {
        let opens = |line: &&&str| {
            let line = line.trim_start();
            line.starts_with("impl") || line.starts_with("unsafe impl")
        };
        lines[lines.len() - 1].contains("unsafe fn ")
            && !lines
                .iter()
                .rev()
                .find(opens)
                .is_some_and(|line| line.contains(" for "))
    }
    for source in sources() {
        let found = source.unexplained(is_own_function, 16, &["# Safety", "SAFETY"]);
        assert!(found.is_empty(), "unsafe without a contract: {found:?}");
    }
}

/// Lines of shipped code with `unsafe` in them. It may fall, and this number with it; it may not rise.
const UNSAFE_LINES: usize = 242;

/// Files of the fence. They may become fewer, and not more.
const UNSAFE_FILES: usize = 21;

/// The files of the table of the fence.
fn fence() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    let from = text.find("## The fence around").expect("the fence's part");
    let section = text[from..].split("\n## ").next().unwrap();
    let mut files = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let (named, reason) = row[2..].split_once(" | ").expect("two cells");
        assert!(reason.len() > 10, "no reason in: {row}");
        for name in named.split('`').skip(1).step_by(2) {
            let (folder, inside) = name.split_once('{').unwrap_or(("", name));
            for file in inside.trim_end_matches('}').split(',') {
                let file = format!("{folder}{file}");
                assert!(!files.contains(&file), "{file} stands there twice");
                files.insert(file);
            }
        }
    }
    files
}

/// How many lines of shipped code say `unsafe`, by file; those with none are left out.
fn unsafe_lines() -> BTreeMap<String, usize> {
    let is_word = |word: &str| word == "unsafe";
    let is_unsafe = |line: &&str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(is_word)
    };
    let files = maniple_tidy::sources(&root().join("src")).into_iter();
    files
        .filter(|source| !source.name.ends_with("loom_models"))
        .map(|source| (source.code().lines().filter(is_unsafe).count(), source.name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| (name, count))
        .collect()
}

#[test]
fn unsafe_code_stays_behind_the_fence() {
    let (fence, found) = (fence(), unsafe_lines());
    let outside: Vec<_> = found.keys().filter(|file| !fence.contains(*file)).collect();
    assert!(
        outside.is_empty(),
        "unsafe code outside the fence: {outside:?}"
    );
    let safe: Vec<_> = fence
        .iter()
        .filter(|file| !found.contains_key(*file))
        .collect();
    assert!(
        safe.is_empty(),
        "safe by now, so out of the table: {safe:?}"
    );
}

#[test]
fn files_with_unsafe_code_become_fewer() {
    let files = unsafe_lines().into_keys();
    assert_eq!(files.len(), UNSAFE_FILES, "{:?}", files.collect::<Vec<_>>());
}

#[test]
fn lines_of_unsafe_code_become_fewer() {
    let count: usize = unsafe_lines().values().sum();
    assert!(
        count <= UNSAFE_LINES,
        "{count} lines are unsafe, and not {UNSAFE_LINES}"
    );
    assert!(
        count + 10 > UNSAFE_LINES,
        "only {count} lines are unsafe: lower the limit"
    );
}

/// Where tests sleep for a while, below why; elsewhere they wait for the event itself, or do it in a world, where nobody
/// waits for real. What sleeps for `LONG` is there to be cut.
const SLEEPS: &[(&str, &[&str])] = &[
    (
        "time itself is what is tested",
        &[
            "clock::ticks_come_in_intervals_and_do_not_pile_up",
            "coroutines::io_that_is_always_ready_does_not_starve_coroutines",
            "stalls::deadlock_child",
            "stalls::silence_child",
            "time::a_hundred_thousand_sleepers_all_wake_and_none_too_early",
            "time::a_short_sleep_ends_in_its_time_whatever_longer_ones_begin_or_end_around_it",
            "time::a_sleep_is_never_too_short",
            "time::a_time_too_far_to_express_is_never_reached",
            "trimming::a_coroutine_that_waits_on_another_librarys_stack_is_left_alone",
        ],
    ),
    (
        "a wait in a destructor, a hook, a logger, a shield or under a lock is what is tested",
        &[
            "fenced::use_everything",
            "groups::at_shutdown_children_end_before_their_leaders",
            "unbegun::logging_child",
            "unwinding::a_hook_that_waits",
            "unwinding::a_hook_that_waits_and_panics",
            "unwinding::a_shutdown_does_not_pass_a_shield_by",
            "unwinding::a_shutdown_meets_coroutines_that_unwind",
            "unwinding::decide",
            "unwinding::nest",
            "unwinding::report",
            "unwinding::waiting_logger_child",
        ],
    ),
    (
        "between two looks at what wakes nobody",
        &[
            "measuring::what_was_trimmed_away_meanwhile_counts",
            "net::connecting::a_signal_does_not_end_a_plain_threads_connecting",
            "net::tcp::what_the_peer_has_not_taken_is_known_and_a_reset_throws_it_away",
            "net::waiting::a_connection_that_was_read_empty_is_known_to_be_quiet_until_something_comes",
            "standby::a_worker_that_is_held_while_another_sleeps_makes_load_uneven",
            "unwinding::ten_thousand_unwind_at_once",
        ],
    ),
    (
        "how long work takes is drawn",
        &[
            "coroutines::a_coroutine_never_changes_threads",
            "stress::act",
            "stress::acts::meet",
            "stress::acts::policy",
            "stress::family",
            "stress::tokens",
            "trimming::keeps_every_frame",
        ],
    ),
];

/// Functions of the promises, with their modules, that sleep for a while outside of worlds.
fn sleeping() -> BTreeSet<String> {
    let folder = root().join("tests/promises");
    let mut found = BTreeSet::new();
    for (path, text) in tests_below(&folder) {
        let module = path.strip_prefix(&folder).unwrap().with_extension("");
        let module = module.to_str().unwrap().replace('/', "::");
        let module = module.trim_end_matches("::mod");
        // Up to what begins at the first column again.
        for function in text.split("\n}\n") {
            let sleeps = |line: &str| {
                let (_, span) = line.split_once("sleep(").unwrap_or_default();
                let is_cut = [
                    "LONG)",
                    "super::LONG)",
                    "Duration::MAX)",
                    "Duration::from_secs(3600)",
                ];
                !span.is_empty() && !is_cut.iter().any(|cut| span.starts_with(cut))
            };
            let is_in_world = function.contains("in_world(");
            let head = function.lines().rev().find(|line| {
                let line = line.trim_start_matches("pub(super) ");
                line.starts_with("fn ")
            });
            if let Some(head) = head.filter(|_| !is_in_world && function.lines().any(sleeps)) {
                let name = head.split("fn ").nth(1).unwrap();
                let name = name.split(['(', '<']).next().unwrap();
                found.insert(format!("{module}::{name}"));
            }
        }
    }
    found
}

/// Files of tests below a folder.
fn tests_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tests_below(&path)),
            false => {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

#[test]
fn tests_that_sleep_for_a_while_say_why() {
    let listed = SLEEPS.iter().flat_map(|(_, names)| *names);
    let listed = BTreeSet::from_iter(listed.map(|name| (*name).to_owned()));
    let found = sleeping();
    let unsaid: Vec<_> = found.difference(&listed).collect();
    assert!(
        unsaid.is_empty(),
        "wait for the event itself, or list why not: {unsaid:?}"
    );
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "these sleep no more: {gone:?}");
}
