//! What `GET /aggregate/{id}` returns: which calls were made, how each ended, and whether the whole is usable.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use maniple_server::StatusCode;
use serde::Serialize;

use crate::duration;

/// How the backends are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One after another; the first that does not succeed ends it.
    Serial,
    /// All at once; the first failure cancels the others.
    Parallel,
    /// All at once; the first success cancels the others.
    Race,
    /// All at once, each with a second attempt when the first is slow or fails; the loser is cancelled.
    Hedged,
    /// All at once; what is in by the deadline is returned.
    Partial,
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The backend answered 200.
    Ok,
    /// The backend answered with an error, or could not be reached.
    Failed,
    /// Given up because another call decided the matter.
    Cancelled,
    /// Not in by the deadline.
    Late,
}

/// One call to one backend. Times count from the arrival of the request at the gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    pub backend: String,
    pub start_ms: f64,
    pub end_ms: f64,
    /// The backend's HTTP status, if it answered.
    pub status: Option<u16>,
    pub outcome: Outcome,
}

/// The answer to one aggregate request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub id: String,
    pub mode: Mode,
    pub total_ms: f64,
    /// Every backend succeeded; in a race, one did.
    pub complete: bool,
    /// Backend by backend in the gateway's order; a hedged backend has one entry for each attempt.
    pub calls: Vec<Call>,
}

impl Report {
    /// Sums up the calls of each backend.
    ///
    /// A backend that was never asked gets an entry of no length at the end: late if the deadline
    /// was what ended the request, cancelled otherwise.
    pub fn new(id: &str, mode: Mode, total: Duration, backends: Vec<(&str, Vec<Call>)>) -> Report {
        let succeeded = |calls: &[Call]| calls.iter().any(|call| call.outcome == Outcome::Ok);
        let complete = match mode {
            Mode::Race => backends.iter().any(|(_, calls)| succeeded(calls)),
            _ => backends.iter().all(|(_, calls)| succeeded(calls)),
        };
        let was_late = backends
            .iter()
            .flat_map(|(_, calls)| calls)
            .any(|call| call.outcome == Outcome::Late);
        let total_ms = duration::as_ms(total);
        let mut calls = Vec::new();
        for (name, made) in backends {
            if made.is_empty() {
                let outcome = if was_late {
                    Outcome::Late
                } else {
                    Outcome::Cancelled
                };
                let backend = name.to_owned();
                calls.push(Call {
                    backend,
                    start_ms: total_ms,
                    end_ms: total_ms,
                    status: None,
                    outcome,
                });
            }
            calls.extend(made);
        }
        Report {
            id: id.to_owned(),
            mode,
            total_ms,
            complete,
            calls,
        }
    }

    /// The HTTP status of the report itself: 200 when it is usable, 504 when the deadline left it
    /// incomplete, 502 when a backend did.
    pub fn status(&self) -> StatusCode {
        let has = |outcome| self.calls.iter().any(|call| call.outcome == outcome);
        if self.complete || (self.mode == Mode::Partial && has(Outcome::Ok)) {
            StatusCode::OK
        } else if has(Outcome::Late) {
            StatusCode::GATEWAY_TIMEOUT
        } else {
            StatusCode::BAD_GATEWAY
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value()
            .map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Cancelled, Failed, Late, Ok};
    use super::*;

    fn report(mode: Mode, outcomes: &[&[Outcome]]) -> Report {
        let backends = ["A", "B", "C"]
            .into_iter()
            .zip(outcomes)
            .map(|(backend, outcomes)| {
                let calls = outcomes.iter().map(|&outcome| Call {
                    backend: backend.to_owned(),
                    start_ms: 0.0,
                    end_ms: 1.5,
                    status: (outcome == Ok).then_some(200),
                    outcome,
                });
                (backend, calls.collect())
            });
        Report::new("42", mode, Duration::from_millis(2), backends.collect())
    }

    #[test]
    fn the_json_has_exactly_the_promised_fields() {
        let json = serde_json::to_string(&report(Mode::Partial, &[&[Ok], &[Late]])).unwrap();
        assert_eq!(
            json,
            r#"{"id":"42","mode":"partial","total_ms":2.0,"complete":false,"calls":["#.to_owned()
                + r#"{"backend":"A","start_ms":0.0,"end_ms":1.5,"status":200,"outcome":"ok"},"#
                + r#"{"backend":"B","start_ms":0.0,"end_ms":1.5,"status":null,"outcome":"late"}]}"#
        );
    }

    #[test]
    fn completeness_and_status_follow_the_mode() {
        use Mode::{Hedged, Parallel, Partial, Race, Serial};
        let table: &[(Mode, &[&[Outcome]], bool, u16)] = &[
            (Serial, &[&[Ok], &[Ok]], true, 200),
            (Serial, &[&[Ok], &[Failed], &[]], false, 502),
            (Serial, &[&[Ok], &[Late], &[]], false, 504),
            (Parallel, &[&[Cancelled], &[Failed]], false, 502),
            (Parallel, &[&[Ok], &[Late]], false, 504),
            (Race, &[&[Ok], &[Cancelled], &[Failed]], true, 200),
            (Race, &[&[Failed], &[Failed]], false, 502),
            (Race, &[&[Failed], &[Late]], false, 504),
            (Hedged, &[&[Cancelled, Ok], &[Ok]], true, 200),
            (Hedged, &[&[Failed, Failed], &[Cancelled]], false, 502),
            (Partial, &[&[Ok], &[Late]], false, 200),
            (Partial, &[&[Failed], &[Late]], false, 504),
            (Partial, &[&[Failed], &[Failed]], false, 502),
        ];
        for (mode, outcomes, complete, status) in table {
            let report = report(*mode, outcomes);
            assert_eq!(
                (report.complete, report.status().as_u16()),
                (*complete, *status),
                "{mode} {outcomes:?}"
            );
        }
    }

    #[test]
    fn a_backend_never_asked_tells_why() {
        let after_failure = report(Mode::Serial, &[&[Failed], &[]]);
        let after_deadline = report(Mode::Serial, &[&[Late], &[]]);
        assert_eq!(after_failure.calls[1].outcome, Cancelled);
        assert_eq!(after_deadline.calls[1].outcome, Late);
        assert_eq!(after_failure.calls[1].start_ms, after_failure.total_ms);
    }
}
