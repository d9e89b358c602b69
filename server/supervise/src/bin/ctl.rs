//! Asks a supervisor by its control socket: `maniple-ctl --socket /run/greeter.sock status`.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    maniple_supervise::ctl::main(env::args().skip(1), None)
}
