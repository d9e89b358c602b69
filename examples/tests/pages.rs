//! The pages that people read: their links lead somewhere, and what they say of the checks is so.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The book's chapters, what they include, and the pages at the root.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = [
        "README",
        "ARCHITECTURE",
        "CONTRIBUTING",
        "CHANGELOG",
        "findings/README",
    ]
    .map(|name| root().join(name).with_extension("md"))
    .into();
    let mut folders = vec![root().join("docs/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 50, "the book is found");
    pages
}

/// The text without fenced code, in which brackets are no links.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// What headings are called in addresses, by mdBook and by GitHub alike.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
            heading
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        for target in prose(&text)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            // The book makes an index of a README, and leaves links to it as they are.
            let is_lost = page.starts_with(root().join("docs/src")) && file.ends_with("README.md");
            let found = !is_lost
                && file.exists()
                && (anchor.is_empty() || anchors(&read(&file)).contains(anchor));
            if !found {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(seen > 300, "{seen} links are found");
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn code_in_the_book_fits_beside_its_margins() {
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        for file in text.split("{{#include ").skip(1) {
            let file = page
                .parent()
                .unwrap()
                .join(file.split("}}").next().unwrap());
            if file.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                let code = read(&file);
                let long = code.lines().find(|line| line.chars().count() > 102);
                assert_eq!(long, None, "{}", file.display());
            }
        }
    }
    assert!(seen > 40, "{seen} files are found");
}

#[test]
fn every_chapter_stands_in_the_summary() {
    let book = root().join("docs/src");
    let summary = read(&book.join("SUMMARY.md"));
    let chapters = pages().into_iter().filter(|page| page.starts_with(&book));
    for chapter in chapters {
        let name = chapter.strip_prefix(&book).unwrap().to_str().unwrap();
        let is_chapter = name != "SUMMARY.md" && !name.contains("measured/");
        assert!(
            !is_chapter || summary.contains(&format!("({name})")),
            "{name} is not in the summary"
        );
    }
}

#[test]
fn contributors_are_told_the_steps_that_there_are() {
    let output = Command::new(root().join(".ci/run")).arg("--list").output();
    let steps = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(steps.lines().count() > 10, "{steps}");
    let page = read(&root().join("CONTRIBUTING.md"));
    assert!(
        page.contains(&steps),
        "CONTRIBUTING.md does not have:\n{steps}"
    );
}

#[test]
fn a_step_that_there_is_not_is_one_line_and_the_list() {
    let output = Command::new(root().join(".ci/run"))
        .arg("nonsense")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with(".ci/run: there is no step \"nonsense\""),
        "{told}"
    );
}
