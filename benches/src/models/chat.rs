//! The loads of chat models: how fast lines reach a crowd, and what one member does to the others who reads no more.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use super::{
    cost::Cost,
    load::{between, photograph},
    plan::ChatPlan,
    room::{Lines, Room},
    server::Server,
    tally::Tally,
    tree::{Holdings, Snapshot},
};
use crate::{
    load::{Arrivals, Pace},
    outcome::Outcome,
};

#[derive(Debug, Serialize)]
pub(super) struct Chat {
    pub(super) crowd: Crowd,
    pub(super) stall: Outcome<Stall>,
}

/// A room of many.
#[derive(Debug, Serialize)]
pub(super) struct Crowd {
    pub(super) members: usize,
    /// Lines that members received a second, as fast as the slowest of them is told.
    pub(super) lines_per_second: f64,
    pub(super) cost: Option<Cost>,
    pub(super) holdings: Option<Holdings>,
    /// In bytes.
    pub(super) memory_per_member: Option<f64>,
    /// At a fixed rate of messages, from when a message is due to each member's having it.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// A room in which one member stops reading.
#[derive(Debug, Serialize)]
pub(super) struct Stall {
    /// Lines a second to the others, before and while it does not read.
    pub(super) before: f64,
    pub(super) during: f64,
    pub(super) fate: Fate,
    pub(super) seconds: f64,
    /// Bytes said meanwhile.
    pub(super) bytes: u64,
    /// By how much the model's memory grew, in bytes.
    pub(super) memory: u64,
}

/// What became of a member that did not read, or of the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// The others wait for it.
    StopsAll,
    /// Its connection was ended.
    Cut,
    /// It was told how many lines it had missed.
    Dropped(usize),
    /// Lines are missing, and nothing says so.
    Lost(usize),
    /// Everything said was kept for it.
    Kept,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StopsAll => f.write_str("all wait for it"),
            Self::Cut => f.write_str("it is cut"),
            Self::Dropped(count) => write!(f, "{count} lines to it dropped, and told"),
            Self::Lost(count) => write!(f, "{count} lines to it lost, untold"),
            Self::Kept => f.write_str("all is kept for it"),
        }
    }
}

/// A room of many members, one of whom speaks.
pub(super) fn crowd(server: &Server, plan: &ChatPlan) -> Result<Crowd> {
    let empty = Snapshot::of(server.group())?.holdings;
    let mut room = Room::enter(server, plan.members, SHORT)?;
    let length = Duration::from_secs_f64(plan.seconds);
    let until = Instant::now() + length / 5;
    talk(&mut room, |_, now| now >= until)?;
    let before = photograph(server);
    talk(&mut room, |_, _| before.is_finished())?;
    let from = Instant::now();
    let (lines, _) = talk(&mut room, |_, now| now >= from + length)?;
    let lines_per_second = lines as f64 / from.elapsed().as_secs_f64();
    let after = photograph(server);
    talk(&mut room, |_, _| after.is_finished())?;
    let used = between(before, after);
    catch_up(&mut room)?;
    let calm = at_a_rate(&mut room, plan.per_second, length)?;
    let wrong: usize = room
        .readers()
        .map(|lines| lines.wrong + lines.missing)
        .sum();
    ensure!(wrong == 0, "{wrong} lines came twice, broken or not at all");
    Ok(Crowd {
        members: plan.members,
        lines_per_second,
        cost: used.and_then(|(used, _)| Cost::of(used, lines_per_second)),
        holdings: used.map(|(_, holdings)| holdings),
        memory_per_member: used.map(|(_, holdings)| {
            holdings.memory.saturating_sub(empty.memory) as f64 / plan.members as f64
        }),
        p50_ms: calm.p50_ms,
        p99_ms: calm.p99_ms,
    })
}

/// A room of a few with long lines, in which one stops reading until something happens, or until so much was said that
/// the kernel cannot have kept it.
pub(super) fn stall(server: &Server, plan: &ChatPlan) -> Result<Stall> {
    let mut room = Room::enter(server, plan.few + 1, LONG)?;
    let length = Duration::from_secs_f64(plan.seconds);
    let until = Instant::now() + length / 5;
    talk(&mut room, |_, now| now >= until)?;
    let from = Instant::now();
    let (lines, _) = talk(&mut room, |_, now| now >= from + length)?;
    // The others' share of the lines.
    let share = plan.few as f64 / (plan.few + 1) as f64;
    let before = lines as f64 * share / from.elapsed().as_secs_f64();
    let memory = Snapshot::of(server.group())?.holdings.memory;
    room.stop_reading()?;
    let (said, from) = (room.said(), Instant::now());
    let bytes = |room: &Room| (room.said() - said) as u64 * LONG as u64;
    let is_cut = |room: &Room| room.readers().any(|lines| lines.left > 0);
    let (lines, stands) = talk(&mut room, |room, now| {
        let enough = bytes(room) >= plan.stall_bytes || is_cut(room);
        now >= from + plan.stall_patience || enough && now >= from + length
    })?;
    let elapsed = from.elapsed();
    let memory_now = Snapshot::of(server.group())?.holdings.memory;
    let during = lines as f64 / elapsed.as_secs_f64();
    let fate = match stands {
        true => Fate::StopsAll,
        false => {
            let cut = is_cut(&room);
            let (lines, ended) = room.read_again(plan.stall_patience / 2)?;
            fate(&lines, cut || ended)
        }
    };
    Ok(Stall {
        before,
        during,
        fate,
        seconds: elapsed.as_secs_f64(),
        bytes: bytes(&room),
        memory: memory_now.saturating_sub(memory),
    })
}

fn fate(lines: &Lines, cut: bool) -> Fate {
    match lines {
        _ if cut => Fate::Cut,
        Lines {
            missing: 1..,
            dropped: 0,
            ..
        } => Fate::Lost(lines.missing),
        Lines {
            dropped: count @ 1..,
            ..
        } => Fate::Dropped(*count),
        _ => Fate::Kept,
    }
}

/// Speaks as fast as all who read are told, until `stop`, or until nobody is told anything any more. How many lines came to
/// somebody, and whether the room stands still.
fn talk(room: &mut Room, stop: impl Fn(&Room, Instant) -> bool) -> Result<(u64, bool)> {
    let mut lines = 0;
    let mut moved = Instant::now();
    loop {
        let now = Instant::now();
        if stop(room, now) {
            return Ok((lines, false));
        }
        if now - moved > STANDSTILL {
            return Ok((lines, true));
        }
        while room.said() < room.told_to_all() + AHEAD {
            if !room.say(now)? {
                break;
            }
        }
        let before = lines;
        room.listen(SLICE, |_| lines += 1)?;
        if lines > before {
            moved = Instant::now();
        }
    }
}

/// Waits until all have been told everything.
fn catch_up(room: &mut Room) -> Result<()> {
    let until = Instant::now() + STANDSTILL;
    while room.told_to_all() < room.said() {
        if Instant::now() > until {
            return Err(anyhow!("lines do not come to all"));
        }
        room.listen(SLICE, |_| {})?;
    }
    Ok(())
}

/// Speaks at a rate, and tells how long lines take.
fn at_a_rate(room: &mut Room, per_second: f64, length: Duration) -> Result<super::tally::Seen> {
    let mut tally = Tally::new()?;
    let pace = Pace::Poisson { per_second };
    let mut arrivals = Arrivals::new(7, [(pace, 1)], length);
    let started = Instant::now();
    while let Some(due) = arrivals.next_due() {
        while let Some(arrival) = arrivals.next_until(started.elapsed()) {
            ensure!(
                room.say(started + arrival.due)?,
                "the model does not take {per_second} messages a second"
            );
        }
        let sleep = due.saturating_sub(started.elapsed()).min(SLICE);
        room.listen(sleep, |due| tally.answered(due.elapsed()))?;
    }
    let until = Instant::now() + STANDSTILL;
    while room.told_to_all() < room.said() && Instant::now() < until {
        room.listen(SLICE, |due| tally.answered(due.elapsed()))?;
    }
    ensure!(
        room.told_to_all() == room.said(),
        "lines do not come to all"
    );
    Ok(tally.seen(length.as_secs_f64()))
}

/// Messages said that not all have been told: enough to keep a model busy, and no more than queues must hold.
const AHEAD: usize = 8;
/// How long nobody hears anything in a room that stands still.
const STANDSTILL: Duration = Duration::from_millis(1500);
const SLICE: Duration = Duration::from_millis(10);
/// Bytes of a message, beside its number.
const SHORT: usize = 32;
const LONG: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_of_who_does_not_read_is_told_from_what_it_got() {
        let lines = |missing, dropped| Lines {
            missing,
            dropped,
            ..Lines::default()
        };
        assert_eq!(fate(&lines(0, 0), false), Fate::Kept);
        assert_eq!(fate(&lines(9, 9), false), Fate::Dropped(9));
        assert_eq!(fate(&lines(9, 0), false), Fate::Lost(9));
        assert_eq!(fate(&lines(9, 9), true), Fate::Cut);
    }
}
