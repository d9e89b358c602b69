//! Redis's protocol, RESP3, as far as publishing and subscribing take it: one connection for both.

use std::io::{self, BufRead};

use maniple_parts::engine::Login;

use crate::wire::{Said, bytes, line, wrong};

pub(crate) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

pub(crate) fn hello(out: &mut Vec<u8>, login: Option<&Login>) {
    match login {
        Some(Login::User(name, password)) => {
            // A password alone is that of the user whom all are who say nothing.
            let name = match name.as_str() {
                "" => "default",
                name => name,
            };
            let (name, password) = (name.as_bytes(), password.reveal().as_bytes());
            command(out, &[b"HELLO", b"3", b"AUTH", name, password]);
        }
        _ => command(out, &[b"HELLO", b"3"]),
    }
}

/// Reads the next thing that Redis says; a message may have so many bytes.
pub(crate) fn read(input: &mut impl BufRead, most: usize) -> io::Result<Said> {
    match value(input, most, 0)? {
        Value::Push(parts) => of_push(parts),
        Value::Error(mut text) => {
            // Of a command that it does not know it repeats what came with it, which is the password with a HELLO.
            if let Some(end) = text.find(", with args") {
                text.truncate(end);
            }
            Ok(Said::Refused(text))
        }
        Value::Text(_) | Value::TooLong | Value::Other => Ok(Said::Done),
    }
}

fn of_push(mut parts: Vec<Value>) -> io::Result<Said> {
    let third = parts.pop();
    let name = |value: Option<Value>| match value {
        Some(Value::Text(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        _ => Err(wrong("a push without a name")),
    };
    let mut parts = parts.into_iter();
    let kind = name(parts.next())?;
    Ok(match (&*kind, third) {
        ("message", Some(Value::Text(payload))) => {
            Said::Message(name(parts.next())?, payload.into())
        }
        ("message", Some(Value::TooLong)) => Said::TooLong(name(parts.next())?),
        ("message", _) => return Err(wrong("a message without its text")),
        ("subscribe" | "unsubscribe", _) => Said::Done,
        // Invalidations and what else nobody asked for.
        _ => Said::Nothing,
    })
}

#[derive(Debug)]
enum Value {
    Text(Vec<u8>),
    TooLong,
    Error(String),
    Push(Vec<Value>),
    /// What nobody here looks at.
    Other,
}

/// Values within values are so deep at most.
const DEEPEST: u32 = 8;
/// A list has at most so many values.
const MOST_VALUES: u64 = 1000;

fn value(input: &mut impl BufRead, most: usize, depth: u32) -> io::Result<Value> {
    let head = line(input)?;
    if !head.is_char_boundary(1) || head.is_empty() {
        return Err(wrong("a value without a kind"));
    }
    let (kind, rest) = head.split_at(1);
    let count = || {
        let count = rest.parse::<u64>();
        count.map_err(|_| wrong(format!("\"{head}\" has no length")))
    };
    let mut values = |count: u64| {
        if depth == DEEPEST || count > MOST_VALUES {
            return Err(wrong("too many values"));
        }
        (0..count)
            .map(|_| value(input, most, depth + 1))
            .collect::<io::Result<Vec<_>>>()
    };
    Ok(match kind {
        "+" => Value::Text(rest.into()),
        "-" => Value::Error(rest.to_owned()),
        ":" | "_" | "#" | "," | "(" => Value::Other,
        "$" | "*" if rest == "-1" => Value::Other,
        "$" | "=" => {
            let count = count()?;
            bytes(input, count, most)?.map_or(Value::TooLong, Value::Text)
        }
        "!" => {
            let count = count()?;
            let text = bytes(input, count, most)?.unwrap_or_default();
            Value::Error(String::from_utf8_lossy(&text).into_owned())
        }
        "*" | "~" => {
            values(count()?)?;
            Value::Other
        }
        "%" => {
            values(count()?.saturating_mul(2))?;
            Value::Other
        }
        ">" => Value::Push(values(count()?)?),
        "|" => {
            // Attributes of the value behind them, which may be left out; it counts as one deeper, so that it comes to an end.
            values(count()?.saturating_mul(2))?;
            match depth {
                DEEPEST => return Err(wrong("too many values")),
                _ => value(input, most, depth + 1)?,
            }
        }
        _ => return Err(wrong(format!("\"{head}\" is no value"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(mut text: &[u8]) -> Vec<Said> {
        let mut all = Vec::new();
        while !text.is_empty() {
            all.push(read(&mut text, 8).unwrap());
        }
        all
    }

    #[test]
    fn answers_are_in_order_and_messages_between_them() {
        let text = b"%2\r\n+server\r\n$5\r\nredis\r\n+modules\r\n*0\r\n\
            >3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n:0\r\n\
            >3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n+PONG\r\n-NOPERM no\r\n_\r\n$-1\r\n!2\r\nno\r\n\
            >3\r\n$7\r\nmessage\r\n$1\r\na\r\n$9\r\n123456789\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n";
        let no = |text: &str| Said::Refused(text.to_owned());
        let mut text = text.as_slice();
        let mut all = Vec::new();
        while !text.is_empty() {
            all.push(read(&mut text, 10).unwrap());
        }
        let message = |bytes: &[u8]| Said::Message("a".to_owned(), bytes.into());
        let expected = [
            Said::Done,
            Said::Done,
            Said::Done,
            message(b"hi"),
            Said::Done,
            no("NOPERM no"),
            Said::Done,
            Said::Done,
            no("no"),
            message(b"123456789"),
            Said::Nothing,
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn attributes_are_left_out_and_what_they_are_of_is_read() {
        let text = b"|1\r\n+key-popularity\r\n*2\r\n$3\r\nkey\r\n:90\r\n-NOPERM no\r\n\
            >3\r\n$7\r\nmessage\r\n$1\r\na\r\n|1\r\n+ttl\r\n:1\r\n$2\r\nhi\r\n+OK\r\n";
        let message = Said::Message("a".to_owned(), b"hi"[..].into());
        let refused = Said::Refused("NOPERM no".to_owned());
        assert_eq!(said(text), [refused, message, Said::Done]);
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_what_follows_is_read() {
        let text = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$9\r\n123456789\r\n+OK\r\n";
        assert_eq!(said(text), [Said::TooLong("a".to_owned()), Said::Done]);
    }

    #[test]
    fn nonsense_is_an_error() {
        let deep = [b"*1\r\n".repeat(100), b"+x\r\n".to_vec()].concat();
        for mut text in [
            &b"hello\r\n"[..],
            b"\r\n",
            b"$x\r\nab\r\n",
            b"$2\r\nabXX",
            b"$18446744073709551616\r\n",
            b"*1000000\r\n",
            b"%9223372036854775809\r\n",
            b">1\r\n:1\r\n",
            b"+no end",
            b"\xc3\xa9\r\n",
            &deep,
            &b"|0\r\n".repeat(100),
            &b"x".repeat(100_000),
        ] {
            assert!(read(&mut text, 10).is_err());
        }
    }

    #[test]
    fn commands_carry_any_bytes() {
        let mut out = Vec::new();
        command(&mut out, &[b"PUBLISH", b"a b", b"\r\n\0"]);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$3\r\na b\r\n$3\r\n\r\n\0\r\n");
    }
}
