//! A chat room as an actor: who is in which room, and who hears what.
//!
//! `join ROOM NAME`, `say TEXT` and `leave`, a line each; answers begin with `ok` or `error`, what others do with
//! `* ` or `<NAME> `. One owner, so no locks: all members of a room see its lines in one order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use maniple_parts::actor::{Actor, Closed, CodecError, ConnId, Outbox};

/// Bytes of a line.
pub const MAX_LINE: usize = 512;

/// Characters of the name of a room or a member.
const MAX_NAME: usize = 32;

/// All rooms that have members.
#[derive(Default)]
pub struct Chat {
    /// Members by name.
    rooms: HashMap<String, BTreeMap<String, ConnId>>,
    members: HashMap<ConnId, Member>,
}

struct Member {
    room: String,
    name: String,
}

type Out = Outbox<Arc<str>>;

impl Actor for Chat {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, line: String, out: &mut Out) {
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match command {
            "join" => self.join(conn, rest, out),
            "say" => self.say(conn, rest, out),
            "leave" if rest.is_empty() => match self.leave(conn, out) {
                true => Ok(Some("ok left".to_owned())),
                false => Err("not joined"),
            },
            _ => Err("unknown command"),
        };
        match answer {
            Ok(Some(answer)) => _ = out.send(conn, answer),
            Ok(None) => {}
            Err(error) => _ = out.send(conn, format!("error {error}")),
        }
    }

    fn closed(&mut self, conn: ConnId, reason: Closed, out: &mut Out) {
        if let Closed::Codec(CodecError::TooLong { .. }) = reason {
            out.send(conn, "error line too long");
        }
        self.leave(conn, out);
    }

    fn dropped(count: u64) -> Option<Arc<str>> {
        Some(format!("* {count} lines dropped").into())
    }
}

impl Chat {
    /// Rooms that have members.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    fn join(&mut self, conn: ConnId, rest: &str, out: &mut Out) -> Answer {
        if self.members.contains_key(&conn) {
            return Err("already joined");
        }
        let names = rest.split_once(' ');
        let Some((room, name)) = names.filter(|(room, name)| is_name(room) && is_name(name)) else {
            return Err("bad name");
        };
        if self
            .rooms
            .get(room)
            .is_some_and(|room| room.contains_key(name))
        {
            return Err("name taken");
        }
        self.tell(room, &format!("* {name} joined"), out);
        let members = self.rooms.entry(room.to_owned()).or_default();
        members.insert(name.to_owned(), conn);
        let (room, name) = (room.to_owned(), name.to_owned());
        let answer = format!("ok joined {room}");
        self.members.insert(conn, Member { room, name });
        Ok(Some(answer))
    }

    fn say(&mut self, conn: ConnId, text: &str, out: &mut Out) -> Answer {
        let Some(member) = self.members.get(&conn) else {
            return Err("not joined");
        };
        if text.is_empty() {
            return Err("empty message");
        }
        self.tell(&member.room, &format!("<{}> {text}", member.name), out);
        Ok(None)
    }

    /// Whether it was in a room.
    fn leave(&mut self, conn: ConnId, out: &mut Out) -> bool {
        let Some(Member { room, name }) = self.members.remove(&conn) else {
            return false;
        };
        if let Some(members) = self.rooms.get_mut(&room) {
            members.remove(&name);
            if members.is_empty() {
                self.rooms.remove(&room);
            }
        }
        self.tell(&room, &format!("* {name} left"), out);
        true
    }

    fn tell(&self, room: &str, line: &str, out: &mut Out) {
        let line: Arc<str> = line.into();
        for &member in self.rooms.get(room).into_iter().flat_map(BTreeMap::values) {
            out.send(member, line.clone());
        }
    }
}

/// What the member itself is told, if anything.
type Answer = Result<Option<String>, &'static str>;

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(is_part)
}
