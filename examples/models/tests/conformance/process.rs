//! A model, or the backends, as a process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

/// The program that runs models.
pub fn model() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model"));
    command.stdin(Stdio::null()).arg("--end-with-parent");
    command
}

/// A process that has said where it listens; dropping it kills it.
pub struct Running {
    process: Child,
    said: String,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = model()
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let said = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(!said.is_empty(), "{arguments:?} said nothing");
        Self { process, said }
    }

    pub fn address(&self) -> SocketAddr {
        self.said.parse().unwrap()
    }

    /// What it said after the last space.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
