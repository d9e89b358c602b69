//! The connection to a broker: opened, subscribed to what is wanted, written and read until it fails, and opened again.
//!
//! One coroutine writes and one reads. What is written leaves its mark in a line, in order; what the broker answers is for the
//! oldest mark. A subscription that is confirmed over a new connection and had been over an old one has a gap before it: the members
//! are told then, so that a member that reads the state of things anew at that moment misses nothing.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, BufReader, Read, Write},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use maniple::{cancel, log_limit::LogLimit, log_within, sync::channel::RecvTimeoutError, time};
use maniple_parts::resilience::Backoff;

use crate::{
    nats, redis,
    shared::{Broker, Command, Commands, Failure, Heard, Kind, Settings, Shared, Ticket, locked},
    stream::Stream,
    wire::{Said, wrong},
};

/// Between attempts to connect.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3);

static TROUBLE: LogLimit = LogLimit::new(20);

/// Keeps a connection until it is cancelled.
pub(crate) fn run(shared: &Shared, commands: &Commands) {
    let mut pauses = Backoff::new(PAUSES);
    let mut told = None;
    let brokers = shared.settings.brokers.iter().cycle();
    for broker in brokers {
        let fault = connection(shared, broker, commands, &mut pauses, &mut told);
        if cancel::check().is_err() {
            return;
        }
        shared.unconfirm();
        let fault = fault.to_string();
        shared.note(|stats| {
            stats.broker = None;
            stats.fault = Some(fault.clone());
            stats.lost += 1;
        });
        // The same is told once.
        if told.as_ref() != Some(&fault) {
            let (name, at) = (&shared.settings.name, &broker.authority);
            log_within!(TROUBLE, warn, "{name}: the broker {at} is lost: {fault}");
            told = Some(fault);
        }
        maniple::sleep(pauses.pause());
    }
}

/// What waits for an answer.
enum Mark {
    Publish(Arc<Ticket>),
    Subscribe(Arc<str>, u64),
    Other,
}

/// There are so many marks at most; a broker that is further behind is taken for lost.
const MOST_MARKS: usize = 100_000;
/// Commands are collected up to so many bytes.
const BATCH: usize = 256 * 1024;

/// A connection as both of its coroutines see it.
struct Line<'a> {
    shared: &'a Shared,
    marks: Mutex<VecDeque<Mark>>,
    has_ended: AtomicBool,
    wants_pong: AtomicBool,
}

/// Opens a connection and keeps it; why it has ended.
fn connection(
    shared: &Shared,
    broker: &Broker,
    commands: &Commands,
    pauses: &mut Backoff,
    told: &mut Option<String>,
) -> io::Error {
    let settings = &shared.settings;
    let opened = maniple::timeout(settings.patience, || open(settings, broker));
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    let (stream, mut input, most) = match opened.unwrap_or_else(late) {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    pauses.reset();
    *told = None;
    shared.most.store(most, Relaxed);
    shared.note(|stats| {
        stats.broker = Some(broker.authority.clone());
        stats.fault = None;
        stats.connected += 1;
    });
    let line = Line {
        shared,
        marks: Mutex::default(),
        has_ended: AtomicBool::new(false),
        wants_pong: AtomicBool::new(false),
    };
    let ended = maniple::group(|g| {
        let (line, of_reader) = (&line, &stream);
        let reader = g.builder().name("broker reader").spawn(move || {
            let fault = line.read(&mut input);
            line.has_ended.store(true, Relaxed);
            // Also where it waits for a broker that takes nothing.
            let _ = of_reader.shut_down();
            line.shared.look();
            fault
        })?;
        let fault = line.write(&stream, commands);
        reader.cancel();
        // What the reader has seen is the reason; a writer finds the connection shut.
        match reader.join() {
            Ok(of_reader)
                if line.has_ended.load(Relaxed) && !cancel::is_cancelled_error(&of_reader) =>
            {
                Ok::<_, io::Error>(of_reader)
            }
            _ => Ok(fault),
        }
    });
    let fault = ended.unwrap_or_else(|error| error);
    let reason: Arc<str> = format!("the broker was lost: {fault}").into();
    for mark in std::mem::take(&mut *locked(&line.marks)) {
        if let Mark::Publish(ticket) = mark {
            ticket.answer(Err(Failure {
                reason: Arc::clone(&reason),
                may_have_arrived: true,
            }));
        }
    }
    fault
}

type Input = BufReader<Patient>;

/// Connects, and says who it is; what the broker takes at most comes with it.
fn open(settings: &Settings, broker: &Broker) -> io::Result<(Stream, Input, u64)> {
    let mut stream = Stream::connect(&broker.authority)?;
    let secure = |stream: Stream, tls| stream.secure(tls, &broker.host);
    let login = broker.login.as_ref();
    let (mut out, mut most) = (Vec::new(), u64::MAX);
    let (answers, mut input) = match settings.kind {
        Kind::Redis => {
            if let Some(tls) = &broker.tls {
                stream = secure(stream, tls)?;
            }
            redis::hello(&mut out, login);
            (1, patient(settings, &stream))
        }
        Kind::Nats => {
            // The first word is its, and in plain text.
            let mut input = patient(settings, &stream);
            let info = nats::info(&mut input)?;
            most = info.max_payload.unwrap_or(u64::MAX);
            match &broker.tls {
                None if info.tls_required => {
                    return Err(wrong("it wants TLS: name it by `tls://`"));
                }
                None => {}
                Some(_) if !(info.tls_required || info.tls_available) => {
                    return Err(wrong("it has no TLS"));
                }
                // A stranger on the way may have put it there, to be taken for what comes by TLS.
                Some(_) if !input.buffer().is_empty() => {
                    return Err(wrong("it goes on in plain text"));
                }
                Some(tls) => {
                    drop(input);
                    stream = secure(stream, tls)?;
                    input = patient(settings, &stream);
                }
            }
            nats::connect(&mut out, broker.tls.is_some(), login)?;
            out.extend_from_slice(b"PING\r\n");
            (2, input)
        }
    };
    (&stream).write_all(&out)?;
    let mut done = 0;
    while done < answers {
        match read(settings, &mut input)? {
            Said::Done => done += 1,
            Said::Refused(text) => {
                // What it quotes may be what it was told.
                let text = text.split(['\'', '"', '`']).next().unwrap_or_default();
                return Err(io::Error::other(format!("it refuses: {text}")));
            }
            Said::Nothing => {}
            _ => return Err(wrong("a message before anything was subscribed to")),
        }
    }
    Ok((stream, input, most))
}

fn read(settings: &Settings, input: &mut Input) -> io::Result<Said> {
    match settings.kind {
        Kind::Redis => redis::read(input, settings.max_message),
        Kind::Nats => nats::read(input, settings.max_message),
    }
}

/// Reads, and waits so long for more.
struct Patient {
    stream: Stream,
    silence: Duration,
}

fn patient(settings: &Settings, stream: &Stream) -> Input {
    BufReader::new(Patient {
        stream: stream.clone(),
        silence: settings.silence,
    })
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "it is silent"));
        let read = maniple::timeout(self.silence, || (&self.stream).read(buffer));
        match read.unwrap_or_else(late) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "it is silent"))
            }
            read => read,
        }
    }
}

impl Line<'_> {
    /// Takes what the broker says until the end, and says why that is.
    fn read(&self, input: &mut Input) -> io::Error {
        loop {
            let heard = read(&self.shared.settings, input).and_then(|said| self.heed(said));
            if let Err(error) = heard {
                return error;
            }
        }
    }

    fn heed(&self, said: Said) -> io::Result<()> {
        match said {
            Said::Message(name, message) => {
                self.shared.note(|stats| stats.received += 1);
                self.deliver(&name, Heard::Message(message));
            }
            Said::TooLong(name) => self.gap(&name),
            Said::Ping => {
                self.wants_pong.store(true, Relaxed);
                self.shared.look();
            }
            Said::Nothing => {}
            Said::Done => match self.mark()? {
                Mark::Publish(ticket) => {
                    self.shared.note(|stats| stats.published += 1);
                    ticket.answer(Ok(()));
                }
                Mark::Subscribe(topic, generation) => {
                    if self.shared.confirm(&topic, generation) {
                        let name = format!("{}{topic}", self.shared.settings.prefix);
                        self.gap(&name);
                    }
                }
                Mark::Other => {}
            },
            Said::Refused(text) => match self.mark()? {
                Mark::Publish(ticket) => ticket.answer(Err(Failure {
                    reason: text.into(),
                    may_have_arrived: false,
                })),
                Mark::Subscribe(topic, generation) => {
                    // Members that had it would never hear again, and not know.
                    if self.shared.refuse(&topic, generation, &text) {
                        return Err(io::Error::other(format!("it refuses `{topic}`: {text}")));
                    }
                }
                Mark::Other => return Err(io::Error::other(format!("it refuses: {text}"))),
            },
        }
        Ok(())
    }

    fn mark(&self) -> io::Result<Mark> {
        let mark = locked(&self.marks).pop_front();
        mark.ok_or_else(|| wrong("an answer to nothing"))
    }

    fn gap(&self, name: &str) {
        self.shared.note(|stats| stats.gaps += 1);
        self.deliver(name, Heard::Gap);
    }

    /// To the members here. Laggards are judged by the hub of this process, so the broker is not kept waiting.
    fn deliver(&self, name: &str, heard: Heard) {
        let prefix = &self.shared.settings.prefix;
        if let Some(topic) = name.strip_prefix(&**prefix) {
            let _ = self.shared.hub.publish(topic, heard);
        }
    }

    /// Writes what there is until the end, and says why that is.
    fn write(&self, stream: &Stream, commands: &Commands) -> io::Error {
        match self.write_on(stream, commands) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn write_on(
        &self,
        mut stream: &Stream,
        commands: &Commands,
    ) -> io::Result<std::convert::Infallible> {
        let beat = self.shared.settings.silence / 2;
        let mut out = Vec::new();
        let mut known = HashMap::new();
        self.subscribe(&mut out, &mut known, true);
        let mut next_beat = time::now() + beat;
        loop {
            stream.write_all(&out)?;
            out.clear();
            out.shrink_to(BATCH);
            let left = next_beat.saturating_duration_since(time::now());
            let mut command = match commands.recv_timeout(left) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(error) => return Err(io::Error::other(error.to_string())),
            };
            if self.has_ended.load(Relaxed) {
                // One that was not sent yet is sent over the next connection, or given up by its publisher.
                if let Some(command @ Command::Publish(_)) = command {
                    let _ = self.shared.commands.try_send(command);
                }
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            while let Some(one) = command {
                if let Command::Publish(ticket) = one {
                    self.publish(&mut out, ticket)?;
                }
                command = match out.len() < BATCH {
                    true => commands.try_recv().ok(),
                    false => None,
                };
            }
            self.subscribe(&mut out, &mut known, false);
            if self.wants_pong.swap(false, Relaxed) {
                out.extend_from_slice(b"PONG\r\n");
            }
            if time::now() >= next_beat {
                next_beat = time::now() + beat;
                locked(&self.marks).push_back(Mark::Other);
                match self.shared.settings.kind {
                    Kind::Redis => redis::command(&mut out, &[b"PING"]),
                    Kind::Nats => out.extend_from_slice(b"PING\r\n"),
                }
            }
        }
    }

    fn publish(&self, out: &mut Vec<u8>, ticket: Arc<Ticket>) -> io::Result<()> {
        if !ticket.take() {
            return Ok(());
        }
        match self.shared.settings.kind {
            Kind::Redis => {
                let topic = ticket.topic.as_bytes();
                redis::command(out, &[b"PUBLISH", topic, &ticket.message]);
            }
            Kind::Nats => nats::publish(out, &ticket.topic, &ticket.message),
        }
        let mut marks = locked(&self.marks);
        marks.push_back(Mark::Publish(ticket));
        match marks.len() > MOST_MARKS {
            true => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it does not answer",
            )),
            false => Ok(()),
        }
    }

    /// Subscribes to what is wanted and not known to the broker, and the other way round.
    fn subscribe(&self, out: &mut Vec<u8>, known: &mut HashMap<Arc<str>, u64>, is_new: bool) {
        let Settings { kind, prefix, .. } = &self.shared.settings;
        for (topic, wanted) in self.shared.changes(is_new) {
            let is = known.get(&topic).copied();
            if is == wanted {
                continue;
            }
            let mut marks = locked(&self.marks);
            let name = format!("{prefix}{topic}");
            if let Some(generation) = known.remove(&topic) {
                marks.push_back(Mark::Other);
                match kind {
                    Kind::Redis => redis::command(out, &[b"UNSUBSCRIBE", name.as_bytes()]),
                    Kind::Nats => {
                        out.extend_from_slice(format!("UNSUB {generation}\r\n").as_bytes())
                    }
                }
            }
            if let Some(generation) = wanted {
                marks.push_back(Mark::Subscribe(Arc::clone(&topic), generation));
                match kind {
                    Kind::Redis => redis::command(out, &[b"SUBSCRIBE", name.as_bytes()]),
                    Kind::Nats => {
                        out.extend_from_slice(format!("SUB {name} {generation}\r\n").as_bytes());
                    }
                }
                known.insert(topic, generation);
            }
        }
    }
}
