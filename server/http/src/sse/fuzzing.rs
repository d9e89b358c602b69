//! What must hold for any text that a program may put into a server-sent event.

use super::event::Event;

/// Makes an event of the parts of `bytes`, which NUL NUL divides, and reads it as a client does.
///
/// # Panics
/// If the client gets anything else than one event, with these very parts.
pub fn event(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, "\0\0");
    let data = parts.next().unwrap_or_default();
    let (name, id) = (parts.next(), parts.next());
    let is_line = |part: &str| !part.contains(['\r', '\n']);
    let event = match name {
        None => Event::data(data),
        Some(name) => match Event::try_named(name) {
            Ok(event) => event.with_data(data),
            Err(_) => {
                assert!(!is_line(name), "{name:?} is a name");
                return;
            }
        },
    };
    let event = match id {
        None => event,
        Some(id) => match event.try_with_id(id) {
            Ok(event) => event,
            Err(_) => {
                assert!(!is_line(id) || id.contains('\0'), "{id:?} is an id");
                return;
            }
        },
    };
    // Something before it and behind it stays what it is.
    let wire = format!(
        "data: before\n\n{}{}data: behind\n\n",
        event.as_str(),
        Event::COMMENT
    );
    let of = |data: &str, name: &str, id: &str| Dispatched {
        data: data.to_owned(),
        name: name.to_owned(),
        id: id.to_owned(),
    };
    let data = data.replace("\r\n", "\n").replace('\r', "\n");
    let (name, id) = (name.unwrap_or_default(), id.unwrap_or_default());
    let dispatched = [
        of("before", "", ""),
        of(&data, name, id),
        of("behind", "", id),
    ];
    assert_eq!(read(&wire), dispatched, "{wire:?}");
}

#[derive(Debug, PartialEq, Eq)]
struct Dispatched {
    data: String,
    name: String,
    id: String,
}

/// The HTML Standard, 9.2.6.
fn read(wire: &str) -> Vec<Dispatched> {
    let lines = wire.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut last_id) = (Vec::new(), String::new());
    let (mut data, mut name) = (String::new(), String::new());
    for line in lines.split_inclusive('\n') {
        let line = line.strip_suffix('\n').expect("each line ends");
        if line.is_empty() {
            // An empty buffer of data dispatches nothing; else its last LF goes.
            if !data.is_empty() {
                data.pop();
                events.push(Dispatched {
                    data: std::mem::take(&mut data),
                    name: name.clone(),
                    id: last_id.clone(),
                });
            }
            data.clear();
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "event" => value.clone_into(&mut name),
            "id" if !value.contains('\0') => value.clone_into(&mut last_id),
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    const PARTS: &[&str] = &[
        "a", " ", ":", "\n", "\r", "\r\n", "\0", "\0\0", "data: x", "id: 1", "event: y", "\u{e4}",
        "\u{feff}",
    ];

    proptest! {
        #[test]
        fn a_client_gets_what_was_sent_and_nothing_else(parts in vec(select(PARTS), 0..12)) {
            super::event(parts.concat().as_bytes());
        }
    }
}
