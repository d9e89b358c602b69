//! Three answers into one.

use super::{
    Answer, Unavailable,
    backend::{COUNT, merged},
};

/// An aggregate for which answers still come in.
#[derive(Clone, Debug)]
pub struct Gathering {
    id: u64,
    said: [Option<Result<u64, Unavailable>>; COUNT],
}

impl Gathering {
    /// Nothing has been said yet.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            said: [const { None }; COUNT],
        }
    }

    /// The id that the backends are asked for.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Notes what one said; the whole answer once all have. Of several failures the first backend's is told.
    pub fn put(&mut self, which: usize, said: Result<u64, Unavailable>) -> Option<Answer> {
        self.said[which] = Some(said);
        let mut values = [0; COUNT];
        for (value, said) in values.iter_mut().zip(&self.said) {
            match said.as_ref()? {
                Ok(said) => *value = *said,
                Err(_) if self.said.iter().any(Option::is_none) => return None,
                Err(unavailable) => return Some(unavailable.clone().into()),
            }
        }
        Some(Self::merged(self.id, values))
    }

    /// What is said to the client.
    pub fn merged(id: u64, values: [u64; COUNT]) -> Answer {
        merged(id, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_there_with_the_last_of_three() {
        let mut gathering = Gathering::new(7);
        assert_eq!(gathering.put(2, Ok(3)), None);
        assert_eq!(gathering.put(0, Ok(1)), None);
        let answer = Answer::ok("{\"id\":7,\"a\":1,\"b\":2,\"c\":3}\n".into());
        assert_eq!(gathering.put(1, Ok(2)), Some(answer));
    }

    #[test]
    fn a_failure_is_told_once_all_have_spoken() {
        let mut gathering = Gathering::new(7);
        assert_eq!(gathering.put(0, Err(Unavailable::new(0, "gone"))), None);
        assert_eq!(gathering.put(1, Ok(2)), None);
        assert_eq!(gathering.put(2, Ok(3)).unwrap().status, 502);
    }
}
