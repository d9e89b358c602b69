//! The cases of the Autobahn test suite (fuzzingclient, sections 1 to 7, 9 and 10), for an echo: what is sent, and what
//! comes back. The numbers are the suite's.
//!
//! Each is sent whole, frame by frame and byte by byte, since the suite does so with some.

use std::{io::Write, slice::from_ref};

use super::raw::{Sent, Serving, close, frame, text};

/// What is sent, and what comes back before the end.
struct Case {
    number: String,
    frames: Vec<Vec<u8>>,
    answers: Vec<Sent>,
}

fn case(number: &str, frames: &[Vec<u8>], answers: &[Sent]) -> Case {
    Case {
        number: number.to_owned(),
        frames: frames.to_vec(),
        answers: answers.to_vec(),
    }
}

/// One that is closed by the client once it has its answers.
fn good(number: &str, frames: &[Vec<u8>], answers: &[Sent]) -> Case {
    let mut case = case(number, frames, answers);
    case.frames.push(close(1000));
    case.answers.push(Sent::Close(1000));
    case
}

fn said(text: &str) -> Sent {
    Sent::Text(text.to_owned())
}

const PROTOCOL_ERROR: Sent = Sent::Close(1002);
const NOT_UTF8: Sent = Sent::Close(1007);

fn run(cases: Vec<Case>) {
    let serving = Serving::echo();
    for case in &cases {
        let whole = case.frames.concat();
        let by_frames: Vec<&[u8]> = case.frames.iter().map(Vec::as_slice).collect();
        run_in(&serving, case, &[&whole]);
        run_in(&serving, case, &by_frames);
        if whole.len() < 2000 {
            run_in(&serving, case, &whole.chunks(1).collect::<Vec<_>>());
        } else {
            run_in(&serving, case, &whole.chunks(997).collect::<Vec<_>>());
        }
    }
}

fn run_in(serving: &Serving, case: &Case, pieces: &[&[u8]]) {
    let raw = serving.open();
    crate::driven::thread::scope(|scope| {
        scope.spawn(|| {
            for piece in pieces {
                // It may end the connection before it has all.
                if (&raw.stream).write_all(piece).is_err() {
                    break;
                }
            }
        });
        for expected in &case.answers {
            let sent = raw.receive();
            let is_long = matches!(&sent, Sent::Text(text) if text.len() > 200);
            assert!(
                sent == *expected,
                "case {}: {}",
                case.number,
                match is_long {
                    true => "another long text".to_owned(),
                    false => format!("{sent:?} and not {expected:?}"),
                }
            );
        }
        assert_eq!(raw.receive(), Sent::End, "case {}", case.number);
    });
}

#[test]
fn messages_of_any_length_come_back() {
    let mut cases = Vec::new();
    for (at, length) in [0, 125, 126, 127, 128, 65535, 65536, 65536]
        .into_iter()
        .enumerate()
    {
        let at = at + 1;
        let stars = "*".repeat(length);
        cases.push(good(&format!("1.1.{at}"), &[text(&stars)], &[said(&stars)]));
        let bytes = vec![0xFE; length];
        let sent = frame(0x82, &bytes);
        cases.push(good(&format!("1.2.{at}"), &[sent], &[Sent::Binary(bytes)]));
    }
    run(cases);
}

#[test]
fn pings_are_answered_and_pongs_are_not() {
    let ping = |payload: &[u8]| frame(0x89, payload);
    let pong = |payload: &[u8]| frame(0x8A, payload);
    let odd = [0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF];
    let ten: Vec<Vec<u8>> = (0..10)
        .map(|n| format!("payload-{n}").into_bytes())
        .collect();
    let pings: Vec<_> = ten.iter().map(|payload| ping(payload)).collect();
    let pongs: Vec<_> = ten.iter().cloned().map(Sent::Pong).collect();
    run(vec![
        good("2.1", &[ping(b"")], &[Sent::Pong(vec![])]),
        good(
            "2.2",
            &[ping(b"Hello, world!")],
            &[Sent::Pong(b"Hello, world!".to_vec())],
        ),
        good("2.3", &[ping(&odd)], &[Sent::Pong(odd.to_vec())]),
        good(
            "2.4, 2.6",
            &[ping(&[0xFE; 125])],
            &[Sent::Pong(vec![0xFE; 125])],
        ),
        case("2.5", &[ping(&[0xFE; 126])], &[PROTOCOL_ERROR]),
        good("2.7", &[pong(b"")], &[]),
        good("2.8", &[pong(b"unsolicited pong payload")], &[]),
        good(
            "2.9",
            &[pong(b"unsolicited"), ping(b"ping")],
            &[Sent::Pong(b"ping".to_vec())],
        ),
        good("2.10, 2.11", &pings, &pongs),
    ]);
}

#[test]
fn reserved_bits_and_opcodes_end_the_connection() {
    let hello = "Hello, world!";
    let bytes = hello.as_bytes();
    let mut cases = vec![
        case("3.1", &[frame(0xC1, bytes)], &[PROTOCOL_ERROR]),
        case("3.5", &[frame(0xD2, bytes)], &[PROTOCOL_ERROR]),
        case("3.6", &[frame(0xE9, bytes)], &[PROTOCOL_ERROR]),
        case("3.7", &[frame(0xF8, b"")], &[PROTOCOL_ERROR]),
        case(
            "3.2, 3.3, 3.4",
            &[text(hello), frame(0xA1, bytes), frame(0x89, b"")],
            &[said(hello), PROTOCOL_ERROR],
        ),
    ];
    for (at, opcode) in [3, 4, 5, 6, 7].into_iter().enumerate() {
        let payload = if opcode % 2 == 0 { bytes } else { b"" };
        let odd = frame(0x80 | opcode, payload);
        cases.push(case(
            &format!("4.1.{}", at + 1),
            from_ref(&odd),
            &[PROTOCOL_ERROR],
        ));
        let behind = [text(hello), odd, frame(0x89, b"")];
        cases.push(case("4.1.3", &behind, &[said(hello), PROTOCOL_ERROR]));
        let odd = frame(0x88 | opcode, payload);
        cases.push(case(&format!("4.2.{}", at + 1), &[odd], &[PROTOCOL_ERROR]));
    }
    run(cases);
}

#[test]
fn fragments_are_put_together_around_control_frames() {
    let (first, second) = (frame(0x01, b"fragment1"), frame(0x80, b"fragment2"));
    let whole = said("fragment1fragment2");
    let ping = frame(0x89, b"ping");
    let pong = Sent::Pong(b"ping".to_vec());
    let hello = text("Hello, world!");
    let echo = said("Hello, world!");
    let more = |n: u8| frame(0x00, &[b'0' + n]);
    run(vec![
        case(
            "5.1",
            &[frame(0x09, b"frag"), frame(0x80, b"ment")],
            &[PROTOCOL_ERROR],
        ),
        case(
            "5.2",
            &[frame(0x0A, b"frag"), frame(0x80, b"ment")],
            &[PROTOCOL_ERROR],
        ),
        good(
            "5.3, 5.4, 5.5",
            &[first.clone(), second.clone()],
            from_ref(&whole),
        ),
        good(
            "5.6, 5.7, 5.8",
            &[first.clone(), ping.clone(), second.clone()],
            &[pong.clone(), whole.clone()],
        ),
        case(
            "5.9, 5.10, 5.11",
            &[frame(0x80, b"non"), hello.clone()],
            &[PROTOCOL_ERROR],
        ),
        case(
            "5.12, 5.13, 5.14",
            &[frame(0x00, b"non"), hello.clone()],
            &[PROTOCOL_ERROR],
        ),
        case(
            "5.15",
            &[
                first.clone(),
                second.clone(),
                frame(0x00, b"fragment3"),
                frame(0x81, b"fragment4"),
            ],
            &[whole.clone(), PROTOCOL_ERROR],
        ),
        case(
            "5.16",
            &[frame(0x00, b"1"), hello.clone()],
            &[PROTOCOL_ERROR],
        ),
        case(
            "5.17",
            &[frame(0x80, b"1"), hello.clone()],
            &[PROTOCOL_ERROR],
        ),
        case(
            "5.18",
            &[first.clone(), frame(0x81, b"fragment2")],
            &[PROTOCOL_ERROR],
        ),
        good(
            "5.19, 5.20",
            &[
                frame(0x01, b"0"),
                more(1),
                ping.clone(),
                more(2),
                more(3),
                ping,
                frame(0x80, b"4"),
            ],
            &[pong.clone(), pong, said("01234")],
        ),
        good("5.3, then another", &[first, second, hello], &[whole, echo]),
    ]);
}

/// A text in frames of one byte each.
fn in_bytes(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = bytes.chunks(1).map(|byte| frame(0x00, byte)).collect();
    frames[0] = frame(0x01, &bytes[..1]);
    frames.push(frame(0x80, b""));
    frames
}

#[test]
fn texts_are_utf8_or_end_the_connection_wherever_they_are_cut() {
    let long = "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!";
    let kosme = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}";
    let mut cases = vec![
        good("6.1.1", &[text("")], &[said("")]),
        good(
            "6.1.2",
            &[frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")],
            &[said("")],
        ),
        good(
            "6.1.3",
            &[frame(0x01, b""), frame(0x00, b"middle"), frame(0x80, b"")],
            &[said("middle")],
        ),
        good("6.2.1", &[text(long)], &[said(long)]),
        good("6.2.3", &in_bytes(long.as_bytes()), &[said(long)]),
        good("6.2.4", &in_bytes(kosme.as_bytes()), &[said(kosme)]),
    ];
    for cut in 0..long.len() {
        let (one, other) = long.as_bytes().split_at(cut);
        cases.push(good(
            "6.2.2",
            &[frame(0x01, one), frame(0x80, other)],
            &[said(long)],
        ));
    }
    for (number, valid) in [
        ("6.5.1", kosme),
        ("6.6.2", "\u{3ba}"),
        ("6.6.5", "\u{3ba}\u{1f79}"),
        ("6.7.1", "\0"),
        ("6.7.2", "\u{80}"),
        ("6.7.3", "\u{800}"),
        ("6.7.4", "\u{10000}"),
        ("6.9.1", "\u{7f}"),
        ("6.9.2", "\u{7ff}"),
        ("6.9.3", "\u{ffff}"),
        ("6.9.4", "\u{10ffff}"),
        ("6.11.1", "\u{d7ff}"),
        ("6.11.2", "\u{e000}"),
        ("6.11.3", "\u{fffd}"),
        ("6.22.1", "\u{fffe}"),
        ("6.22.3", "\u{1fffe}"),
        ("6.22.34", "\u{10ffff}"),
        ("6.23.1", "\u{fffd}"),
    ] {
        cases.push(good(number, &[text(valid)], &[said(valid)]));
        cases.push(good(number, &in_bytes(valid.as_bytes()), &[said(valid)]));
    }
    for (number, invalid) in [
        (
            "6.3.1, 6.3.2",
            &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"[..],
        ),
        ("6.6.1", b"\xce"),
        ("6.6.3", b"\xce\xba\xe1"),
        ("6.6.4", b"\xce\xba\xe1\xbd"),
        ("6.8.1", b"\xf8\x88\x80\x80\x80"),
        ("6.8.2", b"\xfc\x84\x80\x80\x80\x80"),
        ("6.10.1", b"\xf7\xbf\xbf\xbf"),
        ("6.10.2", b"\xfb\xbf\xbf\xbf\xbf"),
        ("6.10.3", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
        ("6.11.5", b"\xf4\x90\x80\x80"),
        ("6.12.1", b"\x80"),
        ("6.12.2", b"\xbf"),
        ("6.12.3", b"\x80\xbf"),
        ("6.13.1", b"\xc0 \xc1 \xc2 \xc3 "),
        ("6.13.2", b"\xe0 \xe1 "),
        ("6.13.5", b"\xfc \xfd "),
        ("6.14.1", b"\xc0"),
        ("6.14.2", b"\xe0\x80"),
        ("6.14.5", b"\xfc\x80\x80\x80\x80"),
        ("6.14.6", b"\xdf"),
        ("6.14.7", b"\xef\xbf"),
        ("6.15.1", b"\xc0\xe0\x80\xf0\x80\x80"),
        ("6.16.1", b"\xfe"),
        ("6.16.2", b"\xff"),
        ("6.17.1", b"\xc0\xaf"),
        ("6.17.3", b"\xf0\x80\x80\xaf"),
        ("6.18.1", b"\xc1\xbf"),
        ("6.18.2", b"\xe0\x9f\xbf"),
        ("6.19.2", b"\xe0\x80\x80"),
        ("6.20.1", b"\xed\xa0\x80"),
        ("6.20.7", b"\xed\xbf\xbf"),
        ("6.21.1", b"\xed\xa0\x80\xed\xb0\x80"),
        ("6.21.8", b"\xed\xaf\xbf\xed\xbf\xbf"),
    ] {
        cases.push(case(number, &[frame(0x81, invalid)], &[NOT_UTF8]));
        cases.push(case(number, &in_bytes(invalid), &[NOT_UTF8]));
        // Also where bytes are binary they come back as they are.
        let binary = Sent::Binary(invalid.to_vec());
        cases.push(good(number, &[frame(0x82, invalid)], &[binary]));
    }
    run(cases);
}

#[test]
fn what_can_be_no_text_any_more_is_not_waited_for() {
    let serving = Serving::echo();
    let valid = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes();
    // 6.4.1 and 6.4.2: the bad bytes in a frame that is not the last.
    let raw = serving.open();
    raw.send(&frame(0x01, valid));
    raw.send(&frame(0x00, b"\xf4\x90\x80\x80"));
    assert_eq!(raw.receive(), NOT_UTF8);
    // 6.4.3 and 6.4.4: in a frame whose end does not come.
    let raw = serving.open();
    let whole = frame(0x81, &[valid, b"\xf4\x90\x80\x80", b"edited"].concat());
    raw.send(&whole[..6 + valid.len() + 2]);
    assert_eq!(raw.receive(), NOT_UTF8);
}

#[test]
fn a_close_is_answered_with_its_code_and_nothing_behind_it_counts() {
    let hello = text("Hello World!");
    let echo = said("Hello World!");
    let reason = |length: usize| [&1000_u16.to_be_bytes()[..], &vec![b'*'; length]].concat();
    let long = "BAsd7&jh23".repeat(26 * 1024);
    let mut cases = vec![
        good("7.1.1", from_ref(&hello), from_ref(&echo)),
        case("7.1.2", &[close(1000), close(1000)], &[Sent::Close(1000)]),
        case(
            "7.1.3",
            &[close(1000), frame(0x89, b"")],
            &[Sent::Close(1000)],
        ),
        case("7.1.4", &[close(1000), hello], &[Sent::Close(1000)]),
        case(
            "7.1.5",
            &[
                frame(0x01, b"fragment1"),
                close(1000),
                frame(0x80, b"fragment2"),
            ],
            &[Sent::Close(1000)],
        ),
        case(
            "7.1.6",
            &[text(&long), close(1000), frame(0x89, b"")],
            &[said(&long), Sent::Close(1000)],
        ),
        case("7.3.1", &[frame(0x88, b"")], &[Sent::Close(0)]),
        case("7.3.2", &[frame(0x88, b"a")], &[PROTOCOL_ERROR]),
        case("7.3.3", &[close(1000)], &[Sent::Close(1000)]),
        case("7.3.4", &[frame(0x88, &reason(12))], &[Sent::Close(1000)]),
        case("7.3.5", &[frame(0x88, &reason(123))], &[Sent::Close(1000)]),
        case("7.3.6", &[frame(0x88, &reason(124))], &[PROTOCOL_ERROR]),
        case(
            "7.5.1",
            &[frame(
                0x88,
                b"\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited",
            )],
            &[NOT_UTF8],
        ),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        cases.push(case(
            &format!("7.7, {code}"),
            &[close(code)],
            &[Sent::Close(code)],
        ));
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        cases.push(case(
            &format!("7.9, {code}"),
            &[close(code)],
            &[PROTOCOL_ERROR],
        ));
    }
    run(cases);
}

#[test]
fn what_comes_behind_a_close_does_not_reset_the_connection() {
    let serving = Serving::echo();
    let raw = serving.open();
    raw.send(&close(1000));
    assert_eq!(raw.receive(), Sent::Close(1000));
    assert_eq!(raw.receive(), Sent::End);
    for _ in 0..100 {
        raw.send(&frame(0x89, b"late"));
        assert_eq!(raw.receive(), Sent::End);
    }
}

#[test]
fn large_messages_come_back_in_whatever_frames_they_came() {
    let mut cases = Vec::new();
    for (at, length) in [64 << 10, 256 << 10, 1 << 20, 4 << 20]
        .into_iter()
        .enumerate()
    {
        let (at, long) = (at + 1, "*".repeat(length));
        cases.push(good(&format!("9.1.{at}"), &[text(&long)], &[said(&long)]));
        let bytes = Sent::Binary(long.clone().into_bytes());
        cases.push(good(
            &format!("9.2.{at}"),
            &[frame(0x82, long.as_bytes())],
            &[bytes],
        ));
    }
    let long = "*".repeat(1 << 20);
    for size in [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1300] {
        let mut frames: Vec<_> = long
            .as_bytes()
            .chunks(size)
            .map(|part| frame(0x00, part))
            .collect();
        frames[0][0] = 0x01;
        frames.push(frame(0x80, b""));
        cases.push(good(&format!("9.3, 10.1: {size}"), &frames, &[said(&long)]));
    }
    run(cases);
}

#[test]
fn a_thousand_messages_come_back_in_order() {
    let serving = Serving::echo();
    for length in [0, 16, 64, 256, 1024] {
        let raw = serving.open();
        for n in 0..1000 {
            let message = format!("{n:0length$}");
            raw.send(&text(&message));
            assert_eq!(raw.receive(), said(&message), "9.7: {length}");
        }
    }
}

#[test]
fn frames_without_masks_end_the_connection() {
    // 5.1 of the RFC; the suite cannot send such.
    let serving = Serving::echo();
    let raw = serving.open();
    raw.send(b"\x81\x05hello");
    assert_eq!(raw.receive(), PROTOCOL_ERROR);
    assert_eq!(raw.receive(), Sent::End);
}
