//! The load that sends at a given rate whatever the server does (an open loop).
//!
//! Latencies run from the time at which a request was due, not from when it was sent: a server that stalls pays for all
//! that fell due meanwhile, and not only for what was under way (no coordinated omission). A request that falls due while
//! its connection still waits for an answer waits there, for the server's sake. How long after that time the load turned to a
//! request is its own fault, and told beside the latencies.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::{
    event::Timespec,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    arrivals::{Arrival, Arrivals, Pace},
    connections::{Connections, SILENCE},
    latencies,
};
use crate::process::{self, Core, cpu_time_of};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[arg(long)]
    address: SocketAddr,
    /// Process id of the server.
    #[arg(long)]
    server: u32,
    /// The plan as JSON.
    #[arg(long, value_parser = plan)]
    plan: Plan,
}

fn plan(text: &str) -> Result<Plan, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What to send.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Plan {
    /// Of the arrivals: the same for all contenders of a round.
    pub(crate) seed: u64,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) room: Room,
    pub(crate) streams: Vec<Stream>,
}

/// Where the load runs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Room {
    /// On the last core, where it looks again and again for what to do and never sleeps.
    OwnCore,
    /// On the cores of the server, with a higher priority if it gets that, and asleep until there is something to do.
    Shared,
}

/// Requests of one kind, on connections of their own.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Stream {
    pub(crate) target: String,
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
    /// Opens so many connections, asks on each where it is served, and keeps to those that the most frequent thread
    /// serves, as far as there are enough. The others stay open and silent.
    pub(crate) crowd_of: Option<usize>,
    /// Whether its latencies are those that are asked for.
    pub(crate) counted: bool,
}

/// What one run saw, printed as one line of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// Those that were counted.
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// CPU time of the server's process within the measured seconds.
    pub(crate) server_cpu_seconds: f64,
    /// CPU time of the load's own process.
    pub(crate) load_cpu_seconds: f64,
    /// From the time at which a request was due to its answer.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// How long after a request was due the load turned to it.
    pub(crate) late_p99_us: f64,
    pub(crate) late_max_us: f64,
    /// How many connections of a crowd the most frequent thread serves.
    pub(crate) crowd: Option<usize>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options.plan.room {
        Room::OwnCore => process::settle(Core::Last)?,
        Room::Shared => {
            process::settle(Core::Any)?;
            // Without the right to it the load still runs, and tells how late it was.
            let _ = rustix::process::setpriority_process(None, HIGHER_PRIORITY);
        }
    }
    let mut load = Load::connect(options)?;
    let seen = load.run(options.server)?;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

struct Load {
    connections: Connections,
    /// What is due on each connection and not answered: the first is under way, the others wait for it.
    lines: Vec<VecDeque<Arrival>>,
    requests: Vec<Request>,
    arrivals: Arrivals,
    alarm: Option<Alarm>,
    /// Since the start; what is due before is not counted.
    warm_up: Duration,
    /// Requests that are due and not answered.
    open: usize,
    latencies_ns: Histogram<u64>,
    late_ns: Histogram<u64>,
    crowd: Option<usize>,
}

/// What all requests of a stream have in common.
struct Request {
    bytes: Vec<u8>,
    /// The places of its connections.
    places: Vec<usize>,
    counted: bool,
}

impl Load {
    fn connect(options: &Options) -> Result<Self> {
        let plan = &options.plan;
        ensure!(!plan.streams.is_empty(), "nothing to send");
        let opened = |stream: &Stream| stream.crowd_of.unwrap_or(stream.connections);
        let count = plan.streams.iter().map(opened).sum();
        let mut connections = Connections::open(options.address, count)?;
        let (mut requests, mut crowd, mut next) = (Vec::new(), None, 0);
        for stream in &plan.streams {
            stream.pace.check()?;
            let mut places: Vec<usize> = (next..next + opened(stream)).collect();
            next += places.len();
            if stream.crowd_of.is_some() {
                let threads = places
                    .iter()
                    .map(|&place| connections.ask(place, "/where"))
                    .collect::<Result<Vec<_>>>()?;
                crowd = Some(crowded_first(&mut places, &threads));
            }
            places.truncate(stream.connections);
            ensure!(!places.is_empty(), "a stream without connections");
            requests.push(Request {
                bytes: connections.request(&stream.target),
                places,
                counted: stream.counted,
            });
        }
        let alarm = match plan.room {
            Room::OwnCore => None,
            Room::Shared => Some(Alarm::new(&connections)?),
        };
        let warm_up = Duration::try_from_secs_f64(plan.warm_up_seconds)?;
        let until = warm_up + Duration::try_from_secs_f64(plan.seconds)?;
        let streams = plan.streams.iter().zip(&requests);
        let paces = streams.map(|(stream, request)| (stream.pace, request.places.len()));
        Ok(Self {
            lines: vec![VecDeque::new(); count],
            arrivals: Arrivals::new(plan.seed, paces, until),
            connections,
            requests,
            alarm,
            warm_up,
            open: 0,
            latencies_ns: latencies()?,
            late_ns: latencies()?,
            crowd,
        })
    }

    /// Sends all that falls due, and waits for the last answer.
    fn run(&mut self, server: u32) -> Result<Seen> {
        let clocks = || {
            let load = cpu_time_of(std::process::id())?;
            anyhow::Ok((Instant::now(), cpu_time_of(server)?, load))
        };
        let mut before = None;
        let started = Instant::now();
        let mut quiet_since = Duration::ZERO;
        loop {
            let now = started.elapsed();
            if now >= self.warm_up && before.is_none() {
                before = Some(clocks()?);
            }
            if self.open == 0 {
                quiet_since = now;
            }
            // Not what falls due meanwhile: a load that is behind must read answers, too.
            while let Some(arrival) = self.arrivals.next_until(now) {
                self.fall_due(arrival, started)?;
            }
            let next = self.arrivals.next_due();
            if next.is_none() && self.open == 0 {
                break;
            }
            ensure!(
                now - quiet_since < SILENCE,
                "no answer for {SILENCE:?}, and {} requests wait for one",
                self.open
            );
            let patience = match &mut self.alarm {
                Some(alarm) => {
                    alarm.set(next, started.elapsed())?;
                    SILENCE
                }
                None if next.is_some() => Duration::ZERO,
                None => SILENCE,
            };
            for event in 0..self.connections.wait(patience)? {
                if let Some((place, answers)) = self.connections.answers(event)? {
                    ensure!(answers == 1, "more answers than requests");
                    quiet_since = started.elapsed();
                    self.answered(place, quiet_since)?;
                }
            }
        }
        let (since, server_before, load_before) = before.context("nothing was due in time")?;
        let (now, server_after, load_after) = clocks()?;
        let at = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) as f64 / 1e3
        };
        ensure!(!self.latencies_ns.is_empty(), "nothing was due in time");
        Ok(Seen {
            requests: self.latencies_ns.len(),
            seconds: (now - since).as_secs_f64(),
            server_cpu_seconds: (server_after - server_before).as_secs_f64(),
            load_cpu_seconds: (load_after - load_before).as_secs_f64(),
            p50_us: at(&self.latencies_ns, 0.5),
            p99_us: at(&self.latencies_ns, 0.99),
            p999_us: at(&self.latencies_ns, 0.999),
            max_us: at(&self.latencies_ns, 1.0),
            late_p99_us: at(&self.late_ns, 0.99),
            late_max_us: at(&self.late_ns, 1.0),
            crowd: self.crowd,
        })
    }

    /// Sends it, unless its connection has an answer to wait for first.
    fn fall_due(&mut self, arrival: Arrival, started: Instant) -> Result<()> {
        let place = self.requests[arrival.stream].places[arrival.connection];
        self.open += 1;
        self.lines[place].push_back(arrival);
        if arrival.due >= self.warm_up {
            // Also of those that must wait: a load that does not get to run reads answers late, too.
            let late = started.elapsed() - arrival.due;
            self.late_ns.saturating_record(late.as_nanos() as u64);
        }
        match self.lines[place].len() {
            1 => self.send(place, arrival.stream),
            _ => Ok(()),
        }
    }

    fn send(&mut self, place: usize, stream: usize) -> Result<()> {
        self.connections.send(place, &self.requests[stream].bytes)
    }

    fn answered(&mut self, place: usize, now: Duration) -> Result<()> {
        let Some(arrival) = self.lines[place].pop_front() else {
            bail!("more answers than requests");
        };
        self.open -= 1;
        if self.requests[arrival.stream].counted && arrival.due >= self.warm_up {
            let waited = now - arrival.due;
            self.latencies_ns
                .saturating_record(waited.as_nanos() as u64);
        }
        match self.lines[place].front() {
            Some(&Arrival { stream, .. }) => self.send(place, stream),
            None => Ok(()),
        }
    }
}

/// Wakes a load that sleeps for answers when a request is due. Unlike a timeout it is not late by the timer slack.
struct Alarm {
    timer: OwnedFd,
    set_for: Option<Duration>,
}

impl Alarm {
    fn new(connections: &Connections) -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("making a timer")?;
        connections.watch(&timer)?;
        Ok(Self {
            timer,
            set_for: None,
        })
    }

    fn set(&mut self, due: Option<Duration>, now: Duration) -> Result<()> {
        if due == self.set_for {
            return Ok(());
        }
        // Zero would mean never.
        let wait = due.map_or(Duration::ZERO, |due| {
            due.saturating_sub(now).max(Duration::from_nanos(1))
        });
        let setting = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(wait)?,
        };
        // Setting it also takes back what it has told.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .context("setting a timer")?;
        self.set_for = due;
        Ok(())
    }
}

/// Moves the places whose thread is the most frequent one to the front, and says how many these are.
fn crowded_first(places: &mut [usize], threads: &[String]) -> usize {
    let mut counts = HashMap::new();
    for thread in threads {
        *counts.entry(thread).or_insert(0) += 1;
    }
    let most = counts
        .iter()
        .max_by_key(|&(thread, count)| (*count, *thread));
    let Some((&thread, &count)) = most else {
        return 0;
    };
    let mut of_thread: Vec<_> = threads.iter().zip(places.iter().copied()).collect();
    of_thread.sort_by_key(|&(other, _)| other != thread);
    for (place, (_, sorted)) in places.iter_mut().zip(of_thread) {
        *place = sorted;
    }
    count
}

/// Above the server's, as nice(1) has it, so that the load need not wait for its threads. Not as high as can be: the
/// kernel divides what it grants a session (autogroup, sched(7)) among cores by weight, so that a heavy load would leave
/// the server's core next to nothing as soon as anybody else's processes run there.
const HIGHER_PRIORITY: i32 = -5;

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Answers one request after the other on one connection, after a stall if there is one.
    fn answer(mut stream: TcpStream, stall: Option<(usize, Duration)>) {
        let mut buffer = [0; 1024];
        for number in 0.. {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => assert!(buffer[..count].ends_with(b"\r\n\r\n")),
            }
            if let Some((at, length)) = stall
                && at == number
            {
                // The stall is what is measured: nothing happens at its end that could be waited for.
                #[expect(clippy::disallowed_methods)]
                std::thread::sleep(length);
            }
            let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn load(stall: Option<(usize, Duration)>, stream: Stream) -> Result<Load> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                std::thread::spawn(move || answer(stream, stall));
            }
        });
        let options = Options {
            address,
            server: std::process::id(),
            plan: Plan {
                seed: 1,
                warm_up_seconds: 0.01,
                seconds: 0.2,
                room: Room::Shared,
                streams: vec![stream],
            },
        };
        Load::connect(&options)
    }

    fn seen(stall: Option<(usize, Duration)>, stream: Stream) -> Seen {
        let mut load = load(stall, stream).unwrap();
        load.run(std::process::id()).unwrap()
    }

    fn stream(per_second: f64, connections: usize) -> Stream {
        Stream {
            target: "/".to_owned(),
            pace: Pace::Poisson { per_second },
            connections,
            crowd_of: None,
            counted: true,
        }
    }

    #[test]
    fn all_that_was_due_is_answered_and_counted() {
        let due = |from| {
            let until = Duration::from_millis(210);
            let all = Arrivals::new(1, [(stream(2000.0, 4).pace, 4)], until);
            all.filter(|arrival| arrival.due >= from).count() as u64
        };
        let seen = seen(None, stream(2000.0, 4));
        assert_eq!(seen.requests, due(Duration::from_millis(10)));
        assert!(seen.p50_us > 0.0 && seen.p50_us <= seen.p99_us, "{seen:?}");
        assert!(seen.p999_us <= seen.max_us, "{seen:?}");
    }

    #[test]
    fn a_stall_delays_all_that_falls_due_meanwhile() {
        let stall = Duration::from_millis(100);
        let seen = seen(Some((60, stall)), stream(1000.0, 1));
        // One request in two hundred meets the stall, but half of them fall due in it: a load that waits for the answer
        // before it thinks of the next request would see it in one alone.
        assert!(seen.max_us >= 95_000.0, "{seen:?}");
        assert!(seen.p99_us >= 80_000.0, "{seen:?}");
    }

    #[test]
    fn a_load_that_turns_to_a_request_late_owns_to_it() {
        let mut load = load(None, stream(1000.0, 1)).unwrap();
        let late = Duration::from_millis(50);
        let started = Instant::now() - late - load.warm_up;
        let arrival = Arrival {
            due: load.warm_up,
            stream: 0,
            connection: 0,
        };
        // The second one must wait for the first one's answer, and yet was seen late.
        load.fall_due(arrival, started).unwrap();
        load.fall_due(arrival, started).unwrap();
        assert_eq!(load.late_ns.len(), 2);
        assert!(load.late_ns.min() >= 49_000_000, "{}", load.late_ns.min());
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        assert!(load(None, stream(0.0, 1)).is_err());
        assert!(load(None, stream(100.0, 0)).is_err());
    }

    #[test]
    fn a_connection_that_the_server_closes_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connections = Connections::open(listener.local_addr().unwrap(), 1).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(connections.wait(SILENCE).unwrap(), 1);
        let error = connections.answers(0).unwrap_err().to_string();
        assert!(error.contains("closed a connection"), "{error}");
    }

    #[test]
    fn the_connections_of_the_most_frequent_thread_come_first() {
        let threads = ["7", "8", "9", "8"].map(str::to_owned);
        let mut places = [10, 11, 12, 13];
        assert_eq!(crowded_first(&mut places, &threads), 2);
        assert_eq!(places, [11, 13, 10, 12]);
    }

    #[test]
    fn a_plan_survives_the_command_line() {
        let sent = Plan {
            seed: 3,
            warm_up_seconds: 0.5,
            seconds: 2.0,
            room: Room::OwnCore,
            streams: vec![stream(10.0, 2)],
        };
        let text = serde_json::to_string(&sent).unwrap();
        let received = plan(&text).unwrap();
        assert_eq!(serde_json::to_string(&received).unwrap(), text);
        assert!(plan("{}").unwrap_err().contains("seed"));
    }
}
