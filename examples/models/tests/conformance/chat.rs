//! The chat room: what members may rely on in every model, and what a member who stops reading does to the others.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use maniple_models::{Client, Model, models::Stalled, work::chat::LONGEST_LINE};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use super::process::Running;

/// Only to stop a hang.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn conforms(model: &Model, stalled: Stalled) {
    let mut server = start(model, 256);
    let at = server.address();

    members_are_told_of_each_other(at);
    a_member_hears_what_it_says_itself(at);
    what_makes_no_sense_is_told_to_who_said_it(at);
    a_name_is_free_again_once_its_member_has_left(at);
    rooms_do_not_hear_each_other(at);
    all_hear_the_same_in_the_same_order(at);
    many_members_hear_one(at);
    lines_may_come_byte_by_byte(at);
    a_line_that_is_too_long_ends_the_connection(at);
    what_is_not_text_ends_the_connection(at);
    who_has_ended_its_output_still_hears_what_was_said_before(at);
    who_resets_its_connection_is_seen_to_leave(at);
    clients_that_leave_hurt_nobody(at);
    match stalled {
        Stalled::StopsTheRoom => {
            a_stalled_member_stops_the_room_until_it_reads(at);
            a_stalled_member_stops_the_room_until_it_leaves(at);
        }
        Stalled::IsCut => a_stalled_member_is_cut(at),
        Stalled::MissesLines => a_stalled_member_misses_lines_and_is_told_how_many(at),
    }
    members_are_told_of_each_other(at);
    assert!(server.lives());
    silent_clients_cost_what_the_model_says(model);
}

fn start(model: &Model, workers: usize) -> Running {
    let nobody = "127.0.0.1:1,127.0.0.1:1,127.0.0.1:1";
    let workers = format!("--workers={workers}");
    let arguments = ["--listen=127.0.0.1:0", "--cores=2", "--backends", nobody];
    Running::start(&[&[model.name, &workers], &arguments[..]].concat())
}

/// A client of the chat room.
struct Member {
    stream: BufReader<TcpStream>,
}

impl Member {
    fn connect(at: SocketAddr) -> Self {
        Self::over(TcpStream::connect(at).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// In a room, and told so: whatever is said there from now on is heard.
    fn joined(at: SocketAddr, room: &str, name: &str) -> Self {
        let mut member = Self::connect(at);
        member.joins(room, name);
        member
    }

    /// As [`Self::joined`], with as small a buffer as the kernel allows.
    fn joined_with_little_room(at: SocketAddr, room: &str, name: &str) -> Self {
        let family = match at {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let stream: OwnedFd = socket(family, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_recv_buffer_size(&stream, 1024).unwrap();
        connect(&stream, &at).unwrap();
        let mut member = Self::over(stream.into());
        member.joins(room, name);
        member
    }

    fn joins(&mut self, room: &str, name: &str) {
        self.says(&format!("join {room} {name}"));
        self.hears(&format!("ok joined {room}"));
    }

    fn says(&self, line: &str) {
        self.sends(format!("{line}\n"));
    }

    fn sends(&self, bytes: impl AsRef<[u8]>) {
        self.stream.get_ref().write_all(bytes.as_ref()).unwrap();
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).expect("a line in time");
        assert_eq!(length > 0, line.ends_with('\n'), "half a line: {line:?}");
        line.pop().map(|_| line)
    }

    fn hears(&mut self, line: &str) {
        assert_eq!(self.line().as_deref(), Some(line));
    }

    /// The server ends the connection and says nothing more.
    fn ends(mut self) {
        assert_eq!(self.line(), None);
    }

    /// Leaves with a reset.
    fn resets(self) {
        let at_once = Some(Duration::ZERO);
        sockopt::set_socket_linger(self.stream.get_ref(), at_once).unwrap();
    }
}

fn members_are_told_of_each_other(at: SocketAddr) {
    let mut ann = Member::joined(at, "told", "Ann");
    let mut bob = Member::joined(at, "told", "Bob");
    ann.hears("* Bob joined");
    ann.says("say hello");
    bob.hears("<Ann> hello");
    bob.says("leave");
    bob.hears("ok left");
    ann.hears("<Ann> hello");
    ann.hears("* Bob left");
    bob.joins("told", "Bob-2");
    ann.hears("* Bob-2 joined");
    drop(bob);
    ann.hears("* Bob-2 left");
    // Seen by the next test that uses the room: Ann's name is free.
    ann.says("leave");
    ann.hears("ok left");
}

fn a_member_hears_what_it_says_itself(at: SocketAddr) {
    let mut ann = Member::joined(at, "itself", "Ann");
    ann.says("say  as it was said, é and all ");
    ann.hears("<Ann>  as it was said, é and all ");
    ann.sends("say with a carriage return\r\n");
    ann.hears("<Ann> with a carriage return");
}

fn what_makes_no_sense_is_told_to_who_said_it(at: SocketAddr) {
    let mut bob = Member::joined(at, "errors", "Bob");
    let mut ann = Member::connect(at);
    let long = "n".repeat(33);
    for (said, answer) in [
        ("say hello", "error not joined"),
        ("leave", "error not joined"),
        ("", "error unknown command"),
        ("sing", "error unknown command"),
        ("join errors", "error bad name"),
        ("join errors A.n", "error bad name"),
        (&format!("join errors {long}"), "error bad name"),
        ("join errors Bob", "error name taken"),
        ("join errors Ann", "ok joined errors"),
        ("join other Ann", "error already joined"),
        ("say", "error empty message"),
        ("leave", "ok left"),
        ("leave", "error not joined"),
    ] {
        ann.says(said);
        ann.hears(answer);
    }
    bob.hears("* Ann joined");
    bob.hears("* Ann left");
}

fn a_name_is_free_again_once_its_member_has_left(at: SocketAddr) {
    let mut ann = Member::joined(at, "names", "Ann");
    let mut other = Member::connect(at);
    other.says("join names Ann");
    other.hears("error name taken");
    ann.says("leave");
    ann.hears("ok left");
    other.joins("names", "Ann");
}

fn rooms_do_not_hear_each_other(at: SocketAddr) {
    let mut ann = Member::joined(at, "room-1", "Ann");
    let mut bob = Member::joined(at, "room_2", "Ann");
    ann.says("say one");
    ann.hears("<Ann> one");
    bob.says("say two");
    bob.hears("<Ann> two");
}

/// These, who have all been told that all are there.
fn room_of(at: SocketAddr, room: &str, count: usize) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for number in 0..count {
        let member = Member::joined(at, room, &format!("m{number}"));
        for other in &mut members {
            other.hears(&format!("* m{number} joined"));
        }
        members.push(member);
    }
    members
}

fn all_hear_the_same_in_the_same_order(at: SocketAddr) {
    const EACH: usize = 50;
    let members = room_of(at, "order", 4);
    let all = members.len() * EACH;
    let talking: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            std::thread::spawn(move || {
                for number in 0..EACH {
                    member.says(&format!("say {number}"));
                }
                (0..all).map(|_| member.line().unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    let heard: Vec<_> = talking
        .into_iter()
        .map(|member| member.join().unwrap())
        .collect();
    for other in &heard {
        assert_eq!(other, &heard[0]);
    }
    for number in 0..heard.len() {
        let own = heard[0]
            .iter()
            .filter_map(|line| line.strip_prefix(&format!("<m{number}> ")));
        let spoken: Vec<_> = (0..EACH).map(|number| number.to_string()).collect();
        assert_eq!(own.collect::<Vec<_>>(), spoken, "in the order of speaking");
    }
}

fn many_members_hear_one(at: SocketAddr) {
    let mut members: Vec<_> = (0..64)
        .map(|number| Member::joined(at, "many", &format!("m{number}")))
        .collect();
    members[63].says("say all");
    for (number, member) in members.iter_mut().enumerate() {
        for later in number + 1..64 {
            member.hears(&format!("* m{later} joined"));
        }
        member.hears("<m63> all");
    }
}

fn lines_may_come_byte_by_byte(at: SocketAddr) {
    let mut ann = Member::connect(at);
    for byte in "join bytes Ann\r\nsay é\nleave\n".bytes() {
        ann.sends([byte]);
    }
    for line in ["ok joined bytes", "<Ann> é", "ok left"] {
        ann.hears(line);
    }
}

fn a_line_that_is_too_long_ends_the_connection(at: SocketAddr) {
    let mut bob = Member::joined(at, "long", "Bob");
    let text = "t".repeat(LONGEST_LINE - "say ".len());
    // The second has no end, and far more of it comes than anybody would keep.
    for (bytes, comes) in [
        (format!("say {text}t\n"), "just too long"),
        ("say ".to_owned() + &text.repeat(100), "endless"),
    ] {
        let mut ann = Member::joined(at, "long", "Ann");
        bob.hears("* Ann joined");
        ann.sends(format!("say {text}\r\n"));
        for member in [&mut ann, &mut bob] {
            member.hears(&format!("<Ann> {text}"));
        }
        ann.sends(bytes);
        assert_eq!(
            ann.line().as_deref(),
            Some("error line too long"),
            "{comes}"
        );
        ann.ends();
        bob.hears("* Ann left");
    }
}

fn what_is_not_text_ends_the_connection(at: SocketAddr) {
    let mut members = room_of(at, "text", 2);
    let (mut bob, ann) = (members.remove(1), members.remove(0));
    ann.sends(b"say \xff\n");
    bob.hears("* m0 left");
    ann.ends();
}

fn who_has_ended_its_output_still_hears_what_was_said_before(at: SocketAddr) {
    let mut members = room_of(at, "half", 2);
    let (mut bob, mut ann) = (members.remove(1), members.remove(0));
    let talk: String = (0..20).map(|number| format!("say {number}\n")).collect();
    ann.sends(talk);
    ann.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    for number in 0..20 {
        ann.hears(&format!("<m0> {number}"));
        bob.hears(&format!("<m0> {number}"));
    }
    ann.ends();
    bob.hears("* m0 left");
    // Half a line at the end is none.
    let ann = Member::joined(at, "half", "Ann");
    bob.hears("* Ann joined");
    ann.sends("say hel");
    ann.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    ann.ends();
    bob.hears("* Ann left");
}

fn who_resets_its_connection_is_seen_to_leave(at: SocketAddr) {
    let mut members = room_of(at, "reset", 3);
    members.remove(0).resets();
    for member in &mut members {
        member.hears("* m0 left");
    }
}

fn clients_that_leave_hurt_nobody(at: SocketAddr) {
    for _ in 0..8 {
        // Before a word, in the middle of one, and with unread lines, hence with a reset.
        drop(Member::connect(at));
        Member::connect(at).sends("join hurt");
        Member::connect(at).says("join hurt Ann");
        let ann = Member::connect(at);
        ann.sends("leave\nleave\nleave\n");
        ann.stream.get_ref().peek(&mut [0]).unwrap();
    }
}

/// Where a client holds workers, it holds two: one that reads, one that writes.
fn silent_clients_cost_what_the_model_says(model: &Model) {
    const WORKERS: usize = 4;
    let server = start(model, WORKERS);
    let places = match model.silent_client {
        Client::HoldsAWorker => WORKERS / 2,
        Client::CostsMemory => 4 * WORKERS,
        other => unreachable!("no chat room has {other:?}"),
    };
    let mut silent: Vec<_> = (0..places)
        .map(|number| Member::joined(server.address(), "silent", &format!("m{number}")))
        .collect();
    let mut next = Member::connect(server.address());
    next.says("join silent next");
    if model.silent_client == Client::HoldsAWorker {
        assert_eq!(line_unless_stopped(&mut next), None);
        silent.pop();
    }
    next.hears("ok joined silent");
}

/// So many lines of about this length are far more than the kernel and all queues keep.
const MORE_THAN_ANY_QUEUE: usize = 8 * 1024;
const LENGTH: usize = 500;

/// How many lines a talker has under way at a time.
const BATCH: usize = 32;

/// What the line of this number says.
fn numbered(number: usize) -> String {
    format!("{number:0LENGTH$}")
}

/// A room of three: who talks, who listens, and who does not read.
fn talker_listener_sleeper(at: SocketAddr, room: &str) -> [Member; 3] {
    let mut ann = Member::joined(at, room, "Ann");
    let mut bob = Member::joined(at, room, "Bob");
    let sleeper = Member::joined_with_little_room(at, room, "Sleeper");
    for line in ["* Bob joined", "* Sleeper joined"] {
        ann.hears(line);
    }
    bob.hears("* Sleeper joined");
    [ann, bob, sleeper]
}

/// A line that ought to come, or `None` if it does not come for so long that the room must be standing still. Should a slow
/// machine make it so without a reason, the lines still come afterwards and nothing fails.
fn line_unless_stopped(member: &mut Member) -> Option<String> {
    if !member.stream.buffer().is_empty() {
        return member.line();
    }
    let stream = member.stream.get_ref();
    stream
        .set_read_timeout(Some(Duration::from_millis(400)))
        .unwrap();
    let first = stream.peek(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match first {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        first => {
            assert_eq!(first.unwrap(), 1, "the talker was cut");
            member.line()
        }
    }
}

/// Ann talks until nobody hears her any more; returns how many lines she has said, and how many she has heard herself.
fn talks_until_the_room_stops(ann: &mut Member) -> (usize, usize) {
    let (mut said, mut heard) = (0, 0);
    loop {
        assert!(said < MORE_THAN_ANY_QUEUE, "the room never stopped");
        for _ in 0..BATCH {
            ann.says(&format!("say {}", numbered(said)));
            said += 1;
        }
        while heard < said {
            let Some(line) = line_unless_stopped(ann) else {
                return (said, heard);
            };
            assert_eq!(line, format!("<Ann> {}", numbered(heard)));
            heard += 1;
        }
    }
}

fn hears_numbers(member: &mut Member, numbers: std::ops::Range<usize>) {
    for number in numbers {
        member.hears(&format!("<Ann> {}", numbered(number)));
    }
}

fn a_stalled_member_stops_the_room_until_it_reads(at: SocketAddr) {
    let [mut ann, mut bob, mut sleeper] = talker_listener_sleeper(at, "stops");
    let (said, heard) = talks_until_the_room_stops(&mut ann);
    // Not only those who share its room.
    let mut other = Member::connect(at);
    other.says("join elsewhere Cid");
    assert_eq!(line_unless_stopped(&mut other), None);
    hears_numbers(&mut sleeper, 0..said);
    hears_numbers(&mut ann, heard..said);
    hears_numbers(&mut bob, 0..said);
    other.hears("ok joined elsewhere");
}

fn a_stalled_member_stops_the_room_until_it_leaves(at: SocketAddr) {
    let [mut ann, mut bob, sleeper] = talker_listener_sleeper(at, "leaves");
    let (said, heard) = talks_until_the_room_stops(&mut ann);
    sleeper.resets();
    for (member, from) in [(&mut ann, heard), (&mut bob, 0)] {
        let mut left = 0;
        for number in from..said {
            let mut line = member.line();
            if line.as_deref() == Some("* Sleeper left") {
                left += 1;
                line = member.line();
            }
            assert_eq!(line, Some(format!("<Ann> {}", numbered(number))));
        }
        if left == 0 {
            member.hears("* Sleeper left");
        }
    }
}

/// Ann says a batch of lines from this number on, and she and Bob hear them all, so the room goes on. Returns what else they
/// heard meanwhile.
fn says_a_batch(ann: &mut Member, bob: &mut Member, from: usize) -> Vec<String> {
    for number in from..from + BATCH {
        ann.says(&format!("say {}", numbered(number)));
    }
    let mut others = Vec::new();
    for member in [ann, bob] {
        let mut next = from;
        while next < from + BATCH {
            let line = member.line().expect("who reads is not cut");
            if line.starts_with('<') {
                assert_eq!(line, format!("<Ann> {}", numbered(next)));
                next += 1;
            } else {
                others.push(line);
            }
        }
    }
    others
}

fn a_stalled_member_is_cut(at: SocketAddr) {
    let [mut ann, mut bob, mut sleeper] = talker_listener_sleeper(at, "cut");
    let mut said = 0;
    let others = loop {
        assert!(said < MORE_THAN_ANY_QUEUE, "it is never cut");
        let others = says_a_batch(&mut ann, &mut bob, said);
        said += BATCH;
        if !others.is_empty() {
            break others;
        }
    };
    // Both in the same batch, since they hear all in one order.
    assert_eq!(others, ["* Sleeper left"; 2]);
    // What was written before comes without a gap, and then the end: half a line perhaps, or a reset.
    let (mut next, mut line) = (0, String::new());
    while sleeper.stream.read_line(&mut line).is_ok() && line.ends_with('\n') {
        assert_eq!(line.trim_end(), format!("<Ann> {}", numbered(next)));
        next += 1;
        line.clear();
    }
    assert!(next < said, "it was cut and yet has heard all of {said}");
}

fn a_stalled_member_misses_lines_and_is_told_how_many(at: SocketAddr) {
    let [mut ann, mut bob, mut sleeper] = talker_listener_sleeper(at, "misses");
    for number in 0..MORE_THAN_ANY_QUEUE / BATCH {
        let others = says_a_batch(&mut ann, &mut bob, number * BATCH);
        assert!(others.is_empty(), "{others:?}");
    }
    let (mut next, mut missed) = (0, 0);
    while next < MORE_THAN_ANY_QUEUE {
        let line = sleeper.line().expect("it is not cut");
        let told = line
            .strip_prefix("* ")
            .and_then(|line| line.strip_suffix(" lines dropped"));
        if let Some(count) = told {
            let count: usize = count.parse().unwrap();
            missed += count;
            next += count;
        } else {
            assert_eq!(
                line,
                format!("<Ann> {}", numbered(next)),
                "as many are missing as it was told"
            );
            next += 1;
        }
    }
    assert!(missed > 0, "nothing was dropped");
}
