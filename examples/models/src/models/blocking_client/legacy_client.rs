//! A client for the backends as it might come from somebody else, with an interface of its
//! own. It stands for what cannot be changed: it connects for each call, blocks until there
//! is an answer, has no time limits, and cannot be interrupted.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
};

/// What went wrong, as a number and a text.
#[derive(Debug)]
pub struct LegacyError {
    /// The system's number of the error; 0 if there is none, -1 if it was the server that refused.
    pub code: i32,
    /// In words.
    pub text: String,
}

/// Asks the server at `host` and `port` for what it has under `key`. Returns when it has answered.
pub fn legacy_lookup(host: &str, port: u16, key: &str) -> Result<String, LegacyError> {
    let mut stream = TcpStream::connect((host, port)).map_err(failed)?;
    stream
        .write_all(format!("lookup {key}\n").as_bytes())
        .map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(failed)?;
    let broken = || LegacyError {
        code: 0,
        text: "the server has hung up".to_owned(),
    };
    let said = line
        .strip_suffix('\n')
        .and_then(|line| line.strip_prefix("lookup "))
        .ok_or_else(broken)?;
    match said.strip_prefix('!') {
        None => Ok(said.to_owned()),
        Some(why) => Err(LegacyError {
            code: -1,
            text: why.to_owned(),
        }),
    }
}

fn failed(error: io::Error) -> LegacyError {
    LegacyError {
        code: error.raw_os_error().unwrap_or(0),
        text: error.to_string(),
    }
}
