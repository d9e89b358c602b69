//! Offloaded work: its limits, what it inherits from its caller, what becomes of it when that is cut; and files.

use std::{
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use maniple::{
    JoinError,
    cancel::{self, CancelToken, Interrupt, is_cancelled_error},
    fs::{self, File},
    group, offload,
    offload::OffloadPool,
    spawn, time, timeout, yield_now,
};

use super::{LONG, SHORT, on, passes_as_child, plain_thread};

fn pool(max_threads: usize) -> OffloadPool {
    let builder = OffloadPool::builder().name("tested").queue_limit(4);
    builder.max_threads(max_threads).build().unwrap()
}

/// Yields until `condition` holds: waits for an event rather than for a time.
fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "the event never came");
        yield_now();
    }
}

/// A job that tells that it has begun and ends when it is told to.
fn held() -> (
    impl FnOnce() + Send + 'static,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let job = move || {
        begin.send(()).unwrap();
        _ = released.recv();
    };
    (job, begun, release)
}

#[test]
fn the_worker_runs_others_while_a_job_runs_and_its_panic_is_the_callers() {
    on(1, || {
        let (job, begun, release) = held();
        let working = spawn(move || offload(job));
        until(|| begun.try_recv().is_ok());
        assert!(!working.is_finished());
        release.send(()).unwrap();
        working.join().unwrap().unwrap();

        let falling = spawn(|| offload(|| std::panic::resume_unwind(Box::new("on purpose"))));
        assert!(falling.join().is_err_and(|error| error.is_panic()));
    });
}

#[test]
fn a_job_runs_on_a_thread_of_its_pool_unless_a_plain_thread_shares() {
    let here = thread::current().id();
    assert_eq!(offload(|| thread::current().id()).unwrap(), here);
    let name = || thread::current().name().map(str::to_owned);
    let own = pool(1);
    assert_eq!(own.run(name).unwrap().as_deref(), Some("tested"));
    on(1, || {
        assert_eq!(own.run(name).unwrap().as_deref(), Some("tested"));
        assert_eq!(offload(name).unwrap().as_deref(), Some("maniple-offload"));
    });
}

#[test]
fn a_job_of_a_pool_can_run_another_there_although_no_thread_is_left() {
    let own = Arc::new(pool(1));
    let theirs = own.clone();
    let nested = on(1, || own.run(move || theirs.run(|| 5)));
    assert_eq!(nested.unwrap().unwrap(), 5);
}

#[test]
fn a_pool_starts_no_more_threads_than_its_limit() {
    let (own, most) = (pool(2), AtomicUsize::new(0));
    on(2, || {
        let inside = Arc::new(AtomicUsize::new(0));
        let all: Result<(), JoinError> = group(|g| {
            for _ in 0..6 {
                g.spawn(|| {
                    for _ in 0..50 {
                        let theirs = inside.clone();
                        let job = move || {
                            let now = theirs.fetch_add(1, SeqCst) + 1;
                            thread::yield_now();
                            theirs.fetch_sub(1, SeqCst);
                            now
                        };
                        most.fetch_max(own.run(job).unwrap(), SeqCst);
                    }
                });
            }
            Ok(())
        });
        all.unwrap();
    });
    assert!(most.load(SeqCst) <= 2 && own.threads() <= 2);
}

#[test]
fn a_full_queue_is_an_error_that_names_the_pool_and_its_limits() {
    let own = Arc::new(pool(1));
    on(1, || {
        let (job, begun, release) = held();
        let theirs = own.clone();
        let working = spawn(move || theirs.run(job));
        until(|| begun.try_recv().is_ok());
        let queued: Vec<_> = (0..4)
            .map(|at| {
                let theirs = own.clone();
                spawn(move || theirs.run(move || at))
            })
            .collect();
        until(|| own.queued() == 4);
        let error = own.run(|| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(
            error.to_string(),
            "queue of tested is full: 4 jobs wait for 1 threads"
        );
        release.send(()).unwrap();
        working.join().unwrap().unwrap();
        for (at, queued) in queued.into_iter().enumerate() {
            assert_eq!(queued.join().unwrap().unwrap(), at);
        }
    });
}

#[test]
fn a_pool_without_threads_is_refused_and_one_without_a_queue_is_not() {
    let error = OffloadPool::builder().max_threads(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("max_threads is 0"), "{error}");
    let own = OffloadPool::builder().queue_limit(0).max_threads(1);
    let own = own.build().unwrap();
    (0..500).for_each(|at| assert_eq!(own.run(move || at).unwrap(), at));
}

#[test]
fn idle_threads_end_and_so_do_those_of_a_dropped_pool() {
    let brief = OffloadPool::builder().idle(Duration::from_millis(1));
    let brief = brief.build().unwrap();
    brief.run(|| ()).unwrap();
    until(|| brief.threads() == 0);
    assert_eq!(brief.run(|| 1).unwrap(), 1);

    struct Tell(mpsc::Sender<()>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    thread_local! {
        static AT_END: std::cell::RefCell<Option<Tell>> = const { std::cell::RefCell::new(None) };
    }
    let (end, ended) = mpsc::channel();
    let own = pool(1);
    own.run(move || AT_END.set(Some(Tell(end)))).unwrap();
    assert!(ended.try_recv().is_err());
    drop(own);
    ended.recv_timeout(LONG).unwrap();
}

#[test]
fn a_job_inherits_its_callers_deadline_and_not_that_of_the_job_before() {
    let own = pool(1);
    on(1, || {
        let left = timeout(LONG, || own.run(time::remaining).unwrap()).unwrap();
        assert!(left.is_some_and(|left| left <= LONG && left > Duration::ZERO));
        assert_eq!(own.run(time::remaining).unwrap(), None);
        assert!(
            timeout(LONG, || offload(time::remaining).unwrap())
                .unwrap()
                .is_some()
        );
    });
    let left = timeout(LONG, || own.run(time::remaining).unwrap()).unwrap();
    assert!(left.is_some());
}

/// Looks until the job's scope is cut, and says how.
fn watch(seen: mpsc::Sender<Interrupt>) -> impl FnOnce() + Send {
    move || loop {
        if let Err(interrupt) = cancel::check() {
            return seen.send(interrupt).unwrap();
        }
        thread::yield_now();
    }
}

#[test]
fn a_job_sees_its_callers_cancellation_and_deadline() {
    for from_thread in [false, true] {
        let own = pool(2);
        let (cut, seen) = mpsc::channel();
        let (job, begun, release) = held();
        let both = {
            let cut = cut.clone();
            move || {
                job();
                watch(cut)();
            }
        };
        let token = CancelToken::new();
        let theirs = token.clone();
        let canceller = plain_thread(move || {
            begun.recv().unwrap();
            theirs.cancel();
            release.send(()).unwrap();
        });
        let cutting = cut.clone();
        let calling = || {
            let cut = cutting;
            let cancelled = token.run(|| own.run(both)).unwrap();
            assert!(is_cancelled_error(&cancelled.unwrap_err()));
            // On a busy machine the job may be withdrawn before a thread has taken it up.
            let begun = Arc::new(AtomicUsize::new(0));
            while begun.load(SeqCst) == 0 {
                let (theirs, watching) = (begun.clone(), watch(cut.clone()));
                let job = move || {
                    theirs.store(1, SeqCst);
                    watching();
                };
                let late = timeout(SHORT, || own.run(job)).unwrap();
                // The job may have seen the deadline, and returned, before its caller did.
                assert!(late.is_ok() || late.unwrap_err().kind() == ErrorKind::TimedOut);
            }
        };
        match from_thread {
            true => calling(),
            false => on(1, calling),
        }
        canceller.join().unwrap();
        drop(cut);
        let mut seen: Vec<_> = seen.iter().collect();
        seen.sort_by_key(|interrupt| *interrupt == Interrupt::Elapsed);
        assert_eq!(seen, [Interrupt::Cancelled, Interrupt::Elapsed]);
    }
}

#[test]
fn a_wait_inside_a_job_is_cut_as_its_callers_waits_are() {
    on(1, || {
        let cut = timeout(SHORT, || offload(|| maniple::sleep(LONG)));
        match cut {
            // The job was unwound, and its caller with it.
            Err(time::Elapsed) => {}
            Ok(result) => assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut),
        }
    });
}

#[test]
fn a_job_that_no_thread_has_taken_up_is_withdrawn() {
    let own = Arc::new(pool(1));
    on(1, || {
        let (job, begun, release) = held();
        let theirs = own.clone();
        let working = spawn(move || theirs.run(job));
        until(|| begun.try_recv().is_ok());
        let never = || panic!("it was withdrawn");
        let late = timeout(SHORT, || own.run(never)).unwrap().unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        release.send(()).unwrap();
        working.join().unwrap().unwrap();
        assert_eq!(own.run(|| 1).unwrap(), 1);
    });
}

#[test]
fn cancelling_at_any_moment_runs_a_job_once_or_never_and_drops_what_it_held() {
    for workers in [1, 2] {
        let own = pool(1);
        on(workers, || {
            for yields in 0..60 {
                let (ran, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
                let token = CancelToken::new();
                let (theirs, holds) = (ran.clone(), held.clone());
                let outcome: Result<_, JoinError> = group(|g| {
                    let calling = g.spawn(|| {
                        let job = move || (theirs.fetch_add(1, SeqCst), holds).0;
                        token.run(|| own.run(job))
                    });
                    g.spawn(|| {
                        (0..yields).for_each(|_| yield_now());
                        token.cancel();
                    });
                    calling.join()
                });
                match outcome.unwrap() {
                    Ok(Ok(before)) => assert_eq!((before, ran.load(SeqCst)), (0, 1)),
                    Ok(Err(error)) => assert!(is_cancelled_error(&error)),
                    Err(cancel::Cancelled) => {}
                }
                until(|| Arc::strong_count(&held) == 1);
                assert!(ran.load(SeqCst) <= 1);
            }
        });
    }
}

#[test]
fn a_result_that_falls_when_nobody_takes_it_ends_no_thread() {
    struct Falls;
    impl Drop for Falls {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    let own = pool(1);
    on(1, || {
        let (job, begun, release) = held();
        let token = CancelToken::new();
        let canceller = token.clone();
        let waiting = spawn(move || {
            until(|| begun.try_recv().is_ok());
            canceller.cancel();
        });
        let falls = move || {
            job();
            Falls
        };
        assert!(token.run(|| own.run(falls)).unwrap().is_err());
        waiting.join().unwrap();
        release.send(()).unwrap();
        assert_eq!(own.run(|| 1).unwrap(), 1);
        assert_eq!(own.threads(), 1);
    });
}

/// A directory of the test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("maniple-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("a/b")).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn whole_files_are_written_read_renamed_and_removed() {
    let every = || {
        let folder = Folder::new("whole");
        let (path, other) = (folder.0.join("a/b/text"), folder.0.join("a/other"));
        fs::write(&path, "äöü").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "äöü");
        assert_eq!(fs::metadata(&path).unwrap().len(), 6);
        fs::write(&path, *b"\xff").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\xff");
        let error = fs::read_to_string(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        fs::rename(&path, &other).unwrap();
        fs::remove_file(&other).unwrap();
        let error = fs::remove_file(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    };
    on(1, every);
    every();
}

#[test]
fn a_file_is_read_written_and_sought_like_stds() {
    on(1, || {
        let folder = Folder::new("file");
        let path = folder.0.join("numbers");
        let mut file = File::create(&path).unwrap();
        let large = vec![7; 3 << 20];
        file.write_all(&large).unwrap();
        file.write_all(b"end").unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.metadata().unwrap().len(), large.len() as u64 + 3);

        let mut options = fs::OpenOptions::new();
        let mut file = options.read(true).write(true).open(&path).unwrap();
        let mut back = Vec::new();
        file.read_to_end(&mut back).unwrap();
        assert!(back.starts_with(&large) && back.ends_with(b"end"));
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), large.len() as u64);
        (&file).write_all(b"END").unwrap();
        file.set_len(large.len() as u64 + 2).unwrap();
        file.seek(SeekFrom::Current(-3)).unwrap();
        let mut last = [0; 8];
        assert_eq!(file.read(&mut last).unwrap(), 2);
        assert_eq!(&last[..2], b"EN");
        assert_eq!(file.read(&mut last).unwrap(), 0);
    });
}

#[test]
fn a_call_in_a_cancelled_scope_does_not_touch_the_file() {
    on(1, || {
        let folder = Folder::new("cancelled");
        let path = folder.0.join("never");
        let token = CancelToken::new();
        token.cancel();
        let refused = token.run(|| fs::write(&path, "never")).unwrap();
        assert!(is_cancelled_error(&refused.unwrap_err()));
        assert!(!path.exists());
    });
}

/// A pipe with a name: who opens it for reading stands still until somebody writes.
struct Fifo(Folder);

impl Fifo {
    fn new(name: &str) -> Self {
        let fifo = Self(Folder::new(name));
        let path = std::ffi::CString::new(fifo.path().to_str().unwrap()).unwrap();
        // SAFETY: it reads a string with an end.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        fifo
    }

    fn path(&self) -> PathBuf {
        self.0.0.join("fifo")
    }

    /// Opens it for writing if anybody has it open for reading, or stands there opening it.
    fn writer(&self) -> Option<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).custom_flags(libc::O_NONBLOCK);
        options.open(self.path()).ok()
    }

    /// Lets all go that stand there, and waits until nobody has it open.
    fn release(&self) {
        until(|| self.writer().is_none());
    }
}

#[test]
fn calls_on_files_that_stand_still_end_at_their_deadline_and_hold_up_nobody_else() {
    let fifo = Fifo::new("still");
    let listener = std::net::TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    on(1, || {
        let path = fifo.path();
        let stuck: Vec<_> = (0..2 * offload::MAX_THREADS)
            .map(|at| {
                let path = path.clone();
                let call = move || match at % 3 {
                    0 => fs::read(&path).map(drop),
                    1 => fs::read_limited(&path, 10).map(drop),
                    _ => File::open(&path).map(drop),
                };
                spawn(move || timeout(Duration::from_millis(200), call))
            })
            .collect();
        for stuck in stuck {
            let error = stuck.join().unwrap().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        // Each within a bound of its own, which a call that waits for the stuck ones would not keep.
        let lively = || {
            assert!(fs::metadata("/").unwrap().is_dir());
            drop(maniple::net::TcpStream::connect(("localhost", port)).unwrap());
            assert_eq!(offload(|| 1).unwrap(), 1);
            assert!(fs::read("/proc/version").unwrap().starts_with(b"Linux"));
        };
        timeout(LONG, lively).unwrap();
        // What comes too late is dropped: a file that was opened is closed.
        fifo.release();
        timeout(LONG, lively).unwrap();
    });
}

#[test]
fn a_shutdown_does_not_wait_for_a_file_that_stands_still() {
    let fifo = Fifo::new("shutdown");
    let runtime = maniple::Runtime::builder().workers(1).shutdown_grace(LONG);
    let runtime = runtime.build().unwrap();
    let mut both = std::fs::OpenOptions::new();
    let mut writer = both.read(true).write(true).open(fifo.path()).unwrap();
    writer.write_all(b"some").unwrap();
    let path = fifo.path();
    let reading = runtime.spawn(move || fs::read(path));
    // It has read what there was, and now stands there.
    until(|| rustix::io::ioctl_fionread(&writer).unwrap() == 0);
    let begun = Instant::now();
    assert!(runtime.shutdown().is_clean());
    assert!(begun.elapsed() < LONG / 2);
    assert!(reading.is_finished());
    drop(writer);
    fifo.release();
}

#[test]
fn a_file_whose_read_was_left_behind_says_so_rather_than_read_elsewhere() {
    let fifo = Fifo::new("astray");
    on(1, || {
        let mut both = fs::OpenOptions::new();
        let file = both.read(true).write(true).open(fifo.path()).unwrap();
        let mut buffer = [0; 8];
        loop {
            let read = timeout(Duration::from_millis(50), || (&file).read(&mut buffer));
            assert_eq!(read.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
            // On a busy machine it may not have begun, and then nothing has happened to the file.
            let writing = (&file).write(b"");
            if writing.is_err() {
                break;
            }
        }
        for refused in [
            (&file).read(&mut buffer).map(drop),
            (&file).read_to_end(&mut Vec::new()).map(drop),
            (&file).write(b"late").map(drop),
            (&file).seek(SeekFrom::Start(0)).map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(error.to_string().contains("left behind"), "{error}");
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
        fifo.writer()
            .unwrap()
            .write_all(b"so that it ends")
            .unwrap();
        file.close().unwrap();
    });
    fifo.release();
}

#[test]
fn what_an_endless_file_has_is_not_read_on_once_nobody_waits() {
    on(1, || {
        let endless = || fs::read("/dev/zero");
        let late = timeout(Duration::from_millis(50), endless)
            .unwrap()
            .unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let much = fs::read_limited("/dev/zero", 3 << 20).unwrap_err();
        assert_eq!(much.kind(), ErrorKind::FileTooLarge);
        let folder = Folder::new("limited");
        let path = folder.0.join("ten");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(fs::read_limited(&path, 10).unwrap(), [7; 10]);
        assert!(fs::read_limited(&path, 9).is_err());
        assert_eq!(fs::read_limited(&path, usize::MAX).unwrap(), [7; 10]);
    });
}

#[test]
fn a_directory_is_read_to_its_end_however_much_is_in_it() {
    let every = || {
        let folder = Folder::new("directory");
        for at in 0..600 {
            std::fs::write(folder.0.join(format!("a/{at}")), "").unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.0.join("a"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected: Vec<_> = (0..600).map(|at| at.to_string()).collect();
        expected.push("b".to_owned());
        expected.sort();
        assert_eq!(names, expected);
        let missing = fs::read_dir(folder.0.join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    };
    on(1, every);
    every();
}

#[test]
#[ignore = "has a logger of its own: a child of the test below"]
fn warning_child() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    struct Kept;
    impl log::Log for Kept {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    log::set_logger(&Kept).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let own = Arc::new(pool(1));
    on(1, || {
        let (job, begun, release) = held();
        let theirs = own.clone();
        let working = spawn(move || theirs.run(job));
        until(|| begun.try_recv().is_ok());
        let theirs = own.clone();
        let waiting = spawn(move || theirs.run(|| ()));
        let told = || LINES.lock().unwrap().clone();
        let begun = Instant::now();
        while told().is_empty() {
            assert!(begun.elapsed() < LONG, "nothing is said");
            // Each gives up, and looks.
            let late = timeout(SHORT, || own.run(|| ()));
            late.unwrap().unwrap_err();
        }
        assert_eq!(told().len(), 1, "{:?}", told());
        assert!(told()[0].starts_with("all 1 threads of tested are busy"));
        release.send(()).unwrap();
        working.join().unwrap().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_pool_whose_threads_are_all_busy_for_long_says_so() {
    passes_as_child("offloading::warning_child");
}
