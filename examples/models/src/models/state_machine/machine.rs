//! What a session is at, and what follows from what happens: a table, without a socket in sight.

use std::time::Duration;

use crate::work::{Answer, Ask, Gathering, Request, Unavailable};

/// What a session is at.
#[derive(Debug)]
pub(super) enum State {
    /// A request is not yet complete.
    Reading,
    /// Not all backends have answered.
    Asking(Gathering, Then),
    /// Something is computed.
    Computing(Then),
    /// The client has not yet got all of its answer.
    Answering(Then),
    /// The client has been told what was wrong; what it still sends is thrown away.
    Lingering,
    /// Nothing is left to do.
    Over,
}

/// What comes after the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    Read,
    Close,
    Linger,
}

/// What happens to a session.
#[derive(Debug)]
pub(super) enum Event {
    /// A whole request was read.
    Request(Request),
    /// A backend has answered.
    Said(usize, Result<u64, Unavailable>),
    /// What was to be computed is.
    Computed(Answer),
    /// The kernel has taken all of the answer.
    Sent,
    /// The client sends no more.
    Ended,
    /// The connection has failed.
    Broken,
}

/// What is to be done about it.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    Nothing,
    /// Ask all backends for this id.
    Ask(u64),
    /// Use the processor for so long.
    Compute(Duration),
    /// Send this answer; whether it is the last is said in it.
    Send {
        answer: Answer,
        last: bool,
    },
    /// Tell the client that no more comes.
    EndOutput,
}

impl State {
    /// ① Every line is a transition: where the session is, what happens, where it is then
    /// and what is to be done.
    pub(super) fn on(self, event: Event) -> (Self, Effect) {
        use {Effect::*, Event::*, State::*};
        match (self, event) {
            (Reading, Request(request)) => begin(request),
            (Reading | Lingering, Ended) => (Over, Nothing),
            (Asking(mut gathering, then), Said(which, said)) => match gathering.put(which, said) {
                None => (Asking(gathering, then), Nothing),
                Some(answer) => send(answer, then),
            },
            (Computing(then), Computed(answer)) => send(answer, then),
            (Answering(Then::Read), Sent) => (Reading, Nothing),
            (Answering(Then::Close), Sent) => (Over, Nothing),
            (Answering(Then::Linger), Sent) => (Lingering, EndOutput),
            (_, Broken) => (Over, Nothing),
            // ② The rest means nothing: what a backend says to a session that does not ask,
            // for instance.
            (state, Request(_) | Said(..) | Computed(_) | Sent | Ended) => (state, Nothing),
        }
    }
}

fn begin(request: Request) -> (State, Effect) {
    let then = match (request.is_broken(), request.closes) {
        (true, _) => Then::Linger,
        (false, true) => Then::Close,
        (false, false) => Then::Read,
    };
    match request.ask {
        Ask::Aggregate(id) => (State::Asking(Gathering::new(id), then), Effect::Ask(id)),
        Ask::Cpu(time) => (State::Computing(then), Effect::Compute(time)),
        Ask::Refused(answer) => send(answer, then),
    }
}

fn send(answer: Answer, then: Then) -> (State, Effect) {
    let last = then != Then::Read;
    (State::Answering(then), Effect::Send { answer, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Event {
        let mut bytes = text.replace('\n', "\r\n").into_bytes();
        Event::Request(Request::take(&mut bytes).expect("a whole request"))
    }

    fn aggregate() -> Event {
        request("GET /aggregate/7 HTTP/1.1\nhost: s\n\n")
    }

    fn last_compute() -> Event {
        request("GET /cpu?us=5 HTTP/1.1\nhost: s\nconnection: close\n\n")
    }

    fn nonsense() -> Event {
        request("\u{1}\n\n")
    }

    fn said(which: usize) -> Event {
        Event::Said(which, Ok(which as u64))
    }

    /// Each line: what happens to a new session, one after the other; where it is then, and
    /// what was done last.
    #[test]
    fn each_history_leads_where_the_table_says() {
        use Event::{Broken, Ended, Sent};
        let five = || Event::Computed(Answer::ok("5".into()));
        for (history, state, effect) in [
            (vec![], "Reading", "Nothing"),
            (vec![Ended], "Over", "Nothing"),
            (vec![Broken], "Over", "Nothing"),
            (vec![Sent], "Reading", "Nothing"),
            (vec![said(0)], "Reading", "Nothing"),
            (vec![aggregate()], "Asking", "Ask(7)"),
            (vec![aggregate(), Ended], "Asking", "Nothing"),
            (vec![aggregate(), Broken], "Over", "Nothing"),
            (vec![aggregate(), Broken, said(0)], "Over", "Nothing"),
            (vec![aggregate(), said(2), said(0)], "Asking", "Nothing"),
            (
                vec![aggregate(), said(2), said(0), said(1)],
                "Answering(Read)",
                "Send 200",
            ),
            (
                vec![aggregate(), said(2), said(0), said(1), Sent],
                "Reading",
                "Nothing",
            ),
            (vec![last_compute()], "Computing(Close)", "Compute(5µs)"),
            (
                vec![last_compute(), five()],
                "Answering(Close)",
                "Send 200, last",
            ),
            (vec![last_compute(), five(), Sent], "Over", "Nothing"),
            (vec![nonsense()], "Answering(Linger)", "Send 400, last"),
            (vec![nonsense(), Sent], "Lingering", "EndOutput"),
            (vec![nonsense(), Sent, aggregate()], "Lingering", "Nothing"),
            (vec![nonsense(), Sent, Ended], "Over", "Nothing"),
        ] {
            let told = format!("{history:?}");
            let begin = (State::Reading, Effect::Nothing);
            let end = history
                .into_iter()
                .fold(begin, |(state, _), event| state.on(event));
            assert!(
                format!("{:?}", end.0).starts_with(state),
                "{told}: {:?}",
                end.0
            );
            let done = match &end.1 {
                Effect::Send { answer, last: true } => format!("Send {}, last", answer.status),
                Effect::Send { answer, .. } => format!("Send {}", answer.status),
                other => format!("{other:?}"),
            };
            assert_eq!(done, effect, "{told}");
        }
    }
}
