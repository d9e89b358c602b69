//! The laboratory of models on three of them, briefly: each is measured, and answers are held against what is due.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .arg("models")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn each_model_has_its_figures_in_every_place() {
    let folder = std::env::temp_dir().join(format!("maniple-models-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| -> PathBuf { folder.join(name) };
    let run = lab(&[
        "--quick",
        "--seconds=0.15",
        "--connections=2,8",
        "--only=thread,epoll,leader",
        &format!("--json={}", file("all.json").display()),
        &format!("--book={}", file("models").display()),
    ]);
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}\n{errors}");
    let json: Value = serde_json::from_str(&fs::read_to_string(file("all.json")).unwrap()).unwrap();
    let read = |name: &str| fs::read_to_string(file("models/measured").join(name)).unwrap();
    let all = read("all.md");
    let models = json["models"].as_array().unwrap();
    assert_eq!(models.len(), 3);
    for model in models {
        let name = model["name"].as_str().unwrap();
        assert!(["thread", "epoll", "leader"].contains(&name), "{name}");
        // One row in each of the four tables.
        for text in [&text, &all] {
            assert_eq!(text.matches(&format!("\n| {name} ")).count(), 4, "{text}");
        }
        assert!(read(&format!("{name}.md")).contains("| 8 connections "));
        assert!(model["start_up_ms"].as_f64().unwrap() > 0.0, "{model}");
        let loads = model["loads"].as_array().unwrap();
        assert_eq!(loads.len(), 5, "{model}");
        // Below capacity all is answered, and as it should be: an answer that is not would be among the failures.
        for load in &loads[..4] {
            let seen = &load["outcome"]["seen"];
            assert!(seen["answered"].as_u64().unwrap() > 0, "{load}");
            assert_eq!(seen["failures"].as_array().unwrap().len(), 0, "{load}");
            assert!(seen["cost"]["cpu_us"].as_f64().unwrap() > 0.0, "{load}");
            assert!(seen["holdings"]["memory"].as_u64().unwrap() > 0, "{load}");
        }
        assert!(
            loads[4]["outcome"]["seen"]["beyond"]["verdict"].is_string()
                || loads[4]["outcome"]["seen"]["beyond"]["verdict"].is_object()
        );
    }
    // A thread for each of 8 connections and the one that accepts; one loop for all.
    let threads = |name: &str| {
        let model = models.iter().find(|model| model["name"] == name).unwrap();
        model["loads"][3]["outcome"]["seen"]["holdings"]["threads"]
            .as_u64()
            .unwrap()
    };
    assert_eq!((threads("thread"), threads("epoll")), (9, 1));
    for picture in ["throughput", "costs", "code"] {
        let svg = fs::read_to_string(file("img").join(format!("models-{picture}.svg"))).unwrap();
        assert!(svg.contains("leader") && svg.contains("epoll"), "{picture}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_model_that_is_not_known_is_named_with_those_that_are() {
    let run = lab(&["--only=thread,nonsense"]);
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success());
    assert!(error.contains("no such model; known are "), "{error}");
    assert!(error.contains("epoll"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}
