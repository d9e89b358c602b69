//! Records, shows and replays traffic: `maniple-rpc record --listen 127.0.0.1:7000 --to 127.0.0.1:7001 traffic.mrec`.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    maniple_rpc::traffic::main(env::args().skip(1))
}
