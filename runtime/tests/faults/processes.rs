//! Child processes: a wait that was cut leaves none behind that should be gone, and loses none that should stay.

use std::{
    fmt::Debug,
    io::{self, Read, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use maniple::{
    cancel::{cancel_at, is_cancelled_error},
    net::PipeWriter,
    process::{Child, Command, Stdio},
};

use super::at_every_suspension;

const TEXT: &[u8] = b"some text";

/// Held by each test here: a process that another test starts has, until it has become its program, all files
/// of this one open, and so keeps ends of pipes that are to be seen closed.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that repeats its input on `output` until that ends, and the other end of the input.
fn repeater(output: Stdio) -> (Command, PipeWriter) {
    let (input, writer) = io::pipe().unwrap();
    let mut command = Command::new("cat");
    command.stdin(input).stdout(output);
    (command, PipeWriter::from_fd(writer).unwrap())
}

/// Says the text and ends the input; whether the program was there to hear.
fn say(mut writer: PipeWriter) -> bool {
    writer.write_all(TEXT).is_ok()
}

/// Whether the process still stands in the system's table, be it as a zombie.
fn exists(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

/// Waits by `wait` for a program whose input comes and ends only while it is waited for; it is to be gone
/// whether that was cut or not.
fn a_cut_wait_reaps<T: PartialEq + Debug + Send + Sync>(
    output: fn() -> Stdio,
    expected: &T,
    wait: impl Fn(Child) -> io::Result<T> + Send + Sync,
) {
    let points = at_every_suspension(|after| {
        let (mut command, writer) = repeater(output());
        let child = command.kill_on_drop(true).spawn().unwrap();
        drop(command);
        let id = child.id();
        let struck = maniple::group(|g| {
            let saying = g.spawn(|| say(writer));
            let (waited, struck) = cancel_at(after, || wait(child));
            assert!(!exists(id), "cut at {after}");
            match waited {
                Ok(Ok(value)) => assert!(value == *expected && saying.join().unwrap(), "{value:?}"),
                Ok(Err(error)) => assert!(struck && is_cancelled_error(&error), "{error}"),
                Err(_) => panic!("it has an error to return"),
            }
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 1, "{points}");
}

#[test]
fn a_process_whose_wait_was_cut_is_killed_and_reaped_with_its_handle() {
    let _alone = alone();
    a_cut_wait_reaps(Stdio::null, &true, |mut child| Ok(child.wait()?.success()));
}

#[test]
fn a_process_whose_output_was_cut_is_killed_and_reaped() {
    let _alone = alone();
    a_cut_wait_reaps(Stdio::piped, &TEXT.to_vec(), |child| {
        Ok(child.wait_with_output()?.stdout)
    });
}

#[test]
fn a_cut_call_for_output_or_status_leaves_no_process_that_reads() {
    let _alone = alone();
    let calls: [fn(&mut Command) -> io::Result<bool>; 2] = [
        |command| Ok(command.output()?.stdout == TEXT),
        |command| Ok(command.stdout(Stdio::null()).status()?.success()),
    ];
    for call in calls {
        let points = at_every_suspension(|after| {
            let (mut command, writer) = repeater(Stdio::piped());
            // The program that runs holds the other end.
            let (mut held, errors) = io::pipe().unwrap();
            rustix::io::ioctl_fionbio(&held, true).unwrap();
            command.stderr(errors);
            let struck = maniple::group(|g| {
                let saying = g.spawn(|| say(writer));
                let (called, struck) = cancel_at(after, move || call(&mut command));
                assert_eq!(held.read(&mut [0]).unwrap(), 0, "cut at {after}");
                match called {
                    Ok(Ok(as_expected)) => assert!(as_expected && saying.join().unwrap()),
                    Ok(Err(error)) => assert!(struck && is_cancelled_error(&error), "{error}"),
                    Err(_) => panic!("it has an error to return"),
                }
                Ok::<_, ()>(struck)
            });
            struck.unwrap()
        });
        assert!(points >= 1, "{points}");
    }
}

#[test]
fn a_process_whose_wait_was_cut_is_waited_for_again() {
    let _alone = alone();
    let points = at_every_suspension(|after| {
        let (mut command, writer) = repeater(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(command);
        let struck = maniple::group(|g| {
            let saying = g.spawn(|| say(writer));
            let (waited, struck) = cancel_at(after, || child.wait());
            match waited {
                Ok(Ok(status)) => assert!(status.success()),
                Ok(Err(error)) => assert!(struck && is_cancelled_error(&error), "{error}"),
                Err(_) => panic!("it has an error to return"),
            }
            assert!(child.wait().unwrap().success(), "cut at {after}");
            assert!(saying.join().unwrap() && !exists(child.id()));
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 1, "{points}");
}
