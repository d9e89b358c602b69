//! A server that calls may go to, as a list names it: where it is, how much it can take, where it stands.

use std::{fmt, str::FromStr, sync::Arc};

/// A server that calls may go to. In text, as in a [file](super::source::file) of them, a line:
/// `10.0.0.7:9001 weight=3 zone=a part=0/3`, of which all but the address may be left out.
///
/// # Examples
/// ```
/// use maniple_parts::endpoints::Endpoint;
/// let one: Endpoint = "10.0.0.7:9001 weight=3 zone=a".parse().unwrap();
/// assert_eq!(one, Endpoint::new("10.0.0.7:9001").weight(3).zone("a"));
/// assert!("10.0.0.7:9001 weight=lots".parse::<Endpoint>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    address: Arc<str>,
    weight: u32,
    zone: Option<Arc<str>>,
    part: Option<Part>,
}

/// A part of a whole that is divided over servers: the first of three is `0/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    pub(crate) of: u32,
    pub(crate) index: u32,
}

/// A weight is at most so much.
pub(crate) const MOST_WEIGHT: u32 = 1000;
/// A whole has at most so many parts.
const MOST_PARTS: u32 = 1000;

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no endpoint: {reason}")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

impl Endpoint {
    /// One at that address, with a weight of 1. An address is what calls understand: host and port, mostly.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
            zone: None,
            part: None,
        }
    }

    /// How much it can take beside the others, up to 1,000, which stands for more too. With 0 it gets no new calls: it is to
    /// end, and those under way are let go on. Default: 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.min(MOST_WEIGHT);
        self
    }

    /// Where it stands: a building, a rack. See [`Builder::zone`](super::Builder::zone).
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Which part of a whole it has: see [`Partitions`](crate::combined::Partitions).
    pub fn part(mut self, part: Part) -> Self {
        self.part = Some(part);
        self
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn shared_address(&self) -> &Arc<str> {
        &self.address
    }

    /// How much it can take beside the others.
    pub fn weight_of(&self) -> u32 {
        self.weight
    }

    pub(crate) fn zone_of(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }

    /// Which part of a whole it has, if any.
    pub fn part_of(&self) -> Option<Part> {
        self.part
    }
}

impl Part {
    /// The part of that index, from 0, of a whole of so many; `None` if there is no such part. There are 1,000 at most.
    pub fn new(index: u32, of: u32) -> Option<Self> {
        (index < of && of <= MOST_PARTS).then_some(Self { of, index })
    }

    /// Which one, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How many parts there are.
    pub fn of(&self) -> u32 {
        self.of
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = |reason| EndpointError {
            // What a file has on a line may be long.
            text: text.chars().take(80).collect(),
            reason,
        };
        let mut words = text.split_whitespace();
        let address = words.next().ok_or_else(|| wrong("there is no address"))?;
        let mut endpoint = Endpoint::new(address);
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| wrong("after the address come weight=, zone= and part="))?;
            endpoint = match key {
                "weight" => match value.parse() {
                    Ok(weight @ 0..=MOST_WEIGHT) => endpoint.weight(weight),
                    _ => return Err(wrong("a weight is a number from 0 to 1000")),
                },
                "zone" => endpoint.zone(value),
                "part" => endpoint.part(
                    value
                        .split_once('/')
                        .and_then(|(index, of)| Part::new(index.parse().ok()?, of.parse().ok()?))
                        .ok_or_else(|| wrong("a part is 0/3, 1/3 or 2/3, for instance"))?,
                ),
                _ => return Err(wrong("after the address come weight=, zone= and part=")),
            };
        }
        Ok(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if self.weight != 1 {
            write!(f, " weight={}", self.weight)?;
        }
        if let Some(zone) = &self.zone {
            write!(f, " zone={zone}")?;
        }
        match self.part {
            Some(part) => write!(f, " part={part}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl From<&str> for Endpoint {
    /// At that address, as [`Endpoint::new`] has it.
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<String> for Endpoint {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self::new(address.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_endpoint_are_the_same() {
        for text in [
            "10.0.0.7:9001",
            "[::1]:80 weight=0",
            "db:5432 weight=1000 zone=a part=2/3",
            "x zone=left",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        let spaced: Endpoint = "  a:1\tpart=0/1   weight=2 ".parse().unwrap();
        assert_eq!(spaced.to_string(), "a:1 weight=2 part=0/1");
    }

    #[test]
    fn a_bad_line_says_what_is_wrong() {
        for (text, reason) in [
            ("", "no address"),
            ("a:1 heavy", "weight="),
            ("a:1 weight=1001", "from 0 to 1000"),
            ("a:1 weight=-1", "from 0 to 1000"),
            ("a:1 weight=99999999999999999999", "from 0 to 1000"),
            ("a:1 part=3/3", "0/3"),
            ("a:1 part=0/0", "0/3"),
            ("a:1 part=1", "0/3"),
            ("a:1 part=0/4294967295", "0/3"),
            ("a:1 colour=red", "zone="),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
