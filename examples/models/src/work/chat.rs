//! The chat room's protocol: lines in, lines out.
//!
//! `join ROOM NAME`, `say TEXT` and `leave`; `ok …` and `error …` answer, `<NAME> TEXT` is what somebody says, and
//! `* NAME joined` and `* NAME left` tell of the others. The end of input is a `leave`.

/// The longest line, in bytes, without its end.
pub const LONGEST_LINE: usize = 512;

/// The longest name of a room or a member, in bytes.
pub const LONGEST_NAME: usize = 32;

/// What a member may say to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Enter a room under a name.
    Join {
        /// The room's name.
        room: String,
        /// The member's.
        name: String,
    },
    /// Tell everybody in the room.
    Say(String),
    /// Leave the room.
    Leave,
}

impl Said {
    /// What a line says.
    ///
    /// # Errors
    ///
    /// The line to answer, if it says nothing that is understood.
    pub fn parse(line: &str) -> Result<Self, &'static str> {
        let line = line.trim_end_matches(['\r', '\n']);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "join" => match rest.split_once(' ') {
                Some((room, name)) if is_name(room) && is_name(name) => Ok(Self::Join {
                    room: room.to_owned(),
                    name: name.to_owned(),
                }),
                _ => Err("error bad name"),
            },
            "say" if rest.is_empty() => Err("error empty message"),
            "say" => Ok(Self::Say(rest.to_owned())),
            "leave" if rest.is_empty() => Ok(Self::Leave),
            _ => Err("error unknown command"),
        }
    }
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_answered() {
        let join = Said::Join {
            room: "tea".into(),
            name: "Ann".into(),
        };
        for (line, said) in [
            ("join tea Ann\r\n", Ok(join)),
            ("join tea", Err("error bad name")),
            ("join tea A!n", Err("error bad name")),
            ("say  two  words\n", Ok(Said::Say(" two  words".into()))),
            ("say\n", Err("error empty message")),
            ("leave\n", Ok(Said::Leave)),
            ("leave now\n", Err("error unknown command")),
            ("\n", Err("error unknown command")),
        ] {
            assert_eq!(Said::parse(line), said, "{line:?}");
        }
    }
}
