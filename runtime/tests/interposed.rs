//! Clocks and random numbers of the C library, as the world has them: std's own calls, on threads that are in one. And
//! what of the machine a world denies to its coroutines.

use std::{
    collections::HashMap,
    fs, io,
    net::{TcpListener, ToSocketAddrs},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use maniple::{sim, time};

sim::interpose!();

const HOUR: Duration = Duration::from_secs(3600);

/// What a scenario has come to, for that seed.
fn of<T: Send + 'static>(seed: u64, scenario: impl FnOnce(&sim::World) -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    sim::run(seed, move |world| tell.send(scenario(world)).unwrap()).unwrap();
    told.recv().unwrap()
}

#[test]
fn stds_clocks_are_the_worlds() {
    of(0, |_| {
        let (begun, wall) = (Instant::now(), SystemTime::now());
        assert_eq!(begun, time::now());
        maniple::sleep(HOUR);
        assert_eq!(begun.elapsed(), HOUR);
        assert_eq!(wall.elapsed().unwrap(), HOUR);
        assert_eq!(
            wall.duration_since(UNIX_EPOCH).unwrap().as_secs(),
            1_893_456_000
        );
    });
}

#[test]
fn outside_of_worlds_they_are_the_systems() {
    let (begun, wall) = (Instant::now(), SystemTime::now());
    of(0, |_| maniple::sleep(HOUR));
    assert!(begun.elapsed() < HOUR && begun.elapsed() > Duration::ZERO);
    assert!(wall.elapsed().unwrap() < HOUR);
    let keys = |seed| seed ^ HashMap::<u8, u8>::new().capacity();
    assert_eq!(keys(7), 7);
}

#[test]
fn maps_have_the_order_of_the_seed() {
    let order = |seed| {
        of(seed, |_| {
            let map: HashMap<u32, ()> = (0..100).map(|key| (key, ())).collect();
            map.into_keys().collect::<Vec<_>>()
        })
    };
    assert_eq!(order(7), order(7));
    assert_ne!(order(7), order(8));
}

#[test]
fn a_hosts_clock_may_be_wrong_and_drift_while_timers_are_right() {
    of(0, |world| {
        let (tell, told) = mpsc::channel();
        let host = world.host("late", move || {
            let begun = Instant::now();
            maniple::sleep(HOUR);
            assert_eq!(begun.elapsed(), HOUR);
            tell.send((SystemTime::now(), time::system_now())).unwrap();
        });
        host.set_clock(-10.0);
        host.drift_clock(50);
        world.advance(2 * HOUR);
        let (std, ours) = told.recv().unwrap();
        assert_eq!(std, ours);
        let right = time::system_now() - HOUR;
        // Fifty millionths of an hour are 0.18 s.
        assert_eq!(right - Duration::from_millis(9_820), ours);
        host.set_clock(0.0);
        let seen = (time::system_now(), SystemTime::now());
        assert_eq!(seen.0, seen.1);
    });
}

/// What a world says of `wants`, which is denied what it wants.
fn denied(wants: impl FnOnce() -> io::Result<()> + Send + 'static) -> String {
    let (tell, told) = mpsc::channel();
    let failure = sim::run(7, move |_| tell.send(wants()).unwrap()).unwrap_err();
    let error = told.recv().unwrap().unwrap_err();
    // Of a name that is looked up, the library has no such error.
    let is_named = error.to_string().contains("failure in name resolution");
    assert!(
        error.kind() == io::ErrorKind::PermissionDenied || is_named,
        "{error}"
    );
    failure.what().to_owned()
}

#[test]
fn a_real_socket_fails_its_seed_with_the_place() {
    let line = line!() + 1;
    let said = denied(|| TcpListener::bind("127.0.0.1:0").map(drop));
    assert!(said.contains("a socket is real"), "{said}");
    assert!(
        said.contains(&format!("tests/interposed.rs:{line}, in ")),
        "{said}"
    );
    let said = denied(|| UnixStream::pair().map(drop));
    assert!(said.contains("a socket is real"), "{said}");
    let said = denied(|| "localhost:1".to_socket_addrs().map(drop));
    assert!(said.contains("a look-up of a name is real"), "{said}");
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("maniple-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_real_file_fails_its_seed_with_the_place_and_is_as_it_was() {
    let folder = Folder::new("denied");
    let (there, new) = (folder.0.join("there"), folder.0.join("new"));
    fs::write(&there, "old").unwrap();
    let paths = || (there.clone(), new.clone());
    let said = {
        let (there, _) = paths();
        denied(move || fs::read(&there).map(drop))
    };
    let name = there.display();
    assert!(said.contains(&format!("the file {name} is real")), "{said}");
    assert!(said.contains("tests/interposed.rs:"), "{said}");
    type Call = fn(&Path, &Path) -> io::Result<()>;
    let calls: [Call; 7] = [
        |there, _| fs::write(there, "new"),
        |_, new| fs::write(new, "new"),
        |_, new| fs::create_dir(new),
        |there, _| fs::remove_file(there),
        |there, new| fs::rename(there, new),
        |there, _| fs::remove_dir(there.parent().unwrap()),
        |there, _| fs::read_dir(there.parent().unwrap()).map(drop),
    ];
    for call in calls {
        let (there, new) = paths();
        let said = denied(move || call(&there, &new));
        assert!(said.contains(" is real"), "{said}");
    }
    assert_eq!(fs::read(&there).unwrap(), b"old");
    assert!(!new.exists());
}

#[test]
fn a_real_thread_fails_its_seed_with_the_place_and_does_not_begin() {
    let has_begun = Arc::new(AtomicBool::new(false));
    let theirs = has_begun.clone();
    let said = denied(|| {
        let begins = move || theirs.store(true, Ordering::Relaxed);
        thread::Builder::new().spawn(begins).map(drop)
    });
    assert!(said.contains("a thread is real"), "{said}");
    assert!(said.contains("tests/interposed.rs:"), "{said}");
    assert!(!has_begun.load(Ordering::Relaxed));
    assert_eq!(Arc::strong_count(&has_begun), 1);
}

#[test]
fn a_child_process_fails_its_seed_with_the_place_and_does_not_begin() {
    let folder = Folder::new("child");
    let made = folder.0.join("made");
    for is_forked in [false, true] {
        let made = made.clone();
        let said = denied(move || {
            let mut command = Command::new("touch");
            command.arg(made);
            if is_forked {
                // With a user, std forks.
                command.uid(rustix::process::getuid().as_raw());
            }
            command.spawn().map(drop)
        });
        // Before it forks, std makes a pair of sockets.
        let what = if is_forked {
            "a socket"
        } else {
            "a child process"
        };
        assert!(said.contains(&format!("{what} is real")), "{said}");
        assert!(said.contains("tests/interposed.rs:"), "{said}");
    }
    let said = denied(|| {
        // SAFETY: there is no child, and else it ends at once.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(1),
                _ => Err(io::Error::last_os_error()),
            }
        }
    });
    assert!(said.contains("a child process is real"), "{said}");
    assert!(!made.exists());
}

#[test]
fn real_lets_who_calls_it_have_all_that_and_nobody_else() {
    let folder = Folder::new("allowed");
    let path = folder.0.join("file");
    let theirs = path.clone();
    sim::run(7, move |_| {
        sim::real(|| {
            fs::write(&theirs, "one").unwrap();
            let read = || fs::read_to_string(&theirs).unwrap();
            let read = thread::scope(|scope| scope.spawn(read).join().unwrap());
            assert_eq!(read, "one");
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            drop(listener);
            let ended = Command::new("true").status().unwrap();
            assert!(ended.success());
            assert_eq!(fs::read_dir(theirs.parent().unwrap()).unwrap().count(), 1);
        });
    })
    .unwrap();
    let theirs = path.clone();
    let failure = sim::run(7, move |_| {
        let other = maniple::spawn(move || fs::read(&theirs));
        let seen = sim::real(|| other.join().unwrap());
        assert_eq!(seen.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    });
    assert!(failure.unwrap_err().what().contains("file is real"));
    let failure = sim::run(7, move |_| {
        sim::real(|| drop(fs::read(&path)));
        drop(fs::read(&path));
    });
    assert!(failure.unwrap_err().what().contains("file is real"));
}

#[test]
fn a_backtrace_may_be_read_and_so_may_what_is_of_no_disk() {
    of(7, |_| {
        let roomy = maniple::task::Builder::new().stack_size(4 << 20);
        let traced = || std::backtrace::Backtrace::force_capture().to_string();
        let trace = roomy.spawn(traced).unwrap().join().unwrap();
        assert!(trace.contains("a_backtrace_may_be_read"), "{trace}");
        fs::read("/proc/self/status").unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/null")
            .unwrap();
    });
}
