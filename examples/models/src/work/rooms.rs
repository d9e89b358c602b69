//! Who is in which room, and who is told what: the chat room without its connections.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use super::chat::{Heard, Said, TOO_LONG};

/// A line for a member, without its end. Who is told the same shares it.
pub type Line = Arc<str>;

/// The rooms. A client is whatever its connection is known by.
#[derive(Debug)]
pub struct Rooms<K> {
    /// Members by name. A room without any is forgotten.
    rooms: HashMap<String, BTreeMap<String, K>>,
    /// The room and name of each client that has joined.
    joined: HashMap<K, (String, String)>,
}

impl<K> Default for Rooms<K> {
    fn default() -> Self {
        Self {
            rooms: HashMap::new(),
            joined: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Hash> Rooms<K> {
    /// What is to be told to whom after a client has said this, in this order.
    pub fn hear(&mut self, client: K, heard: Heard) -> Vec<(K, Line)> {
        let answer = |text: &str| vec![(client, text.into())];
        match heard {
            Heard::Said(Said::Join { room, name }) => self.join(client, room, name),
            Heard::Said(Said::Say(text)) => match self.joined.get(&client) {
                Some((room, name)) => self.tell_all(room, &format!("<{name}> {text}")),
                None => answer("error not joined"),
            },
            Heard::Said(Said::Leave) if self.joined.contains_key(&client) => {
                let mut told = answer("ok left");
                told.append(&mut self.leave(client));
                told
            }
            Heard::Said(Said::Leave) => answer("error not joined"),
            Heard::Nonsense(error) => answer(error),
            Heard::TooLong => {
                let mut told = answer(TOO_LONG);
                told.append(&mut self.leave(client));
                told
            }
            Heard::End => self.leave(client),
        }
    }

    fn join(&mut self, client: K, room: String, name: String) -> Vec<(K, Line)> {
        if self.joined.contains_key(&client) {
            return vec![(client, Line::from("error already joined"))];
        }
        let taken = |members: &BTreeMap<_, _>| members.contains_key(&name);
        if self.rooms.get(&room).is_some_and(taken) {
            return vec![(client, Line::from("error name taken"))];
        }
        let mut told = vec![(client, format!("ok joined {room}").into())];
        told.append(&mut self.tell_all(&room, &format!("* {name} joined")));
        let members = self.rooms.entry(room.clone()).or_default();
        members.insert(name.clone(), client);
        self.joined.insert(client, (room, name));
        told
    }

    /// Takes a client out of its room, if it is in one.
    fn leave(&mut self, client: K) -> Vec<(K, Line)> {
        let Some((room, name)) = self.joined.remove(&client) else {
            return Vec::new();
        };
        if let Some(members) = self.rooms.get_mut(&room) {
            members.remove(&name);
            if members.is_empty() {
                self.rooms.remove(&room);
            }
        }
        self.tell_all(&room, &format!("* {name} left"))
    }

    fn tell_all(&self, room: &str, text: &str) -> Vec<(K, Line)> {
        let line = Line::from(text);
        let members = self.rooms.get(room).into_iter().flat_map(BTreeMap::values);
        members.map(|client| (*client, line.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rooms: &mut Rooms<u64>, client: u64, line: &str) -> Vec<(u64, String)> {
        let told = rooms.hear(client, Heard::of(line)).into_iter();
        told.map(|(client, line)| (client, line.to_string()))
            .collect()
    }

    #[test]
    fn a_room_is_forgotten_with_its_last_member() {
        let mut rooms = Rooms::default();
        said(&mut rooms, 1, "join tea Ann");
        assert_eq!(
            said(&mut rooms, 2, "join tea Bob"),
            [(2, "ok joined tea".into()), (1, "* Bob joined".into())]
        );
        assert_eq!(
            rooms.hear(1, Heard::End),
            [(2, "* Ann left".into())],
            "the end of input is not answered"
        );
        assert_eq!(said(&mut rooms, 2, "leave"), [(2, "ok left".into())]);
        assert!(rooms.rooms.is_empty() && rooms.joined.is_empty());
    }
}
