//! Pipes, of our own making and others'.

use std::{
    io::{ErrorKind, IoSlice, Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    net::{PipeReader, PipeWriter, pipe},
    spawn, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

#[test]
fn more_than_a_pipe_holds_passes_in_order_and_ends() {
    const BYTES: usize = 2 << 20;
    let byte = |at: usize| (at % 251) as u8;
    let write = move |mut writer: PipeWriter| {
        let all: Vec<u8> = (0..BYTES).map(byte).collect();
        let parts = [IoSlice::new(&all[..10]), IoSlice::new(&all[10..20])];
        assert_eq!(writer.write_vectored(&parts).unwrap(), 20);
        writer.write_all(&all[20..]).unwrap();
    };
    let read = move |mut reader: PipeReader| {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all.into_iter().eq((0..BYTES).map(byte)));
    };
    for workers in [1, 2] {
        on(workers, || {
            let (reader, writer) = pipe().unwrap();
            let writing = spawn(move || write(writer));
            read(reader);
            writing.join().unwrap();
        });
    }
    on(1, || {
        let (reader, writer) = pipe().unwrap();
        let writing = plain_thread(move || write(writer));
        read(reader);
        writing.join().unwrap();
    });
    let (reader, writer) = pipe().unwrap();
    let writing = plain_thread(move || write(writer));
    read(reader);
    writing.join().unwrap();
}

#[test]
fn many_short_messages_are_each_read_when_they_come() {
    on(1, || {
        let ((mut questions, mut ask), (mut answers, mut answer)) =
            (pipe().unwrap(), pipe().unwrap());
        let other = spawn(move || {
            let mut buffer = [0; 4];
            while questions.read_exact(&mut buffer).is_ok() {
                answer.write_all(&buffer).unwrap();
            }
        });
        for number in 0..200_u32 {
            ask.write_all(&number.to_be_bytes()).unwrap();
            let mut buffer = [0; 4];
            answers.read_exact(&mut buffer).unwrap();
            assert_eq!(buffer, number.to_be_bytes());
        }
        drop(ask);
        other.join().unwrap();
        assert_eq!(answers.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn waits_end_when_the_other_end_goes_the_deadline_passes_or_somebody_cancels() {
    on(1, || {
        let (mut reader, mut writer) = pipe().unwrap();
        assert_eq!(
            reader.try_read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let late = maniple::timeout(SHORT, || reader.read(&mut [0])).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        let late = maniple::timeout(SHORT, || reader.wait_readable()).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        let late = maniple::timeout(SHORT, || writer.write_all(&[0; 1 << 20])).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        let writing = spawn(move || writer.write(&[0; 1 << 20]));
        yield_now();
        assert!(!writing.is_finished());
        let mut clone = reader.try_clone().unwrap();
        drop(reader);
        assert!(clone.read(&mut [0; 64 << 10]).unwrap() > 0);
        drop(clone);
        // Some of it may have gone in before the reader went.
        match writing.join().unwrap() {
            Ok(n) => assert!(n < 1 << 20),
            Err(error) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
        }
        let (mut reader, writer) = pipe().unwrap();
        let reading = spawn(move || reader.read(&mut [0]));
        yield_now();
        reading.cancel();
        assert!(is_cancelled_error(&reading.join().unwrap().unwrap_err()));
        assert_eq!(
            (&writer).write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_byte() {
    for yields in 0..12 {
        on(1, move || {
            let (mut reader, mut writer) = pipe().unwrap();
            let token = CancelToken::new();
            let theirs = token.clone();
            let reading = spawn(move || {
                let (mut all, mut buffer) = (Vec::new(), [0; 3]);
                let cut = theirs.run(|| {
                    loop {
                        match reader.read(&mut buffer) {
                            Ok(n) => all.extend_from_slice(&buffer[..n]),
                            Err(error) => return error,
                        }
                    }
                });
                assert!(is_cancelled_error(&cut.unwrap()));
                reader.read_to_end(&mut all).unwrap();
                all
            });
            let canceller = spawn(move || {
                (0..yields).for_each(|_| yield_now());
                token.cancel();
            });
            for byte in 0..5 {
                writer.write_all(&[byte, byte]).unwrap();
                yield_now();
            }
            canceller.join().unwrap();
            drop(writer);
            assert_eq!(reading.join().unwrap(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        });
    }
}

#[test]
fn a_child_process_is_talked_to_while_the_worker_does_something_else() {
    on(1, || {
        let mut command = Command::new("cat");
        let mut child = (command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()).unwrap();
        let mut to = PipeWriter::from_fd(child.stdin.take().unwrap()).unwrap();
        let mut from = PipeReader::from_fd(child.stdout.take().unwrap()).unwrap();
        let heard = spawn(move || {
            let mut text = String::new();
            maniple::timeout(LONG, || from.read_to_string(&mut text))
                .unwrap()
                .unwrap();
            text
        });
        yield_now();
        to.write_all(b"said").unwrap();
        drop(to);
        assert_eq!(heard.join().unwrap(), "said");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn ends_go_to_std_and_come_back() {
    on(1, || {
        let (reader, writer) = pipe().unwrap();
        let mut writer = std::io::PipeWriter::try_from(writer).unwrap();
        writer.write_all(b"std").unwrap();
        let reader = std::io::PipeReader::try_from(reader).unwrap();
        let mut reader = PipeReader::try_from(reader).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 3);
        let late = maniple::timeout(Duration::from_millis(1), || reader.read(&mut [0])).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        let mut reader = PipeReader::from_fd(OwnedFd::from(reader)).unwrap();
        drop(writer);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    });
}
