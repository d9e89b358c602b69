//! Holds the sources against their map in ARCHITECTURE.md, and what is unsafe against its reasons.

use maniple_tidy::Crate;

fn hook() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`runtime/hook/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = hook().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn files_say_what_lives_in_them_in_lines_that_are_not_long() {
    for source in hook().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
        let long = source.text.lines().find(|line| line.chars().count() > 120);
        assert_eq!(long, None, "{}.rs", source.name);
    }
}

#[test]
fn what_is_unsafe_says_why_it_is_sound() {
    for source in hook().sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.trim_start().starts_with("//") || !line.contains("unsafe {") {
                continue;
            }
            let before = &lines[at.saturating_sub(8)..=at];
            let is_explained = before.iter().any(|line| line.contains("SAFETY:"));
            assert!(is_explained, "{}.rs:{}: {line}", source.name, at + 1);
        }
    }
}

/// A hooked call may come from anywhere, an allocator among it.
#[test]
fn no_call_logs_or_locks() {
    for source in hook().sources() {
        let code = source.code();
        for unwanted in [
            "log::",
            "eprintln!",
            "println!",
            "Mutex",
            "RwLock",
            "thread_local!",
        ] {
            assert!(!code.contains(unwanted), "{}.rs: {unwanted}", source.name);
        }
    }
}
