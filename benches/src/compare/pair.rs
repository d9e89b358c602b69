//! A server and its load, each a process of its own that has done nothing before.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::{
    go,
    load::open::{Plan, Seen},
    process::Child,
    servers::Name,
};

/// A server that listens.
pub(super) struct Served {
    name: String,
    child: Child,
    address: String,
}

impl Served {
    /// Starts it, with arguments beside its name.
    pub(super) fn start(name: Name, arguments: &[String]) -> Result<Self> {
        name.ready()?;
        let own = ["serve".to_owned(), name.to_string()];
        let mut child = match name {
            Name::Go if arguments.is_empty() => go::start_server()?,
            _ => Child::start(own.iter().chain(arguments))?,
        };
        let address = child.line(START_PATIENCE)?;
        Ok(Self::of(&name.to_string(), child, address))
    }

    /// One that listens already.
    pub(super) fn of(name: &str, child: Child, address: String) -> Self {
        Self {
            name: name.to_owned(),
            child,
            address,
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Has a load that takes so many seconds run against it, and reads what it saw.
    pub(super) fn under<S: DeserializeOwned>(
        &mut self,
        load: &str,
        arguments: &[String],
        seconds: f64,
    ) -> Result<S> {
        let own = [
            load.to_owned(),
            format!("--address={}", self.address),
            format!("--server={}", self.child.id()),
        ];
        let mut loading = Child::start(own.iter().chain(arguments))?;
        let patience = START_PATIENCE + Duration::from_secs_f64(seconds);
        let line = loading.line(patience).map_err(|error| {
            // A server that has ended knows better than its client what happened.
            let cause = self.child.ended();
            cause.map_or(error, |cause| cause.context(format!("{} ended", self.name)))
        })?;
        serde_json::from_str(&line).context("what the load printed")
    }

    /// Has the load of a plan run against it.
    pub(super) fn under_plan(&mut self, plan: &Plan) -> Result<Seen> {
        let text = serde_json::to_string(plan)?;
        let arguments = [format!("--plan={text}")];
        self.under("open-load", &arguments, plan.warm_up_seconds + plan.seconds)
    }
}

/// How long a server may take to listen, and a load to connect.
const START_PATIENCE: Duration = Duration::from_secs(20);
