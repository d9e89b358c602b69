//! What must hold for any bytes that the peer of a WebSocket may send.

use super::{
    decoder::{Decoder, Event, Limits},
    frame::{Fault, Head, MAX_CONTROL, Opcode, apply, may_be_sent},
    message::Message,
};

const LIMITS: Limits = Limits {
    frame: 70_000,
    message: 100_000,
    from_client: true,
};

/// Reads `bytes` as frames of a client or, if not `from_client`, of a server, whole and in pieces.
///
/// # Panics
/// If these differ, or differ from what a reader finds that takes one whole frame after the other, or if something gets
/// beyond a limit.
pub fn websocket(bytes: &[u8], piece: usize, from_client: bool) {
    let limits = Limits {
        from_client,
        ..LIMITS
    };
    let whole = decode(bytes, bytes.len().max(1), limits);
    assert_eq!(whole, decode(bytes, piece, limits), "in pieces of {piece}");
    for event in &whole.0 {
        match event {
            Event::Message(message) => assert!(message.as_bytes().len() <= limits.message),
            Event::Ping(ping) => assert!(ping.bytes().len() <= MAX_CONTROL),
            Event::Close(Some(reason)) => assert!(may_be_sent(reason.code)),
            Event::Pong | Event::Close(None) => {}
        }
    }
    check_against_frames(bytes, limits, &whole);
}

type Decoded = (Vec<Event>, Option<Fault>);

fn decode(bytes: &[u8], piece: usize, limits: Limits) -> Decoded {
    let (mut decoder, mut events) = (Decoder::new(limits), Vec::new());
    let mut kept = Vec::new();
    for part in bytes.chunks(piece) {
        kept.extend_from_slice(part);
        let mut unread = kept.as_slice();
        loop {
            match decoder.decode(&mut unread) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(fault) => return (events, Some(fault)),
            }
        }
        assert!(unread.len() < super::frame::MAX_HEAD, "only a head is kept");
        kept = unread.to_vec();
    }
    (events, None)
}

/// RFC 6455, 5.4, for frames that are there as a whole: the messages are the same, and come before the same faults.
fn check_against_frames(mut bytes: &[u8], limits: Limits, whole: &Decoded) {
    let (mut messages, mut parts, mut kind) = (Vec::new(), Vec::new(), None);
    while let Ok(Some(head)) = Head::parse(bytes) {
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let Some(payload) = bytes[head.size..].get(..length) else {
            break;
        };
        bytes = &bytes[head.size + length..];
        let mut payload = payload.to_vec();
        if let Some(mask) = head.mask {
            apply(mask, 0, &mut payload);
        }
        if head.mask.is_some() != limits.from_client {
            break;
        }
        match (head.opcode, kind) {
            (Opcode::Text | Opcode::Binary, None) => kind = Some(head.opcode),
            (Opcode::Continuation, Some(_)) => {}
            (opcode, _) if opcode.is_control() => continue,
            _ => break,
        }
        parts.extend(payload);
        if length > limits.frame || parts.len() > limits.message {
            break;
        }
        if head.last {
            let bytes = std::mem::take(&mut parts);
            messages.push(match kind.take() {
                Some(Opcode::Text) => match String::from_utf8(bytes) {
                    Ok(text) => Message::Text(text),
                    Err(_) => break,
                },
                _ => Message::Binary(bytes),
            });
        }
    }
    let (events, fault) = whole;
    let found = events.iter().filter_map(|event| match event {
        Event::Message(message) => Some(message),
        _ => None,
    });
    let found: Vec<&Message> = found.collect();
    // A fault in between, such as a bad Close, ends it earlier.
    match fault {
        None => assert!(found.iter().copied().eq(&messages)),
        Some(_) => assert!(found.iter().copied().eq(messages.iter().take(found.len()))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop_oneof![
            "[a-z\u{e4}\u{1f600}]{0,40}".prop_map(String::into_bytes),
            vec(any::<u8>(), 0..140),
        ];
        let first = prop_oneof![
            8 => proptest::sample::select(&[0x00_u8, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A][..]),
            1 => any::<u8>(),
        ];
        (first, payload, any::<[u8; 4]>(), 0..20_u8).prop_map(|(first, mut payload, mask, odd)| {
            let mut bytes = Vec::new();
            let mask = (odd > 0).then_some(mask);
            if let (0x88, [code, second, ..]) = (first, payload.as_mut_slice()) {
                (*code, *second) = (0x03, 0xE8 + odd);
            }
            Head::write(Opcode::Text, payload.len(), mask, &mut bytes);
            bytes[0] = first;
            if let Some(mask) = mask {
                apply(mask, 0, &mut payload);
            }
            bytes.extend(payload);
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_bytes_mean_the_same_however_they_are_cut(
            bytes in vec(any::<u8>(), 0..300), piece in 1_usize..20, from_client: bool,
        ) {
            websocket(&bytes, piece, from_client);
        }

        #[test]
        fn any_frames_mean_the_same_however_they_are_cut(
            frames in vec(frame(), 0..10), piece in 1_usize..200,
        ) {
            websocket(&frames.concat(), piece, true);
        }
    }
}
