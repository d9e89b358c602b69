//! The command `maniple-rpc`: traffic recorded, shown, and replayed.
//!
//! ```text
//! $ maniple-rpc record --listen 127.0.0.1:7000 --to 127.0.0.1:7001 traffic.mrec    # until SIGINT or SIGTERM
//! $ maniple-rpc show traffic.mrec
//! $ maniple-rpc replay --to 127.0.0.1:7001 --speed 2 traffic.mrec
//! ```
//!
//! It is `cargo install maniple-rpc`, or a command of your own program, by [`main`].

use std::{
    fmt::Write,
    io::{self, Read},
    process::ExitCode,
};

use maniple::{
    cancel::CancelToken,
    net::TcpListener,
    signal::{SIGINT, SIGTERM, shutdown_signals},
};

use crate::{
    frame::{END, Frame, Goaway, IDEMPOTENT, Kind, Request, Response, STREAM},
    proxy,
    record::Recorder,
    recording::{Damaged, Reader, Record, Unread, Way, What},
    replay::{Pace, Replay},
    status::Code,
};

const USAGE: &str = "\
usage: maniple-rpc record --listen ADDRESS --to ADDRESS [--max-bytes N] FILE
       maniple-rpc replay --to ADDRESS [--speed N | --as-answered] [--metadata] [--idempotent]
                          [--only /package.Service/Method]... FILE
       maniple-rpc show FILE

record passes connections on, and writes what goes over them to a new file, until SIGINT or SIGTERM.
replay makes the recorded calls again: at their times (or N times as fast), or each once all before it are answered;
       it ends with 1 if an answer differs, and with 2 if the recording is damaged or cannot be replayed.
show   has a line for each record; it ends with 2 if the recording is damaged.
";

/// Differences were found.
const DIFFERENT: u8 = 1;
/// It could not be done, or not to the end.
const FAILED: u8 = 2;

/// The command, with what is behind its name. Its exit code is 0 if all is well, 1 if answers differ, else 2.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let command = arguments.next().unwrap_or_default();
    let parsed = Arguments::read(arguments);
    let done = match (command.as_str(), parsed) {
        ("--help" | "-h" | "help", _) => {
            print!("{USAGE}");
            Ok(0)
        }
        ("record", Ok(arguments)) => record(arguments),
        ("replay", Ok(arguments)) => replay(arguments),
        ("show", Ok(arguments)) => show(arguments),
        ("", _) => Err("record, replay or show? See maniple-rpc --help".to_owned()),
        ("record" | "replay" | "show", Err(why)) => Err(why),
        (other, _) => Err(format!("what is {other:?}? See maniple-rpc --help")),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("{}", why.trim_end());
            ExitCode::from(FAILED)
        }
    }
}

#[derive(Debug, Default)]
struct Arguments {
    listen: Option<String>,
    to: Option<String>,
    max_bytes: Option<u64>,
    speed: Option<f64>,
    is_as_answered: bool,
    compares_metadata: bool,
    only_idempotent: bool,
    only: Vec<String>,
    file: Option<String>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut all = Self::default();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| format!("{word} without a value"))
            };
            match word.as_str() {
                "--listen" => all.listen = Some(value()?),
                "--to" => all.to = Some(value()?),
                "--max-bytes" => all.max_bytes = Some(number(&value()?)?),
                "--speed" => all.speed = Some(number(&value()?)?),
                "--as-answered" => all.is_as_answered = true,
                "--metadata" => all.compares_metadata = true,
                "--idempotent" => all.only_idempotent = true,
                "--only" => all.only.push(value()?),
                _ if word.starts_with('-') || all.file.is_some() => {
                    return Err(format!("what is {word:?}? See maniple-rpc --help"));
                }
                _ => all.file = Some(word),
            }
        }
        Ok(all)
    }

    fn file(&self) -> Result<&str, String> {
        needed(self.file.as_deref(), "the name of a file")
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn needed<'a>(given: Option<&'a str>, what: &str) -> Result<&'a str, String> {
    given.ok_or_else(|| format!("{what} is missing; see maniple-rpc --help"))
}

fn record(arguments: Arguments) -> Result<u8, String> {
    let listen = needed(arguments.listen.as_deref(), "--listen")?;
    let to = needed(arguments.to.as_deref(), "--to")?;
    let file = arguments.file()?;
    let said = |error: io::Error| error.to_string();
    maniple::run(|| {
        let told = shutdown_signals(&[SIGTERM, SIGINT]).map_err(said)?;
        let listener = TcpListener::bind(listen).map_err(|error| format!("{listen}: {error}"))?;
        let address = listener.local_addr().map_err(said)?;
        let mut builder = Recorder::builder();
        if let Some(bytes) = arguments.max_bytes {
            builder = builder.max_bytes(bytes);
        }
        let recorder = builder.create(file).map_err(said)?;
        println!("{address} to {to}, recorded in {file}");
        let stop = CancelToken::new();
        let stopping = stop.clone();
        maniple::spawn(move || {
            let _ = told.recv();
            stopping.cancel();
        });
        // It ends by being stopped.
        let _ = stop.run(|| proxy::serve(&listener, to, &recorder));
        let recorded = recorder.finish().map_err(said)?;
        println!(
            "{} frames, {} left out, {} bytes",
            recorded.frames, recorded.left_out, recorded.bytes
        );
        Ok(0)
    })
}

fn replay(arguments: Arguments) -> Result<u8, String> {
    let to = needed(arguments.to.as_deref(), "--to")?;
    let pace = match (arguments.is_as_answered, arguments.speed) {
        (false, speed) => Pace::Times(speed.unwrap_or(1.0)),
        (true, None) => Pace::AsAnswered,
        (true, Some(_)) => return Err("--speed or --as-answered, not both".to_owned()),
    };
    let mut replay = Replay::of(arguments.file()?)
        .pace(pace)
        .compare_metadata(arguments.compares_metadata)
        .only_idempotent(arguments.only_idempotent);
    for path in arguments.only {
        replay = replay.only(path);
    }
    let summary = maniple::run(|| replay.to(to)).map_err(|error| error.to_string())?;
    println!("{summary}");
    Ok(match (&summary.damaged, summary.is_same()) {
        (Some(_), _) => FAILED,
        (None, true) => 0,
        (None, false) => DIFFERENT,
    })
}

fn show(arguments: Arguments) -> Result<u8, String> {
    let name = arguments.file()?;
    let failed = |error: io::Error| format!("read {name}: {error}");
    // A program of its own, that does nothing else.
    let mut file = std::fs::File::open(name).map_err(failed)?;
    let damaged = |damaged: Damaged| format!("{name}: {damaged}");
    let told = |unread| match unread {
        Unread::Io(error) => failed(error),
        Unread::Damaged(what) => damaged(what),
    };
    let mut reader = Reader::open(|bytes: &mut [u8]| file.read(bytes)).map_err(told)?;
    while let Some(record) = reader.next().map_err(told)? {
        println!("{}", line(record));
    }
    Ok(0)
}

/// A record in a line.
fn line(record: Record) -> String {
    let Record {
        at,
        connection,
        what,
    } = record;
    let mut line = format!("{:.6} {connection} ", at.as_secs_f64());
    // Writing to text does not fail.
    let _ = match what {
        What::Begun { client, server } => write!(line, "begins, {client} to {server}"),
        What::Frame(Way::ToServer, frame) => write!(line, "> {}", frame_line(frame)),
        What::Frame(Way::ToClient, frame) => write!(line, "< {}", frame_line(frame)),
        What::Ended => write!(line, "ends"),
        What::LeftOut(frames) => write!(line, "{frames} frames are left out"),
        What::End => write!(line, "the end"),
    };
    line
}

fn frame_line(frame: Frame) -> String {
    let Frame {
        kind,
        flags,
        call,
        body,
    } = frame;
    let length = body.len();
    let mut line = match call.serial {
        0 => format!("{kind:?}"),
        _ => format!("{kind:?} {}.{}", call.slot, call.serial),
    };
    match kind {
        Kind::Request => {
            if let Ok(Request {
                timeout,
                method,
                parts,
            }) = Request::read(body)
            {
                let (message, attachment) = (parts.message.len(), parts.attachment.len());
                let method = method.escape_ascii();
                let _ = write!(line, " {method} message {message}, attachment {attachment}");
                if timeout > 0 {
                    let _ = write!(line, ", within {timeout} us");
                }
            }
            for (flag, word) in [(STREAM, "stream"), (IDEMPOTENT, "idempotent")] {
                if flags & flag != 0 {
                    let _ = write!(line, ", {word}");
                }
            }
        }
        Kind::Response => {
            if let Ok(Response { code, parts }) = Response::read(body) {
                let (message, attachment) = (parts.message.len(), parts.attachment.len());
                let code = Code::from_number(code.into()).name();
                let _ = write!(line, " {code} message {message}, attachment {attachment}");
            }
        }
        Kind::Goaway => {
            if let Ok(Goaway { reason, text, .. }) = Goaway::read(&body) {
                let _ = write!(line, " reason {reason}: {text}");
            }
        }
        Kind::Message if flags & END != 0 => line += " the last is over",
        _ => {
            let _ = write!(line, " {length} bytes");
        }
    }
    line
}
