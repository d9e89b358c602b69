//! What a child tells its parent, one line of JSON at a time, and what the parent makes of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::Spec;
use crate::{capacity::quantity::count, process::Child, terminal::progress};

/// A line that a child prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// So many were spawned so far.
    Reached(u64),
    /// All that there will be wait.
    Parked(Parked),
    /// So many ended so far.
    Joined(u64),
    /// All ended.
    Ended(Stage),
    /// Since the first was spawned; nothing is left.
    Finished(Stage),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Parked {
    pub(in super::super) count: u64,
    /// Why there are no more, if more were asked for.
    pub(in super::super) cause: Option<String>,
    /// How stacks are guarded in fact.
    pub(in super::super) guard: String,
    pub(in super::super) spawn: Stage,
    /// Before the first.
    pub(in super::super) before: Footprint,
    pub(in super::super) now: Footprint,
}

/// How long something took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Stage {
    pub(super) seconds: f64,
    /// Of the whole process.
    pub(super) cpu_seconds: f64,
}

/// What a process takes, in bytes and in mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Footprint {
    pub(in super::super) resident: u64,
    pub(in super::super) page_tables: u64,
    pub(super) mappings: u64,
}

/// How one configuration went in one round, as far as it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in super::super) struct Outcome {
    /// Coroutines that were spawned; if it ended early, at least so many.
    pub(super) reached: u64,
    pub(in super::super) parked: Option<Parked>,
    pub(super) teardown: Option<Stage>,
    pub(super) total: Option<Stage>,
    /// What went wrong, if so.
    pub(super) failure: Option<String>,
}

impl Outcome {
    pub(in super::super) fn failed(cause: String) -> Self {
        Self {
            failure: Some(cause),
            ..Self::default()
        }
    }

    /// Why it stopped before its end.
    pub(in super::super) fn cause(&self) -> Option<&str> {
        let parked = self
            .parked
            .as_ref()
            .and_then(|parked| parked.cause.as_deref());
        self.failure.as_deref().or(parked)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Reached(count) => self.reached = count,
            Event::Parked(parked) => {
                self.reached = parked.count;
                self.parked = Some(parked);
            }
            Event::Joined(_) => {}
            Event::Ended(stage) => self.teardown = Some(stage),
            Event::Finished(stage) => self.total = Some(stage),
        }
    }
}

/// Follows a child to its end.
pub(super) fn follow(spec: &Spec, round: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let arguments = ["capacity".to_owned(), "stacks-row".to_owned()];
    let mut child = match Child::start(arguments.into_iter().chain(spec.arguments())) {
        Ok(child) => child,
        Err(error) => return Outcome::failed(format!("{error:#}")),
    };
    while outcome.total.is_none() {
        let event = child
            .line(PATIENCE)
            .and_then(|line| Ok(serde_json::from_str(&line)?));
        match event {
            Ok(event) => {
                progress(&format!("{spec}{round}: {}", describe(&event, spec.count)));
                outcome.take(event);
            }
            Err(error) => {
                outcome.failure = Some(format!("{error:#}"));
                break;
            }
        }
    }
    outcome
}

fn describe(event: &Event, of: u64) -> String {
    match event {
        Event::Reached(reached) => format!("{} of {} spawned", count(*reached), count(of)),
        Event::Parked(parked) => format!("{} wait", count(parked.count)),
        Event::Joined(joined) => format!("{} ended", count(*joined)),
        Event::Ended(_) => "all ended".to_owned(),
        Event::Finished(_) => "done".to_owned(),
    }
}

/// How long a child may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE: Stage = Stage {
        seconds: 2.0,
        cpu_seconds: 1.0,
    };

    fn parked(cause: Option<&str>) -> Parked {
        Parked {
            count: 7,
            cause: cause.map(str::to_owned),
            guard: "none".to_owned(),
            spawn: STAGE,
            before: Footprint::default(),
            now: Footprint::default(),
        }
    }

    #[test]
    fn events_survive_the_pipe() {
        for event in [
            Event::Reached(3),
            Event::Parked(parked(Some("full"))),
            Event::Joined(1),
            Event::Ended(STAGE),
        ] {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }

    #[test]
    fn what_was_reached_outlives_the_child() {
        let mut outcome = Outcome::default();
        outcome.take(Event::Reached(512));
        assert_eq!((outcome.reached, outcome.cause()), (512, None));
        outcome.take(Event::Parked(parked(Some("no more mappings"))));
        assert_eq!(
            (outcome.reached, outcome.cause()),
            (7, Some("no more mappings"))
        );
        outcome.failure = Some("signal: 6".to_owned());
        assert_eq!(outcome.cause(), Some("signal: 6"));
    }
}
