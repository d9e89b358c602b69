//! Where a hooked call must not suspend: in a forked child, in a handler of signals, on std's own streams.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    time::Duration,
};

use maniple::{Runtime, spawn, timeout};

const LONG: Duration = Duration::from_secs(60);

fn on_one_worker<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    maniple_hook::install!();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| timeout(LONG, test).expect("it does not hang"))
}

/// What a writer of another thread does a while later.
fn write_soon(mut to: impl Write + Send + 'static) {
    std::thread::spawn(move || {
        #[allow(clippy::disallowed_methods, reason = "a plain thread")]
        std::thread::sleep(Duration::from_millis(50));
        to.write_all(b"x").unwrap();
    });
}

#[test]
fn a_forked_child_has_the_calls_as_they_are() {
    on_one_worker(|| {
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut answer, mut to_parent) = io::pipe().unwrap();
        spawn(|| {
            // Nobody but the parent has this turn.
            maniple::sleep(Duration::from_millis(5));
        });
        // SAFETY: the child makes system calls alone, and ends without running anything else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut byte = [0];
            let got = reader.read(&mut byte).is_ok_and(|n| n == 1);
            _ = to_parent.write(if got { &byte } else { b"!" });
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        assert!(child > 0);
        drop(to_parent);
        write_soon(writer);
        let mut told = Vec::new();
        answer.read_to_end(&mut told).unwrap();
        assert_eq!(told, b"x");
        // SAFETY: no room for a status.
        let ended = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(ended, child);
    });
}

static HANDLER_READS: AtomicI32 = AtomicI32::new(-1);
static OTHERS_RAN: AtomicBool = AtomicBool::new(false);
static OTHERS_RAN_MEANWHILE: AtomicBool = AtomicBool::new(true);

extern "C" fn handler(_signal: i32) {
    let mut byte = 0_u8;
    // SAFETY: room for a byte.
    unsafe {
        libc::read(
            HANDLER_READS.load(Ordering::Relaxed),
            (&raw mut byte).cast(),
            1,
        )
    };
    OTHERS_RAN_MEANWHILE.store(OTHERS_RAN.load(Ordering::Relaxed), Ordering::Relaxed);
}

#[test]
fn a_handler_of_signals_that_has_a_stack_of_its_own_is_not_suspended() {
    on_one_worker(|| {
        let (reader, writer) = io::pipe().unwrap();
        HANDLER_READS.store(reader.as_raw_fd(), Ordering::Relaxed);
        // SAFETY: a handler that makes system calls and stores to atomics.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(
                libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()),
                0
            );
        }
        spawn(|| OTHERS_RAN.store(true, Ordering::Relaxed));
        write_soon(writer);
        // SAFETY: of a signal that has a handler.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert!(!OTHERS_RAN_MEANWHILE.load(Ordering::Relaxed));
    });
}

/// In the child: two coroutines print more than a pipe takes, each line whole.
#[test]
fn coroutines_that_print_to_a_full_pipe_do_not_meet_within_a_line() {
    const LINES: usize = 2000;
    const NAME: &str = "coroutines_that_print_to_a_full_pipe_do_not_meet_within_a_line";
    if std::env::var_os("MANIPLE_PRINTS").is_some() {
        on_one_worker(|| {
            let print = |letter: char| {
                let line: String = std::iter::repeat_n(letter, 100).collect();
                for _ in 0..LINES {
                    // By the name, since tests keep back what is printed.
                    let mut out = io::stdout().lock();
                    writeln!(out, "{line}").unwrap();
                }
            };
            let one = spawn(move || print('a'));
            let other = spawn(move || print('b'));
            one.join().unwrap();
            other.join().unwrap();
        });
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("MANIPLE_PRINTS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{told:.500}");
    let is_of_one =
        |line: &&str| line.len() == 100 && line.bytes().all(|byte| byte == line.as_bytes()[0]);
    let whole = told.lines().filter(is_of_one).count();
    assert_eq!(whole, 2 * LINES);
}

#[test]
fn a_descriptor_that_is_no_socket_and_knows_no_way_not_to_wait_is_polled() {
    on_one_worker(|| {
        // A terminal's two ends.
        let (mut near, mut far) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: room for the two.
        let made =
            unsafe { libc::openpty(&raw mut near, &raw mut far, none, none.cast(), none.cast()) };
        assert_eq!(made, 0);
        // SAFETY: ours from here on.
        let (near, far) = unsafe { (OwnedFd::from_raw_fd(near), OwnedFd::from_raw_fd(far)) };
        let (mut near, mut far) = (File::from(near), File::from(far));
        let writer = spawn(move || {
            maniple::sleep(Duration::from_millis(5));
            near.write_all(b"line\n").unwrap();
            near
        });
        let mut got = [0; 5];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"line\n");
        drop(writer.join().unwrap());

        // SAFETY: takes numbers; ours from here on.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let mut reader = File::from(event.try_clone().unwrap());
        let reader = spawn(move || {
            let mut count = [0; 8];
            reader.read_exact(&mut count).unwrap();
            u64::from_ne_bytes(count)
        });
        maniple::yield_now();
        File::from(event).write_all(&7_u64.to_ne_bytes()).unwrap();
        assert_eq!(reader.join().unwrap(), 7);
    });
}
