//! What the load asks, and whether what comes back is the answer.

use std::{net::SocketAddr, time::Duration};

use maniple_models::work::{Answer, Gathering, backend, burn};
use memchr::memmem;

/// One request of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Three backends' answers, merged.
    Aggregate(u64),
    /// A core for so many microseconds.
    Cpu(u64),
}

/// What a connection has received so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not yet a whole answer.
    Partial,
    /// One answer, after which the connection ends or is kept.
    Whole { said: Said, closes: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Status 200 and the very bytes that are due.
    Right,
    /// Another status.
    Status(u16),
    /// Anything else.
    Wrong,
}

impl Question {
    /// An aggregate that all backends know.
    pub(super) fn some_aggregate(rng: &mut fastrand::Rng) -> Self {
        Self::Aggregate(rng.u64(..backend::MISSING))
    }

    pub(super) fn request(&self, host: SocketAddr) -> Vec<u8> {
        let target = match self {
            Self::Aggregate(id) => format!("/aggregate/{id}"),
            Self::Cpu(us) => format!("/cpu?us={us}"),
        };
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
    }

    fn body(&self) -> String {
        match *self {
            Self::Aggregate(id) => {
                let values = std::array::from_fn(|which| backend::value(which, id).unwrap_or(0));
                Gathering::merged(id, values).body
            }
            Self::Cpu(us) => {
                let Answer { body, .. } = burn(Duration::ZERO);
                body.replace('0', &us.to_string())
            }
        }
    }

    /// What `received` says to this question.
    pub(super) fn reply(&self, received: &[u8]) -> Reply {
        let wrong = Reply::Whole {
            said: Said::Wrong,
            closes: true,
        };
        let Some(end) = memmem::find(received, b"\r\n\r\n").map(|at| at + 4) else {
            return match received.len() > LONGEST_HEAD {
                true => wrong,
                false => Reply::Partial,
            };
        };
        let Some(head) = Head::parse(&received[..end]) else {
            return wrong;
        };
        let body = &received[end..];
        if body.len() < head.length {
            return Reply::Partial;
        }
        let said = match head.status {
            200 if body == self.body().as_bytes() => Said::Right,
            200 => Said::Wrong,
            status => Said::Status(status),
        };
        Reply::Whole {
            said,
            closes: head.closes || body.len() > head.length,
        }
    }
}

struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

impl Head {
    fn parse(head: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
        let fields: Vec<(&str, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let field = |wanted: &str| {
            let found = fields
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| *value)
        };
        Some(Self {
            status: status.parse().ok()?,
            length: field("content-length")?.parse().ok()?,
            closes: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        })
    }
}

const LONGEST_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(said: Said, closes: bool) -> Reply {
        Reply::Whole { said, closes }
    }

    #[test]
    fn what_a_model_writes_is_right_and_nothing_less() {
        for (question, answer) in [
            (Question::Aggregate(7), {
                let values = [0, 1, 2].map(|which| backend::value(which, 7).unwrap());
                Gathering::merged(7, values)
            }),
            (Question::Cpu(3), burn(Duration::from_micros(3))),
        ] {
            for closes in [false, true] {
                let mut bytes = Vec::new();
                answer.write_to(closes, &mut bytes);
                assert_eq!(question.reply(&bytes), whole(Said::Right, closes));
                for length in 0..bytes.len() {
                    let reply = question.reply(&bytes[..length]);
                    assert_eq!(reply, Reply::Partial, "{length}");
                }
            }
        }
    }

    #[test]
    fn another_answer_is_wrong() {
        let mut bytes = Vec::new();
        Gathering::merged(7, [1, 2, 3]).write_to(false, &mut bytes);
        let reply = Question::Aggregate(7).reply(&bytes);
        assert_eq!(reply, whole(Said::Wrong, false));
        for text in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            let reply = Question::Aggregate(7).reply(text.as_bytes());
            assert_eq!(reply, whole(Said::Wrong, true), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_status() {
        let mut bytes = Vec::new();
        Answer::refusal(503, "too many").write_to(true, &mut bytes);
        let reply = Question::Aggregate(7).reply(&bytes);
        assert_eq!(reply, whole(Said::Status(503), true));
    }

    #[test]
    fn no_aggregate_is_one_that_a_backend_does_not_know() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let Question::Aggregate(id) = Question::some_aggregate(&mut rng) else {
                panic!("something else was asked");
            };
            assert!((0..backend::COUNT).all(|which| backend::value(which, id).is_ok()));
        }
    }
}
