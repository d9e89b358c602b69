//! One model in the laboratory: each load meets it in a process just started, so that none sees what another left behind.

use std::time::Duration;

use anyhow::{Result, anyhow};
use maniple_models::{Model, Service};

use super::{
    chat,
    load::{self, Window},
    plan::Plan,
    question::Question,
    row::{Figures, Load, Loaded, Outcome, Row},
    server::{Server, start_backends},
    tree::Snapshot,
    verdict::{Beyond, Verdict},
};
use crate::stats::Spread;

/// All loads on one model; `progress` is told of each.
pub(super) fn measure(model: &Model, plan: &Plan, progress: impl Fn(&str)) -> Row {
    let mut subject = Subject {
        model,
        plan,
        starts_ms: Vec::new(),
        row: Row::new(model),
    };
    match model.service {
        Service::Chat { .. } => {
            progress("chat");
            subject.row.chat = Some(subject.chat().into());
        }
        _ => subject.http(progress),
    }
    let Subject {
        starts_ms, mut row, ..
    } = subject;
    row.start_up_ms = Spread::of(starts_ms).map(|spread| spread.median);
    row
}

struct Subject<'a> {
    model: &'a Model,
    plan: &'a Plan,
    starts_ms: Vec<f64>,
    row: Row,
}

impl Subject<'_> {
    fn http(&mut self, progress: impl Fn(&str)) {
        let plan = self.plan;
        let closed = plan
            .connections
            .iter()
            .map(|&connections| Load::Closed(connections));
        let loads: Vec<Load> = [Load::Open(plan.per_second), Load::Cpu(plan.cpu_connections)]
            .into_iter()
            .chain(closed)
            .collect();
        for load in loads {
            progress(&name(load));
            let outcome = self.meet(load).into();
            self.row.loads.push(Loaded { load, outcome });
        }
        let Some(peak) = self.row.peak() else {
            return;
        };
        let load = Load::Beyond((peak * plan.beyond).min(plan.most_per_second));
        progress(&name(load));
        let outcome = self.meet(load).into();
        self.row.loads.push(Loaded { load, outcome });
    }

    /// One load, with a model and backends of its own.
    fn meet(&mut self, load: Load) -> Result<Figures> {
        let (_backends, addresses) = start_backends()?;
        let mut server = self.start(&addresses)?;
        let (plan, window) = (self.plan, self.plan.window(load));
        let measured = match load {
            Load::Closed(connections) => {
                load::closed(&server, connections, Question::some_aggregate, window)?
            }
            Load::Cpu(connections) => {
                load::closed(&server, connections, |_| Question::Cpu(plan.cpu_us), window)?
            }
            Load::Open(per_second) | Load::Beyond(per_second) => {
                load::open(&server, per_second, plan.most_connections, window)?
            }
        };
        let died = server.ended();
        let mut figures = Figures::from(measured);
        if let Load::Beyond(per_second) = load {
            figures.beyond = Some(self.beyond(&server, per_second, &figures, died)?);
            // Answers that come after the load's end are counted, and what they cost is not.
            figures.cost = None;
            return Ok(figures);
        }
        match died {
            Some(cause) => Err(anyhow!("{cause}")),
            None => Ok(figures),
        }
    }

    fn start(&mut self, backends: &str) -> Result<Server> {
        let server = Server::start(self.model, backends)?;
        self.starts_ms.push(server.start_up.as_secs_f64() * 1e3);
        if self.row.idle.is_none() {
            self.row.idle = Some(Snapshot::of(server.group())?.holdings);
        }
        Ok(server)
    }

    fn beyond(
        &self,
        server: &Server,
        per_second: f64,
        figures: &Figures,
        died: Option<String>,
    ) -> Result<Beyond> {
        let calm = self.row.load(|load| matches!(load, Load::Open(_)));
        let calm = calm
            .and_then(Outcome::seen)
            .and_then(|calm| calm.seen.p99_ms);
        let afterwards = match died {
            Some(_) => None,
            None => load::probe(server, self.plan.recovery)?,
        };
        let verdict = Verdict::of(&figures.seen, calm, died);
        Ok(Beyond::of(per_second, &figures.seen, verdict, afterwards))
    }

    fn chat(&mut self) -> Result<chat::Chat> {
        let (_backends, addresses) = start_backends()?;
        let plan = &self.plan.chat;
        let server = self.start(&addresses)?;
        let crowd = chat::crowd(&server, plan)?;
        drop(server);
        let server = self.start(&addresses)?;
        let stall = chat::stall(&server, plan).into();
        Ok(chat::Chat { crowd, stall })
    }
}

/// What is going on, in words.
pub(super) fn name(load: Load) -> String {
    match load {
        Load::Closed(1) => "1 connection".to_owned(),
        Load::Closed(connections) => format!("{connections} connections"),
        Load::Cpu(connections) => format!("computing, {connections} connections"),
        Load::Open(per_second) => format!("{per_second:.0} a second"),
        Load::Beyond(per_second) => format!("beyond capacity, {per_second:.0} a second"),
    }
}

impl Plan {
    fn window(&self, load: Load) -> Window {
        let length = Duration::from_secs_f64(self.seconds);
        let warm_up = length.mul_f64(WARM_UP);
        match load {
            Load::Closed(connections) | Load::Cpu(connections) => Window {
                // Some models start a process for each.
                warm_up: warm_up.max(PER_CONNECTION * connections as u32),
                length,
                patience: self.patience,
            },
            Load::Open(_) => Window {
                warm_up,
                length,
                patience: self.patience,
            },
            // Long enough for a queue that grows without bounds to reach it.
            Load::Beyond(_) => Window {
                warm_up,
                length,
                patience: (length / 2).max(LEAST_PATIENCE).min(self.patience),
            },
        }
    }
}

/// Of the measured seconds.
const WARM_UP: f64 = 0.2;
/// Longer than anything takes that need not queue.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);
const PER_CONNECTION: Duration = Duration::from_micros(250);
