//! Calls on files suspend where that is asked for, and there alone.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Read, Seek, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use maniple::{Runtime, cancel::CancelToken, spawn, timeout, yield_now};
use maniple_hook::files;

/// Longer than any test takes that does not hang.
const LONG: Duration = Duration::from_secs(60);

/// How long something takes that would be over at once.
const WHILE: Duration = Duration::from_millis(50);

/// Runs `test` on one worker. If it stands still, this fails.
fn on_one_worker<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    maniple_hook::install!();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        tell.send(runtime.run(test))
    });
    told.recv_timeout(LONG)
        .expect("it ends, and does not panic")
}

/// The same, with calls on files made elsewhere.
fn offloading<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    on_one_worker(|| files::offload(test))
}

/// A folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("maniple-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let in_c = c_path(&path);
        // SAFETY: a path.
        assert_eq!(unsafe { libc::mkfifo(in_c.as_ptr(), 0o600) }, 0);
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn flock(file: &File, operation: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    told(unsafe { libc::flock(file.as_raw_fd(), operation) })
}

/// Locks all of a file by fcntl(2), or unlocks it.
fn record_lock(file: &File, command: i32, kind: i32) -> io::Result<()> {
    // SAFETY: zero is nothing in each of its fields.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (kind as i16, libc::SEEK_SET as i16);
    // SAFETY: a lock, of ours.
    told(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) })
}

fn told(result: i32) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[test]
fn who_opens_a_fifo_waits_for_the_other_end_while_neighbours_go_on() {
    let folder = Folder::new("fifo");
    let fifo = folder.fifo("fifo");
    let got = offloading(move || {
        let theirs = fifo.clone();
        let reader = spawn(move || fs::read(theirs));
        let writer = spawn(move || {
            OpenOptions::new()
                .write(true)
                .open(fifo)?
                .write_all(b"across")
        });
        writer.join().unwrap().unwrap();
        reader.join().unwrap()
    });
    assert_eq!(got.unwrap(), b"across");
}

#[test]
fn outside_of_it_calls_on_files_hold_the_worker() {
    let folder = Folder::new("held");
    let fifo = folder.fifo("fifo");
    let opens = |fifo: PathBuf| {
        move || {
            let ran = Arc::new(AtomicBool::new(false));
            let theirs = ran.clone();
            let neighbour = spawn(move || theirs.store(true, SeqCst));
            let other_end = std::thread::spawn({
                let fifo = fifo.clone();
                // Waits until that is opened for reading.
                move || OpenOptions::new().write(true).open(fifo).map(drop)
            });
            let opened = File::open(fifo);
            let ran_meanwhile = ran.load(SeqCst);
            other_end.join().unwrap().unwrap();
            opened.unwrap();
            neighbour.join().unwrap();
            ran_meanwhile
        }
    };
    assert!(!on_one_worker(opens(fifo.clone())));
    let inner = opens(fifo);
    assert!(!offloading(move || files::in_place(inner)));
}

#[test]
fn what_is_spawned_there_does_the_same() {
    let folder = Folder::new("inherits");
    let fifo = folder.fifo("fifo");
    on_one_worker(move || {
        let theirs = fifo.clone();
        let reader = files::offload(|| spawn(move || spawn(|| fs::read(theirs)).join().unwrap()));
        // One that is not, and comes second.
        let other_end = std::thread::spawn(|| fs::write(fifo, b"x"));
        assert_eq!(reader.join().unwrap().unwrap(), b"x");
        other_end.join().unwrap().unwrap();
    });
}

#[test]
fn locks_are_waited_for_while_their_holders_go_on() {
    let folder = Folder::new("locks");
    let path = folder.path("locked");
    File::create(&path).unwrap();
    let lock: [fn(&File, bool) -> io::Result<()>; 3] = [
        |file, takes| flock(file, if takes { libc::LOCK_EX } else { libc::LOCK_UN }),
        |file, takes| {
            let kind = if takes { libc::F_WRLCK } else { libc::F_UNLCK };
            record_lock(file, libc::F_OFD_SETLKW, kind)
        },
        |file, takes| if takes { file.lock() } else { file.unlock() },
    ];
    for lock in lock {
        let path = path.clone();
        offloading(move || {
            let open = || {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .unwrap()
            };
            let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let each = (0..5).map(|_| {
                let (file, inside, most) = (open(), inside.clone(), most.clone());
                spawn(move || {
                    lock(&file, true).unwrap();
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    maniple::sleep(Duration::from_millis(2));
                    inside.fetch_sub(1, SeqCst);
                    lock(&file, false).unwrap();
                })
            });
            let each: Vec<_> = each.collect();
            each.into_iter().for_each(|one| one.join().unwrap());
            assert_eq!(most.load(SeqCst), 1, "one at a time");
        });
    }
}

/// A process's own locks are waited for where another has one.
#[test]
fn a_lock_of_another_owner_is_waited_for() {
    let folder = Folder::new("owners");
    let path = folder.path("locked");
    let other = File::create(&path).unwrap();
    record_lock(&other, libc::F_OFD_SETLK, libc::F_WRLCK).unwrap();
    offloading(move || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let asked = record_lock(&file, libc::F_SETLK, libc::F_WRLCK).unwrap_err();
        assert_eq!(asked.raw_os_error(), Some(libc::EAGAIN), "not waited for");
        let waiter = spawn(move || record_lock(&file, libc::F_SETLKW, libc::F_WRLCK));
        (0..10).for_each(|_| yield_now());
        assert!(!waiter.is_finished());
        record_lock(&other, libc::F_OFD_SETLK, libc::F_UNLCK).unwrap();
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_wait_for_a_lock_is_cut_and_the_lock_is_not_had() {
    let folder = Folder::new("cut");
    let path = folder.path("locked");
    offloading(move || {
        let (holder, waiter) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        flock(&holder, libc::LOCK_EX).unwrap();
        let token = CancelToken::new();
        let theirs = token.clone();
        spawn(move || theirs.cancel());
        let began = Instant::now();
        let cut = token.run(|| flock(&waiter, libc::LOCK_EX)).unwrap();
        assert_eq!(cut.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        let late = timeout(WHILE, || flock(&waiter, libc::LOCK_SH)).unwrap();
        assert_eq!(late.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(began.elapsed() >= WHILE);
        // Nobody took it behind our back.
        flock(&holder, libc::LOCK_UN).unwrap();
        flock(&holder, libc::LOCK_EX | libc::LOCK_NB).unwrap();
    });
}

/// More than there are threads, while the holder needs one to go on.
#[test]
fn those_who_wait_for_a_lock_take_no_thread_from_its_holder() {
    let folder = Folder::new("many");
    let path = folder.path("locked");
    offloading(move || {
        let mut holder = File::create(&path).unwrap();
        flock(&holder, libc::LOCK_EX).unwrap();
        let waiters: Vec<_> = (0..2 * maniple::offload::MAX_THREADS)
            .map(|_| {
                let path = path.clone();
                spawn(move || flock(&File::open(path).unwrap(), libc::LOCK_SH))
            })
            .collect();
        (0..10).for_each(|_| yield_now());
        holder.write_all(b"done").unwrap();
        holder.sync_all().unwrap();
        flock(&holder, libc::LOCK_UN).unwrap();
        waiters
            .into_iter()
            .for_each(|one| one.join().unwrap().unwrap());
    });
}

#[test]
fn an_open_that_waits_is_cut_and_what_it_opens_too_late_is_closed() {
    let folder = Folder::new("late");
    let fifo = folder.fifo("fifo");
    offloading(move || {
        let late = timeout(WHILE, || File::open(&fifo)).unwrap().unwrap_err();
        assert_eq!(late.raw_os_error(), Some(libc::ETIMEDOUT));
        // The call that was left behind is the other end, for as long as it takes to close that.
        let mut other = OpenOptions::new().write(true).open(&fifo).unwrap();
        let began = Instant::now();
        let broken = loop {
            match other.write(b"x") {
                Ok(_) if began.elapsed() < LONG => maniple::sleep(Duration::from_millis(1)),
                ended => break ended,
            }
        };
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

/// One that makes a file, which is not to happen behind its caller's back.
#[test]
fn a_call_that_has_begun_and_changes_something_is_waited_out() {
    let folder = Folder::new("whole");
    let fifo = folder.fifo("fifo");
    offloading(move || {
        let token = CancelToken::new();
        let (theirs, ours) = (token.clone(), fifo.clone());
        let mut create = OpenOptions::new();
        create.write(true).create(true);
        let creator = spawn(move || theirs.run(|| create.open(ours)).unwrap());
        files::in_place(|| {
            while !a_thread_waits_to_create() {
                yield_now();
            }
        });
        token.cancel();
        (0..10).for_each(|_| yield_now());
        assert!(!creator.is_finished());
        let reader = File::open(&fifo).unwrap();
        assert!(creator.join().unwrap().is_ok());
        drop(reader);
    });
}

/// By what the kernel says of its wait: `openat`, and its flags.
fn a_thread_waits_to_create() -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads.flatten().any(|thread| {
        let waits = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        let words: Vec<_> = waits.split_whitespace().collect();
        let flags = words.get(3).and_then(|word| word.strip_prefix("0x"));
        let flags = flags.and_then(|word| i32::from_str_radix(word, 16).ok());
        words.first() == Some(&libc::SYS_openat.to_string().as_str())
            && flags.is_some_and(|flags| flags & libc::O_CREAT != 0)
    })
}

#[test]
fn no_call_is_made_in_a_scope_that_is_cancelled() {
    let folder = Folder::new("refused");
    let path = folder.path("file");
    fs::write(&path, "text").unwrap();
    offloading(move || {
        let token = CancelToken::new();
        token.cancel();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let calls: [&dyn Fn() -> io::Result<()>; 12] = [
            &|| File::open(&path).map(drop),
            &|| File::create(&path).map(drop),
            &|| (&file).read(&mut [0]).map(drop),
            &|| (&file).write(b"x").map(drop),
            &|| (&file).write_vectored(&[IoSlice::new(b"x")]).map(drop),
            &|| file.read_at(&mut [0], 0).map(drop),
            &|| file.write_at(b"x", 0).map(drop),
            &|| file.sync_all(),
            &|| file.set_len(1),
            &|| fs::metadata(&path).map(drop),
            &|| fs::rename(&path, path.with_extension("other")),
            &|| fs::remove_file(&path),
        ];
        for (at, call) in calls.iter().enumerate() {
            let error = token.run(|| call().unwrap_err()).unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "call {at}");
        }
        let shielded = token.run(|| maniple::cancel::shield(|| fs::read(&path)));
        assert_eq!(shielded.unwrap().unwrap(), b"text");
    });
}

/// What std does with files, told as text: the same wherever it runs.
fn what_std_does(folder: &Path) -> String {
    let path = |name: &str| folder.join(name);
    let mut told = String::new();
    let mut tell = |what: &str, result: io::Result<String>| {
        let result = result.map_err(|error| error.raw_os_error());
        told += &format!("{what}: {result:?}\n");
    };
    let unit = |result: io::Result<()>| result.map(|()| String::new());
    let number = |result: io::Result<u64>| result.map(|number| number.to_string());
    let large: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    tell("mkdir", unit(fs::create_dir(path("a"))));
    tell("mkdir again", unit(fs::create_dir(path("a"))));
    tell("mkdir -p", unit(fs::create_dir_all(path("b/c/d"))));
    tell("write", unit(fs::write(path("a/one"), "one")));
    tell("write large", unit(fs::write(path("a/large"), &large)));
    tell("write nowhere", unit(fs::write(path("none/one"), "one")));
    tell("read", fs::read_to_string(path("a/one")));
    tell("read none", fs::read_to_string(path("none")));
    tell("read a folder", fs::read_to_string(path("a")));
    let same = fs::read(path("a/large")).map(|got| (got == large).to_string());
    tell("read large", same);
    tell(
        "create new",
        unit(File::create_new(path("a/one")).map(drop)),
    );
    let mut file = (OpenOptions::new().read(true).append(true).mode(0o640)).open(path("a/one"));
    let file = file.as_mut().unwrap();
    tell("append", unit(file.write_all(b" and more")));
    let slices = [
        IoSlice::new(b", "),
        IoSlice::new(b"in "),
        IoSlice::new(b"parts"),
    ];
    tell(
        "writev",
        number(file.write_vectored(&slices).map(|n| n as u64)),
    );
    tell("rewind", unit(file.rewind()));
    let (mut left, mut right) = ([0; 3], [0; 40]);
    let slices = &mut [
        io::IoSliceMut::new(&mut left),
        io::IoSliceMut::new(&mut right),
    ];
    tell(
        "readv",
        number(file.read_vectored(slices).map(|n| n as u64)),
    );
    tell(
        "readv at the end",
        number(file.read_vectored(slices).map(|n| n as u64)),
    );
    tell(
        "read at the end",
        number(file.read(&mut [0]).map(|n| n as u64)),
    );
    tell("position", number(file.stream_position()));
    let mut got = [0; 8];
    tell("pread", number(file.read_at(&mut got, 4).map(|n| n as u64)));
    tell("pread", Ok(String::from_utf8_lossy(&got).into_owned()));
    tell(
        "pread beyond",
        number(file.read_at(&mut got, 1000).map(|n| n as u64)),
    );
    tell(
        "pread before",
        number(file.read_at(&mut got, u64::MAX).map(|n| n as u64)),
    );
    tell("pwrite", number(file.write_at(b"X", 0).map(|n| n as u64)));
    tell("fsync", unit(file.sync_all()));
    tell("fdatasync", unit(file.sync_data()));
    tell("ftruncate", unit(file.set_len(5)));
    tell(
        "chmod",
        unit(file.set_permissions(fs::Permissions::from_mode(0o600))),
    );
    tell(
        "fstat",
        file.metadata()
            .map(|it| format!("{} {:o}", it.len(), it.mode())),
    );
    let to_read = File::open(path("a/one")).unwrap();
    tell(
        "write to what is read",
        number((&to_read).write(b"x").map(|n| n as u64)),
    );
    tell(
        "pwrite to what is read",
        number(to_read.write_at(b"x", 0).map(|n| n as u64)),
    );
    tell("ftruncate what is read", unit(to_read.set_len(0)));
    tell("copy", number(fs::copy(path("a/large"), path("a/copy"))));
    tell("rename", unit(fs::rename(path("a/copy"), path("b/moved"))));
    tell(
        "rename none",
        unit(fs::rename(path("a/copy"), path("b/moved"))),
    );
    tell(
        "link",
        unit(fs::hard_link(path("b/moved"), path("b/linked"))),
    );
    tell(
        "symlink",
        unit(std::os::unix::fs::symlink("moved", path("b/soft"))),
    );
    tell(
        "readlink",
        fs::read_link(path("b/soft")).map(|it| format!("{it:?}")),
    );
    tell(
        "readlink of a file",
        fs::read_link(path("b/moved")).map(|it| format!("{it:?}")),
    );
    tell(
        "stat",
        fs::metadata(path("b/soft")).map(|it| format!("{} {}", it.len(), it.nlink())),
    );
    tell(
        "lstat",
        fs::symlink_metadata(path("b/soft")).map(|it| it.len().to_string()),
    );
    tell(
        "exists",
        fs::exists(path("b/none")).map(|it| it.to_string()),
    );
    let names = fs::read_dir(path("b")).and_then(|entries| {
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        let mut names = names?;
        names.sort();
        Ok(format!("{names:?}"))
    });
    tell("readdir", names);
    tell(
        "realpath",
        path("b/../b/soft")
            .canonicalize()
            .map(|it| format!("{:?}", it.file_name())),
    );
    tell("rmdir", unit(fs::remove_dir(path("b"))));
    tell("unlink a folder", unit(fs::remove_file(path("b"))));
    tell("unlink", unit(fs::remove_file(path("b/linked"))));
    tell("rm -r", unit(fs::remove_dir_all(path("b"))));
    tell("rm -r none", unit(fs::remove_dir_all(path("b"))));
    told
}

#[test]
fn what_std_does_with_files_is_the_same_inside_and_outside() {
    let run = |name: &str, on: fn(Box<dyn FnOnce() -> String + Send>) -> String| {
        let folder = Folder::new(name);
        let path = folder.0.clone();
        on(Box::new(move || what_std_does(&path)))
    };
    let on_thread = run("thread", |test| test());
    assert!(
        on_thread.contains("mkdir again: Err(Some(17))"),
        "{on_thread}"
    );
    assert!(
        on_thread.contains("read large: Ok(\"true\")"),
        "{on_thread}"
    );
    assert_eq!(run("outside", on_one_worker), on_thread);
    assert_eq!(run("inside", offloading), on_thread);
    assert_eq!(run("thread-inside", files::offload), on_thread);
}

/// What the kernel has not in memory, and what is longer than is copied at once.
#[test]
fn a_read_brings_all_that_there_is_from_wherever_it_is() {
    let folder = Folder::new("long");
    let path = folder.path("long");
    let large: Vec<u8> = (0..1_000_000_u32)
        .map(|n| (n >> 8) as u8 ^ n as u8)
        .collect();
    fs::write(&path, &large).unwrap();
    offloading(move || {
        let mut file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        for length in [1, 4096, 100_000, 200_000, 2_000_000] {
            for at in [0, 4095, 500_000, 999_990, 1_000_000, 1_000_001] {
                let expected = &large[large.len().min(at)..large.len().min(at + length)];
                let mut got = vec![0; length];
                // SAFETY: takes numbers.
                unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
                let count = file.read_at(&mut got, at as u64).unwrap();
                assert!(got[..count] == *expected, "{length} at {at}: {count}");
                // SAFETY: takes numbers.
                unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
                file.seek(io::SeekFrom::Start(at as u64)).unwrap();
                let count = file.read(&mut got).unwrap();
                assert!(got[..count] == *expected, "{length} from {at} on: {count}");
                let position = file.stream_position().unwrap();
                assert_eq!(position, (at + count) as u64);
            }
        }
    });
}

/// C functions that std does not call, and what they say of errors.
#[test]
fn errors_are_told_as_by_the_c_library() {
    let folder = Folder::new("errors");
    let none = c_path(&folder.path("none"));
    let what = move || {
        let mut told = Vec::new();
        let mut tell = |result: isize| {
            told.push((
                result,
                (result < 0).then(|| io::Error::last_os_error().raw_os_error()),
            ));
        };
        // SAFETY: paths, and room for what is asked for.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            tell(libc::access(none.as_ptr(), libc::F_OK) as isize);
            tell(libc::access(c"/".as_ptr(), libc::F_OK) as isize);
            tell(libc::stat(none.as_ptr(), &raw mut stat) as isize);
            tell(libc::stat(c"/".as_ptr(), &raw mut stat) as isize);
            tell((stat.st_mode & libc::S_IFMT) as isize);
            let here = libc::AT_FDCWD;
            tell(libc::fstatat(here, c"".as_ptr(), &raw mut stat, libc::AT_EMPTY_PATH) as isize);
            tell(libc::fstatat(here, c"".as_ptr(), &raw mut stat, 0) as isize);
            tell(libc::open(none.as_ptr(), libc::O_RDONLY) as isize);
            tell(libc::open(std::ptr::null(), libc::O_RDONLY) as isize);
            tell(libc::openat(-1, c"x".as_ptr(), libc::O_RDONLY) as isize);
            tell(libc::creat(c"/proc/none".as_ptr(), 0o600) as isize);
            tell(libc::truncate(none.as_ptr(), 0) as isize);
            tell(libc::utimensat(here, std::ptr::null(), std::ptr::null(), 0) as isize);
            tell(libc::fsync(-1) as isize);
            tell(libc::pread(-1, std::ptr::null_mut(), 0, 0));
            tell(libc::pread(0, std::ptr::null_mut(), 1, -1));
            tell(libc::pwrite(-1, std::ptr::null(), 1, 0));
            tell(libc::flock(-1, libc::LOCK_EX) as isize);
            tell(libc::fcntl(-1, libc::F_SETLKW, std::ptr::null::<libc::flock>()) as isize);
            tell(libc::fcntl(-1, libc::F_GETFD) as isize);
            let mut pipe = [0; 2];
            tell(libc::pipe(pipe.as_mut_ptr()) as isize);
            let (group, own) = (libc::getpgrp(), libc::getpid());
            tell(libc::fcntl(pipe[0], libc::F_SETOWN, -group) as isize);
            tell(isize::from(libc::fcntl(pipe[0], libc::F_GETOWN) == -group));
            tell(libc::fcntl(pipe[0], libc::F_SETOWN, own) as isize);
            tell(isize::from(libc::fcntl(pipe[0], libc::F_GETOWN) == own));
            tell(libc::pread(pipe[0], (&raw mut stat).cast(), 1, 0));
            tell(libc::fsync(pipe[0]) as isize);
            pipe.iter().for_each(|end| _ = libc::close(*end));
        }
        told
    };
    let on_thread = what.clone()();
    assert!(
        on_thread.contains(&(-1, Some(Some(libc::ENOENT)))),
        "{on_thread:?}"
    );
    assert_eq!(on_one_worker(what.clone()), on_thread);
    assert_eq!(offloading(what), on_thread);
}
