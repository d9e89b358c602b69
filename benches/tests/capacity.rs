//! `capacity` as users run it: a parent, its children, and the table that comes out.

use std::{
    fs,
    process::{Command, Output},
};

fn bench(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The cells of the row that begins with these words.
fn row<'a>(text: &'a str, engine: &str) -> Vec<&'a str> {
    let begins = format!("| {engine} ");
    let line = text.lines().find(|line| line.starts_with(&begins));
    let line = line.unwrap_or_else(|| panic!("no {engine} in {text}"));
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn a_plan_shows_the_formula_and_this_machine() {
    let text = printed(&bench(
        "capacity plan --rps 10000 --latency 50ms --fanout 3",
    ));
    assert!(
        text.contains("10000/s x 50ms x 2 headroom = 1,000"),
        "{text}"
    );
    assert!(text.contains("| vm.max_map_count "), "{text}");
}

#[test]
fn a_plan_without_bounds_is_one_line_of_error() {
    let output = bench("capacity plan --rps 1e12 --latency 1440m --fanout 4000000000");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("cannot be counted") && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn every_engine_spawns_a_hundred_and_lets_them_end() {
    let text = printed(&bench("capacity stacks --count 100 --slot 64K --touch 2"));
    for engine in ["maniple", "may", "tokio", "threads"] {
        let cells = row(&text, engine);
        assert_eq!(cells[4], "100", "{text}");
        for rate in [5, 6] {
            assert!(cells[rate].parse::<f64>().unwrap() > 0.0, "{text}");
        }
        let memory: f64 = cells[7].parse().unwrap();
        // Two pages and a record; a little of it may have been there before.
        assert!((4096.0..65_536.0).contains(&memory), "{text}");
    }
    assert!(!text.contains("ended at"), "{text}");
}

#[test]
fn guards_that_split_mappings_show_in_their_number() {
    let text = printed(&bench(
        "capacity stacks --count 200 --slot 16K,64K --touch 1 --engine maniple --guard mprotect,none",
    ));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| maniple "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 4, "{text}");
    for cells in rows {
        let mappings: u64 = cells[9].parse().unwrap();
        match cells[3] {
            "mprotect" => assert!(mappings > 400, "{text}"),
            guard => assert!(guard == "none" && mappings < 200, "{text}"),
        }
    }
}

#[test]
fn each_child_tells_its_progress_line_by_line() {
    let text = printed(&bench(
        "capacity stacks-row maniple --count=100 --slot=65536 --touch=1 --guard=auto --workers=1",
    ));
    let events: Vec<String> = text
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event.as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect();
    assert_eq!(events.first().unwrap(), "reached");
    assert_eq!(events.last().unwrap(), "finished");
    let at = |name: &str| events.iter().position(|event| event == name).unwrap();
    assert!(
        at("parked") < at("joined") && at("joined") < at("ended"),
        "{events:?}"
    );
}

#[test]
fn everything_is_in_the_file_too() {
    let path = std::env::temp_dir().join(format!("maniple-capacity-{}.json", std::process::id()));
    let command = format!(
        "capacity stacks --count 50 --slot 64K --touch 1 --engine tokio --rounds 2 --json {}",
        path.display()
    );
    printed(&bench(&command));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1]["round"], 2);
    assert_eq!(runs[1]["parked"]["count"], 50);
}

#[test]
fn a_figure_has_a_bar_for_each_engine() {
    let folder = std::env::temp_dir().join(format!("maniple-plots-{}", std::process::id()));
    let command = format!(
        "capacity stacks --count 50 --slot 64K --touch 1 --engine maniple,threads --guard auto,none --plot {}",
        folder.display()
    );
    printed(&bench(&command));
    let svg = fs::read_to_string(folder.join("stacks.svg")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    for part in [
        "<svg",
        "maniple (none)",
        "threads",
        "64 KiB, 1 page",
        "spawned per second",
    ] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
}

const PAGE: f64 = 4096.0;

#[test]
fn handlers_that_go_deeper_are_seen_to_and_what_is_forecast_for_many_is_tried() {
    let path = std::env::temp_dir().join(format!("maniple-depth-{}.json", std::process::id()));
    let command = format!(
        "capacity depth --routes text,fanout,recurse --recurse 40K --connections 4 --seconds 0.2 --paint \
         --coroutines 1000 --json {}",
        path.display()
    );
    let text = printed(&bench(&command));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    let place = |route: usize, which: &str| {
        let of = &report["routes"][route];
        assert!(of["requests"].as_u64().unwrap() > 0, "{text}");
        let places = of["places"].as_array().unwrap().iter();
        let mut found = places.filter(|place| place["place"].as_str().unwrap().contains(which));
        found
            .next()
            .unwrap_or_else(|| panic!("no {which}: {text}"))
            .clone()
    };
    let bytes = |place: &serde_json::Value, what: &str| place[what]["max"].as_u64().unwrap();
    let (flat, deep) = (place(0, "[/]"), place(2, "[/]"));
    for place in [&flat, &deep] {
        assert_eq!(place["ended"], 4, "{text}");
        assert!(
            bytes(place, "suspended") < bytes(place, "painted"),
            "{text}"
        );
        assert!(
            bytes(place, "painted") <= bytes(place, "resident"),
            "{text}"
        );
        let forecast = &place["forecast"];
        let needed = 2 * place["deepest"].as_u64().unwrap();
        assert!(forecast["slot"].as_u64().unwrap() >= needed, "{text}");
        let parked = &place["outcome"]["parked"];
        assert_eq!(parked["count"], 1000, "{text}");
        let resident = |when: &str| parked[when]["resident"].as_u64().unwrap() as f64;
        let taken = resident("now") - resident("before");
        let forecast = forecast["resident"].as_f64().unwrap();
        // A page more or less is a quarter of a shallow stack.
        let allowed = (forecast / 4.0).max(1.1 * 1000.0 * PAGE);
        assert!(
            (taken - forecast).abs() < allowed,
            "{taken} for {forecast}: {text}"
        );
    }
    assert!(bytes(&deep, "painted") > 40 << 10, "{text}");
    assert!(bytes(&flat, "painted") < 40 << 10, "{text}");
    // Its three children have a place of their own.
    assert!(
        place(1, "routes.rs")["ended"].as_u64().unwrap() >= 3,
        "{text}"
    );
}
