//! The table of `capacity stacks`.

use super::{
    Run, Spec,
    protocol::{Footprint, Outcome, Parked, Stage},
    spec::{Engine, Guard, name, pages},
};
use crate::{
    capacity::{
        plot::{Bars, Figure, Panel},
        quantity::{Bytes, count},
    },
    stats::{Spread, Table},
};

pub(super) fn table(specs: &[Spec], runs: &[Run]) -> Table {
    let mut table = Table::new(&[
        "engine",
        "stack",
        "pages",
        "guard",
        "reached",
        "spawned/s",
        "ended/s",
        "memory/stack",
        "page tables/stack",
        "mappings",
        "total s",
        "CPU s",
    ]);
    let mut notes = Vec::new();
    for spec in specs {
        let of_spec = |run: &&Run| run.spec == *spec;
        let outcomes: Vec<&Outcome> = runs
            .iter()
            .filter(of_spec)
            .map(|run| &run.outcome)
            .collect();
        table.row(row(spec, &outcomes));
        for outcome in outcomes {
            let Some(cause) = outcome.cause() else {
                continue;
            };
            // A process that died had told its progress only now and then.
            let died = outcome.parked.is_none() && outcome.reached > 0;
            let later = if died { " or a little later" } else { "" };
            let note = format!(
                "{spec}: ended at {}{later}: {cause}",
                count(outcome.reached)
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    let has = |engine| specs.iter().any(|spec| spec.engine == engine);
    if has(Engine::Tokio) {
        let note = "tokio's tasks have no stacks: the pages are a box that each task keeps.";
        notes.push(note.to_owned());
    }
    if has(Engine::Go) {
        let note = "Go's stacks begin with 2 KiB and double. One that is used to less than a quarter is halved when the collector runs, so some were by the time all waited.";
        notes.push(note.to_owned());
    }
    if has(Engine::Threads) {
        let note = "A thread's stack in the kernel (16 KiB) and its record there are in no figure.";
        notes.push(note.to_owned());
    }
    notes.into_iter().for_each(|note| table.note(note));
    table
}

fn row(spec: &Spec, outcomes: &[&Outcome]) -> Vec<String> {
    let parked = || {
        outcomes
            .iter()
            .filter_map(|outcome| outcome.parked.as_ref())
    };
    let stack = match spec.engine {
        Engine::Tokio => "-".to_owned(),
        Engine::Go => "grows".to_owned(),
        _ => spec.slot.to_string(),
    };
    let ended = |outcome: &&Outcome| Some(outcome.reached as f64 / outcome.teardown?.seconds);
    let total = |figure: fn(Stage) -> f64| {
        let figures = outcomes
            .iter()
            .filter_map(|outcome| outcome.total.map(figure));
        cell(figures, 2)
    };
    let per_stack = |figure: fn(&Footprint) -> u64| {
        let each = move |parked: &Parked| {
            let taken = figure(&parked.now).saturating_sub(figure(&parked.before));
            taken as f64 / parked.count.max(1) as f64
        };
        cell(parked().map(each), 0)
    };
    vec![
        name(spec.engine),
        stack,
        spec.touch.to_string(),
        parked()
            .next()
            .map(|parked| parked.guard.clone())
            .unwrap_or_default(),
        outcomes
            .iter()
            .map(|outcome| outcome.reached)
            .min()
            .map(count)
            .unwrap_or_default(),
        cell(
            parked().map(|parked| parked.count as f64 / parked.spawn.seconds),
            0,
        ),
        cell(outcomes.iter().filter_map(ended), 0),
        per_stack(|footprint| footprint.resident),
        per_stack(|footprint| footprint.page_tables),
        cell(parked().map(|parked| parked.now.mappings as f64), 0),
        total(|stage| stage.seconds),
        total(|stage| stage.cpu_seconds),
    ]
}

/// Memory, and how fast they come and go, by size of stack and pages; a bar for each engine and kind of guards.
pub(super) fn figure(specs: &[Spec], runs: &[Run], wanted: &str) -> Figure {
    let mut series: Vec<String> = Vec::new();
    let mut groups: Vec<(Bytes, u32)> = Vec::new();
    for spec in specs {
        if !series.contains(&label(spec)) {
            series.push(label(spec));
        }
        if !groups.contains(&(spec.slot, spec.touch)) {
            groups.push((spec.slot, spec.touch));
        }
    }
    let panel = |unit: &str, figure: fn(&Outcome) -> Option<f64>| {
        let median = |name: &String, (slot, touch): (Bytes, u32)| {
            let of_bar = |run: &&Run| {
                let Spec {
                    engine,
                    slot: own,
                    touch: pages,
                    ..
                } = run.spec;
                label(&run.spec) == *name && pages == touch && (own == slot || !engine.has_slots())
            };
            let figures = runs
                .iter()
                .filter(of_bar)
                .filter_map(|run| figure(&run.outcome));
            Spread::of(figures).map(|spread| spread.median)
        };
        let bars = |group: &(Bytes, u32)| series.iter().map(|name| median(name, *group)).collect();
        let title = |(slot, touch): &(Bytes, u32)| format!("{slot}, {}", pages(*touch));
        Panel::Bars(Bars {
            unit: unit.to_owned(),
            groups: groups
                .iter()
                .map(|group| (title(group), bars(group)))
                .collect(),
        })
    };
    let panels = vec![
        panel("KiB of memory per stack", |outcome| {
            let Parked {
                count, now, before, ..
            } = outcome.parked.as_ref()?;
            let taken = (now.resident + now.page_tables)
                .saturating_sub(before.resident + before.page_tables);
            Some(taken as f64 / 1024.0 / *count as f64)
        }),
        panel("reached", |outcome| Some(outcome.reached as f64)),
        panel("spawned per second", |outcome| {
            let parked = outcome.parked.as_ref()?;
            Some(parked.count as f64 / parked.spawn.seconds)
        }),
        panel("ended per second", |outcome| {
            Some(outcome.reached as f64 / outcome.teardown?.seconds)
        }),
    ];
    Figure {
        title: format!("{wanted} waiting coroutines, by stack size and pages touched"),
        series,
        panels,
    }
}

/// maniple's guards make series of their own, unless the choice is left to it.
fn label(spec: &Spec) -> String {
    match spec.guard {
        Guard::Auto => name(spec.engine),
        guard => format!("{} ({})", name(spec.engine), name(guard)),
    }
}

/// A single figure stands alone.
fn cell(figures: impl IntoIterator<Item = f64>, decimals: usize) -> String {
    let figures: Vec<f64> = figures.into_iter().collect();
    match figures[..] {
        [figure] => format!("{figure:.decimals$}"),
        _ => Spread::of(figures).map_or_else(String::new, |spread| spread.show(decimals)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::stacks::spec::tests::spec;

    const STAGE: Stage = Stage {
        seconds: 2.0,
        cpu_seconds: 1.0,
    };

    fn measured(cause: Option<&str>) -> Outcome {
        let footprint = |stacks: u64| Footprint {
            resident: 1 << 20 | (stacks * 8192),
            page_tables: 4096 + stacks * 16,
            mappings: 30 + stacks * 2,
        };
        Outcome {
            reached: 100,
            parked: Some(Parked {
                count: 100,
                cause: cause.map(str::to_owned),
                guard: "mprotect".to_owned(),
                spawn: STAGE,
                before: footprint(0),
                now: footprint(100),
            }),
            teardown: Some(STAGE),
            total: Some(STAGE),
            failure: None,
        }
    }

    fn shown(engine: Engine, outcomes: Vec<Outcome>) -> String {
        let spec = spec(engine);
        let run = |outcome| Run {
            round: 1,
            spec,
            outcome,
        };
        let runs: Vec<Run> = outcomes.into_iter().map(run).collect();
        table(&[spec], &runs).to_string()
    }

    fn cells(table: &str) -> Vec<&str> {
        let row = table.lines().nth(2).unwrap();
        row.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn a_row_has_each_cost_per_stack() {
        let table = shown(Engine::May, vec![measured(None)]);
        let expected = [
            "may", "64 KiB", "2", "mprotect", "100", "50", "50", "8192", "16", "230", "2.00",
            "1.00",
        ];
        assert_eq!(cells(&table), expected);
        assert!(!table.contains("ended at"), "{table}");
    }

    #[test]
    fn an_engine_that_stops_early_has_its_figures_and_the_cause() {
        let table = shown(Engine::May, vec![measured(Some("no more mappings"))]);
        assert_eq!(cells(&table)[4], "100");
        assert!(
            table.contains("may, 64 KiB, 2 pages: ended at 100: no more mappings"),
            "{table}"
        );
    }

    #[test]
    fn a_process_that_died_is_a_row_with_what_it_had_reached() {
        let died = Outcome {
            reached: 32_742,
            ..Outcome::failed("ended early: signal: 6 (SIGABRT)".to_owned())
        };
        let table = shown(Engine::Threads, vec![died]);
        assert_eq!(
            cells(&table)[..6],
            ["threads", "64 KiB", "2", "", "32,742", ""]
        );
        assert!(
            table.contains("ended at 32,742 or a little later: ended early: signal: 6"),
            "{table}"
        );
    }

    #[test]
    fn several_rounds_are_a_median_and_a_cause_is_told_once() {
        let table = shown(
            Engine::Maniple,
            vec![measured(Some("full")), measured(Some("full"))],
        );
        assert!(cells(&table)[5].contains("50 (50..50)"), "{table}");
        assert_eq!(table.matches("full").count(), 1);
    }
}
