//! The control socket: what may be asked of a supervisor, and the asking.
//!
//! ```text
//! $ maniple-ctl --socket /run/greeter.sock status
//! serving: 2 of 2 workers ready, generation 2, supervisor 4242
//! WORKER     PID  GENERATION  STATE     SECONDS  CRASHES  SAYS
//!      0    4250           2  ready          12        0
//!      1    4251           2  ready          11        1
//! last crash of worker 1: killed by SIGSEGV
//! ```
//!
//! It is `cargo install maniple-supervise`, or a command of your own program, by [`main`] or [`ask`].

use std::{
    env,
    io::{self, Read, Write},
    os::unix::net as std_net,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use maniple::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, channel::Sender, oneshot},
    task,
};

use crate::{sockets::invalid, supervisor::Event};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// What each worker does.
    Status,
    /// That each worker is replaced by a new process; the answer comes when that is done, or has failed.
    Reload,
    /// That the service ends; the answer comes at once.
    Stop,
}

impl Request {
    fn word(self) -> &'static str {
        match self {
            Request::Status => "status",
            Request::Reload => "reload",
            Request::Stop => "stop",
        }
    }
}

impl FromStr for Request {
    type Err = io::Error;

    fn from_str(word: &str) -> io::Result<Self> {
        let all = [Request::Status, Request::Reload, Request::Stop];
        let asked = all.into_iter().find(|request| request.word() == word);
        asked.ok_or_else(|| invalid(format!("{word:?} is none of status, reload and stop")))
    }
}

/// What a supervisor answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Ok(String),
    Failed(String),
}

/// Asks the supervisor whose control socket lies at that path, and waits for its answer.
///
/// From a plain thread or a coroutine's, which it blocks: it is for programs that do nothing else.
///
/// # Errors
/// If nobody listens there, or what was asked for has failed; the message says why.
pub fn ask(socket: &Path, request: Request) -> io::Result<String> {
    let at = |error: io::Error| {
        let text = format!("{}: {error}", socket.display());
        io::Error::new(error.kind(), text)
    };
    let mut stream = std_net::UnixStream::connect(socket).map_err(at)?;
    writeln!(stream, "{}", request.word()).map_err(at)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(at)?;
    match answer.split_once('\n') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("failed", text)) => Err(io::Error::other(text.trim_end().to_owned())),
        _ => Err(at(io::Error::from(io::ErrorKind::UnexpectedEof))),
    }
}

/// The command `maniple-ctl`, for programs that have it as one of theirs: `[--socket PATH] status|reload|stop`. Without a
/// path it is what `default` says, or the environment's `MANIPLE_CTL`.
pub fn main(arguments: impl IntoIterator<Item = String>, default: Option<PathBuf>) -> ExitCode {
    match command(arguments, default) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn command(
    arguments: impl IntoIterator<Item = String>,
    default: Option<PathBuf>,
) -> io::Result<String> {
    const USAGE: &str = "usage: [--socket PATH] status|reload|stop";
    let mut socket = env::var_os("MANIPLE_CTL").map(PathBuf::from).or(default);
    let mut request = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--socket" => socket = arguments.next().map(PathBuf::from),
            "--help" | "-h" => return Ok(format!("{USAGE}\n")),
            word if request.is_none() => request = Some(word.parse()?),
            _ => return Err(invalid(USAGE.to_owned())),
        }
    }
    match (socket, request) {
        (Some(socket), Some(request)) => ask(&socket, request),
        (None, Some(_)) => Err(invalid("where is the socket? --socket PATH".to_owned())),
        (_, None) => Err(invalid(USAGE.to_owned())),
    }
}

/// Connections at a time: further ones wait.
const AT_ONCE: usize = 16;

/// How long a question may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves those who ask.
pub(crate) fn serve(listener: std_net::UnixListener, happened: &Sender<Event>) {
    let listener = match UnixListener::try_from(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("the control socket: {error}"),
    };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = places.clone().acquire_owned() else {
            return;
        };
        match listener.accept() {
            Ok((stream, _)) => {
                let happened = happened.clone();
                let answering = task::Builder::new().name("supervisor ctl").spawn(move || {
                    if let Err(error) = answer(&stream, &happened) {
                        log::debug!("the control socket: {error}");
                    }
                    drop(place);
                });
                drop(answering);
            }
            Err(error) if maniple::cancel::is_cancelled_error(&error) => return,
            Err(error) => {
                log::warn!("the control socket: {error}");
                maniple::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn answer(stream: &UnixStream, happened: &Sender<Event>) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let asking = stream.peer_credentials()?.uid;
    let answer = if asking != own && asking != 0 {
        Answer::Failed(format!("user {asking} may not ask what user {own} runs\n"))
    } else {
        match question(stream)?.parse() {
            Err(error) => Answer::Failed(format!("{error}\n")),
            Ok(request) => {
                let (sender, receiver) = oneshot::channel();
                let asked = happened.send(Event::Asked(request, sender));
                let answer = asked.ok().and_then(|()| receiver.recv().ok());
                answer.unwrap_or_else(|| Answer::Failed("the service has ended\n".to_owned()))
            }
        }
    };
    let text = match answer {
        Answer::Ok(text) => format!("ok\n{text}"),
        Answer::Failed(text) => format!("failed\n{text}"),
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    (&mut &*stream).write_all(text.as_bytes())
}

/// A short line.
fn question(stream: &UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < 64 {
        let mut byte = [0];
        match (&mut &*stream).read(&mut byte)? {
            0 => break,
            _ => line.push(byte[0]),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
