//! Server-sent events on the wire (HTML Standard, 9.2), without I/O.

use std::{fmt, time::Duration};

/// An event of a stream, as it goes over the wire. `Arc` it to send it to many.
///
/// # Examples
/// ```
/// use maniple_server::sse::Event;
/// let event = Event::named("price").with_id("7").with_data("42\n43");
/// assert_eq!(event.as_str(), "event: price\nid: 7\ndata: 42\ndata: 43\n\n");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "an event does nothing until it is sent"]
pub struct Event {
    /// With the empty line that ends it.
    text: String,
}

/// A line end, or NUL in an id, where there may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {field} of a server-sent event must be a line, without NUL")]
pub struct InvalidField {
    field: &'static str,
}

impl Event {
    /// An event without a name, which browsers hand to `onmessage`.
    pub fn data(data: impl AsRef<str>) -> Self {
        Self::new().with_data(data)
    }

    /// An event of that name, which browsers hand to who listens to it, once it has data too.
    ///
    /// # Panics
    /// If the name has a line end. [`Event::try_named`] is for names that are not the program's own.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        Self::try_named(name).unwrap_or_else(|error| panic!("{error}: {name:?}"))
    }

    /// An event of that name, as [`Event::named`] makes it, for names that are not the program's own.
    ///
    /// # Errors
    /// If the name has a line end.
    pub fn try_named(name: &str) -> Result<Self, InvalidField> {
        Self::new().line("event", name)
    }

    fn new() -> Self {
        Self {
            text: "\n".to_owned(),
        }
    }

    /// The same with data, which may have several lines; they are what the client gets, with LF between them. Where there
    /// is data already, it goes on with a further line.
    pub fn with_data(mut self, data: impl AsRef<str>) -> Self {
        let data = data.as_ref();
        self.text.reserve(data.len() + "data: \n\n".len());
        // Each of the three is a line end to the client, and would end the field.
        let mut rest = Some(data);
        while let Some(text) = rest.take() {
            let line = match text.find(['\r', '\n']) {
                None => text,
                Some(at) => {
                    let behind = &text[at..];
                    rest = Some(behind.strip_prefix("\r\n").unwrap_or(&behind[1..]));
                    &text[..at]
                }
            };
            self.push("data", line);
        }
        self
    }

    /// The same with an id. A client that connects again says it in [`Last-Event-ID`](super::last_event_id).
    ///
    /// # Panics
    /// If it has a line end or NUL. [`Event::try_with_id`] is for ids that are not the program's own.
    #[track_caller]
    pub fn with_id(self, id: impl fmt::Display) -> Self {
        let id = id.to_string();
        let tried = self.try_with_id(&id);
        tried.unwrap_or_else(|error| panic!("{error}: {id:?}"))
    }

    /// The same with an id, as [`Event::with_id`] sets it, for ids that are not the program's own.
    ///
    /// # Errors
    /// If it has a line end or NUL, with which clients would take it for none.
    pub fn try_with_id(self, id: &str) -> Result<Self, InvalidField> {
        match id.contains('\0') {
            true => Err(InvalidField { field: "id" }),
            false => self.line("id", id),
        }
    }

    /// The same, telling the client how long to wait before it connects again, in milliseconds.
    pub fn with_retry(mut self, after: Duration) -> Self {
        self.push("retry", &after.as_millis().to_string());
        self
    }

    /// A comment, which clients pass over: it keeps a connection open on which nothing else comes.
    pub(super) const COMMENT: &str = ":\n\n";

    /// As it goes over the wire, with the empty line that ends it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn line(mut self, field: &'static str, value: &str) -> Result<Self, InvalidField> {
        if value.contains(['\r', '\n']) {
            return Err(InvalidField { field });
        }
        self.push(field, value);
        Ok(self)
    }

    /// Puts a line before the empty one.
    fn push(&mut self, field: &str, line: &str) {
        self.text.pop();
        for part in [field, ": ", line, "\n\n"] {
            self.text.push_str(part);
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_data_is_a_field_whatever_ends_it() {
        for (data, wire) in [
            ("", "data: \n\n"),
            ("a", "data: a\n\n"),
            (" a:b", "data:  a:b\n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n"),
            ("a\n", "data: a\ndata: \n\n"),
            ("\n\r", "data: \ndata: \ndata: \n\n"),
            ("\r\n\r\n", "data: \ndata: \ndata: \n\n"),
            (
                "a\nid: 1\n\ndata: b",
                "data: a\ndata: id: 1\ndata: \ndata: data: b\n\n",
            ),
        ] {
            assert_eq!(Event::data(data).as_str(), wire, "{data:?}");
        }
    }

    #[test]
    fn a_name_or_an_id_cannot_be_made_another_field() {
        for odd in ["a\nb", "a\rb", "\n", "a\r\ndata: x"] {
            assert!(Event::try_named(odd).is_err(), "{odd:?}");
            assert!(Event::data("x").try_with_id(odd).is_err(), "{odd:?}");
        }
        assert!(Event::data("x").try_with_id("a\0b").is_err());
    }

    #[test]
    #[should_panic(expected = "the id of a server-sent event must be a line")]
    fn an_id_of_the_programs_own_with_a_line_end_is_a_panic() {
        let _ = Event::data("x").with_id("a\nb");
    }
}
