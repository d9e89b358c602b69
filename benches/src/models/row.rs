//! What the laboratory found out about one model: its loads, each with its figures or the cause why there are none.

use maniple_models::{Model, Service};
use serde::Serialize;

pub(super) use super::cost::Cost;
use super::{chat::Chat, load::Measured, tally::Seen, tree::Holdings, verdict::Beyond};
pub(super) use crate::outcome::Outcome;

/// All that was measured of one model.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) serves_chat: bool,
    pub(super) lines_of_code: usize,
    /// Median of all its starts.
    pub(super) start_up_ms: Option<f64>,
    /// Before its first client.
    pub(super) idle: Option<Holdings>,
    pub(super) loads: Vec<Loaded>,
    pub(super) chat: Option<Outcome<Chat>>,
}

/// One load and what it brought.
#[derive(Debug, Serialize)]
pub(super) struct Loaded {
    pub(super) load: Load,
    pub(super) outcome: Outcome<Figures>,
}

/// Which load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Load {
    /// Aggregates in a closed loop over so many connections.
    Closed(usize),
    /// Computing in a closed loop over so many connections.
    Cpu(usize),
    /// Aggregates that fall due so often a second.
    Open(f64),
    /// The same at a multiple of what the model can.
    Beyond(f64),
}

/// What a load saw and what it cost the model.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    #[serde(flatten)]
    pub(super) seen: Seen,
    pub(super) cost: Option<Cost>,
    pub(super) holdings: Option<Holdings>,
    pub(super) beyond: Option<Beyond>,
}

impl From<Measured> for Figures {
    fn from(measured: Measured) -> Self {
        let Measured { seen, used } = measured;
        Self {
            cost: used.and_then(|(used, _)| Cost::of(used, seen.per_second)),
            holdings: used.map(|(_, holdings)| holdings),
            seen,
            beyond: None,
        }
    }
}

impl Row {
    pub(super) fn new(model: &Model) -> Self {
        Self {
            number: model.number,
            name: model.name,
            title: model.title,
            serves_chat: matches!(model.service, Service::Chat { .. }),
            lines_of_code: model.lines_of_code(),
            start_up_ms: None,
            idle: None,
            loads: Vec::new(),
            chat: None,
        }
    }

    /// The outcome of the load that fits.
    pub(super) fn load(&self, fits: impl Fn(Load) -> bool) -> Option<&Outcome<Figures>> {
        let loaded = self.loads.iter().find(|loaded| fits(loaded.load))?;
        Some(&loaded.outcome)
    }

    /// Most answers a second, in a closed loop over any number of connections.
    pub(super) fn peak(&self) -> Option<f64> {
        let closed = self.loads.iter().filter_map(|loaded| match loaded.load {
            Load::Closed(_) => Some(loaded.outcome.seen()?.seen.per_second),
            _ => None,
        });
        closed.reduce(f64::max).filter(|peak| *peak > 0.0)
    }

    /// What one more connection takes, from the load with the most; in bytes.
    pub(super) fn memory_per_connection(&self) -> Option<f64> {
        let most = self.loads.iter().filter_map(|loaded| match loaded.load {
            Load::Closed(connections) => {
                Some((connections, loaded.outcome.seen()?.holdings?.memory))
            }
            _ => None,
        });
        let (connections, memory) = most.max_by_key(|(connections, _)| *connections)?;
        let more = memory.saturating_sub(self.idle?.memory);
        Some(more as f64 / connections as f64)
    }

    /// Whether anything could be measured.
    pub(super) fn has_figures(&self) -> bool {
        let mut loads = self.loads.iter();
        let chat = self.chat.as_ref().and_then(Outcome::seen);
        loads.any(|loaded| loaded.outcome.seen().is_some()) || chat.is_some()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::tree::Used, *};

    pub(in super::super) fn figures(per_second: f64, memory: u64) -> Figures {
        Figures {
            seen: Seen {
                answered: 10,
                per_second,
                p50_ms: Some(20.0),
                p99_ms: Some(55.5),
                p999_ms: Some(60.0),
                ..Seen::default()
            },
            cost: Some(Cost {
                cpu_us: 33.3,
                switches: 2.0,
                more_switches: false,
            }),
            holdings: Some(Holdings {
                processes: 1,
                threads: 4,
                descriptors: 20,
                memory,
            }),
            beyond: None,
        }
    }

    pub(in super::super) fn row(loads: Vec<(Load, Outcome<Figures>)>) -> Row {
        Row {
            idle: Some(Holdings {
                memory: 1000,
                ..Holdings::default()
            }),
            start_up_ms: Some(2.5),
            loads: loads
                .into_iter()
                .map(|(load, outcome)| Loaded { load, outcome })
                .collect(),
            ..Row::new(&maniple_models::MODELS[0])
        }
    }

    #[test]
    fn a_cost_is_that_of_one_request() {
        let used = Used {
            seconds: 2.0,
            cpu_seconds: 0.5,
            switches: 3000,
            made: 10,
        };
        let cost = Cost::of(used, 500.0).unwrap();
        assert_eq!((cost.cpu_us, cost.switches), (500.0, 3.0));
        assert!(!cost.more_switches);
        let used = Used { made: 1000, ..used };
        assert!(Cost::of(used, 500.0).unwrap().more_switches);
        assert_eq!(Cost::of(used, 0.0), None);
    }

    #[test]
    fn a_peak_is_the_best_of_the_closed_loops() {
        let row = row(vec![
            (Load::Closed(1), Outcome::Seen(figures(30.0, 2000))),
            (Load::Closed(16), Outcome::Seen(figures(500.0, 5000))),
            (Load::Closed(256), Outcome::Failed("no".into())),
            (Load::Cpu(16), Outcome::Seen(figures(9000.0, 0))),
        ]);
        assert_eq!(row.peak(), Some(500.0));
        assert_eq!(row.memory_per_connection(), Some(250.0));
        assert!(row.has_figures());
    }

    #[test]
    fn without_an_answer_there_is_no_peak() {
        let loads = vec![(Load::Closed(1), Outcome::Seen(figures(0.0, 0)))];
        assert_eq!(row(loads).peak(), None);
        assert!(!row(Vec::new()).has_figures());
    }
}
