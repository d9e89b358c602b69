//! Files of a host: what calls on them do, and what is left after a loss of power.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use maniple::{
    fs::{self, File, OpenOptions},
    sim, time,
};

const MILLI: Duration = Duration::from_millis(1);

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn whole_files_are_written_read_renamed_linked_and_removed() {
    sim::check(sim::seeds(20), |_| {
        assert_eq!(kind(fs::write("/a/text", "none")), ErrorKind::NotFound);
        fs::create_dir_all("/a/b").unwrap();
        fs::write("/a/text", "some").unwrap();
        assert_eq!(fs::read_to_string("a/b/../text").unwrap(), "some");
        assert_eq!(fs::read_limited("/a/text", 4).unwrap(), b"some");
        assert_eq!(
            kind(fs::read_limited("/a/text", 3)),
            ErrorKind::FileTooLarge
        );
        fs::write("/a/text", *b"\xff").unwrap();
        assert_eq!(kind(fs::read_to_string("/a/text")), ErrorKind::InvalidData);
        fs::hard_link("/a/text", "/a/b/same").unwrap();
        fs::write("/a/b/same", "both").unwrap();
        assert_eq!(fs::read("/a/text").unwrap(), b"both");
        assert_eq!(fs::metadata("/a/text").unwrap().nlink(), 2);
        assert_eq!(
            kind(fs::hard_link("/a/text", "/a/b/same")),
            ErrorKind::AlreadyExists
        );
        fs::write("/a/other", "other").unwrap();
        fs::rename("/a/other", "/a/text").unwrap();
        assert_eq!(fs::read("/a/text").unwrap(), b"other");
        assert_eq!(fs::read("/a/b/same").unwrap(), b"both");
        fs::remove_file("/a/text").unwrap();
        assert_eq!(kind(fs::remove_file("/a/text")), ErrorKind::NotFound);
    });
}

#[test]
fn directories_are_made_listed_renamed_and_removed_when_nothing_is_in_them() {
    sim::check(sim::seeds(20), |_| {
        fs::create_dir("/d").unwrap();
        assert_eq!(kind(fs::create_dir("/d")), ErrorKind::AlreadyExists);
        assert_eq!(kind(fs::create_dir("/e/f")), ErrorKind::NotFound);
        fs::create_dir("/d/sub").unwrap();
        fs::write("/d/file", "1").unwrap();
        let mut names = Vec::new();
        for entry in fs::read_dir("/d").unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_eq!(entry.path(), std::path::Path::new("/d").join(&name));
            assert_eq!(entry.file_type().unwrap().is_dir(), name == "sub");
            assert_eq!(entry.metadata().unwrap().is_file(), name == "file");
            names.push(name);
        }
        sim::sometimes!(names == ["sub", "file"]);
        names.sort();
        assert_eq!(names, ["file", "sub"]);
        assert_eq!(kind(fs::remove_dir("/d")), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(fs::remove_dir("/d/file")), ErrorKind::NotADirectory);
        assert_eq!(kind(fs::remove_file("/d/sub")), ErrorKind::IsADirectory);
        assert_eq!(kind(fs::rename("/d", "/d/sub/d")), ErrorKind::InvalidInput);
        assert_eq!(
            kind(fs::rename("/d/file", "/d/sub")),
            ErrorKind::IsADirectory
        );
        fs::rename("/d", "/e").unwrap();
        assert_eq!(fs::read("/e/file").unwrap(), b"1");
        fs::remove_file("/e/file").unwrap();
        fs::remove_dir("/e/sub").unwrap();
        fs::remove_dir("/e").unwrap();
        assert_eq!(kind(fs::read_dir("/e")), ErrorKind::NotFound);
        assert_eq!(kind(fs::read_dir("/tmp/file/x")), ErrorKind::NotFound);
        assert!(fs::metadata(std::env::temp_dir()).unwrap().is_dir());
    });
}

#[test]
fn a_file_is_read_written_and_sought_like_stds() {
    sim::check(sim::seeds(20), |_| {
        let mut file = File::create("/numbers").unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(kind(file.read(&mut [0; 4])), kind_of_wrong_use());
        let mut file = (OpenOptions::new().read(true).write(true))
            .open("/numbers")
            .unwrap();
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "789");
        file.seek(SeekFrom::Start(2)).unwrap();
        file.write_all(b"ab").unwrap();
        assert_eq!(file.stream_position().unwrap(), 4);
        file.write_all_at(b"z", 12).unwrap();
        let mut all = [0; 13];
        file.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all, b"01ab456789\0\0z");
        assert_eq!(
            kind(file.read_exact_at(&mut all, 1)),
            ErrorKind::UnexpectedEof
        );
        file.set_len(3).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3);
        let mut log = OpenOptions::new();
        let mut log = log.append(true).open("/numbers").unwrap();
        fs::write("/numbers", "new\n").unwrap();
        log.write_all(b"more\n").unwrap();
        let lines = BufReader::new(File::open("/numbers").unwrap()).lines();
        let lines: Vec<_> = lines.map(Result::unwrap).collect();
        assert_eq!(lines, ["new", "more"]);
        fs::remove_file("/numbers").unwrap();
        // What is open stays.
        assert_eq!(log.metadata().unwrap().len(), 9);
        file.close().unwrap();
    });
}

/// What reading a file says that is open for writing alone.
fn kind_of_wrong_use() -> ErrorKind {
    io::Error::from_raw_os_error(libc::EBADF).kind()
}

#[test]
fn options_that_contradict_one_another_are_refused_as_stds_are() {
    let outcome = |bits: u32, simulated: bool, path: &std::path::Path| {
        let bit = |n: u32| bits & (1 << n) != 0;
        let kind = |error: io::Error| error.kind();
        match simulated {
            true => (OpenOptions::new().read(bit(0)).write(bit(1)).append(bit(2)))
                .truncate(bit(3))
                .create(bit(4))
                .create_new(bit(5))
                .open(path)
                .map(drop)
                .map_err(kind),
            false => (std::fs::OpenOptions::new()
                .read(bit(0))
                .write(bit(1))
                .append(bit(2)))
            .truncate(bit(3))
            .create(bit(4))
            .create_new(bit(5))
            .open(path)
            .map(drop)
            .map_err(kind),
        }
    };
    let folder = std::env::temp_dir().join(format!("maniple-options-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut expected = Vec::new();
    for bits in 0..64 {
        let path = folder.join("there");
        std::fs::write(&path, "some").unwrap();
        let there = outcome(bits, false, &path);
        expected.push((
            there,
            std::fs::read(&path).unwrap(),
            outcome(bits, false, &folder.join(format!("new-{bits}"))),
        ));
    }
    std::fs::remove_dir_all(&folder).unwrap();
    sim::check(0..1, move |_| {
        for (bits, expected) in expected.iter().enumerate() {
            let bits = bits as u32;
            fs::write("/there", "some").unwrap();
            let there = outcome(bits, true, "/there".as_ref());
            let found = (
                there,
                fs::read("/there").unwrap(),
                outcome(bits, true, format!("/new-{bits}").as_ref()),
            );
            assert_eq!(&found, expected, "{bits:#b}");
        }
    });
}

#[test]
fn each_host_has_files_of_its_own_and_its_own_clock_dates_them() {
    sim::check(sim::seeds(20), |world| {
        let host = world.host("other", || {
            assert_eq!(kind(fs::read("/etc/name")), ErrorKind::NotFound);
            fs::write("/tmp/mine", "other's").unwrap();
            let modified = fs::metadata("/tmp/mine").unwrap().modified().unwrap();
            assert!(modified > time::system_now() - Duration::from_secs(1));
            assert!(modified < SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        });
        host.set_clock(-1.8e9);
        fs::create_dir("/etc").unwrap();
        fs::write("/etc/name", "scenario").unwrap();
        world.eventually(Duration::from_secs(1), || {
            host.file("/tmp/mine").is_ok_and(|mine| mine == b"other's")
        });
        assert_eq!(kind(fs::read("/tmp/mine")), ErrorKind::NotFound);
        host.place_file("/x/y/z", "placed").unwrap();
        assert_eq!(host.file("/x/y/z").unwrap(), b"placed");
        host.crash();
        assert_eq!(host.file("/x/y/z").unwrap(), b"placed");
    });
}

#[test]
fn calls_take_time_are_told_in_the_trace_and_are_the_same_for_the_same_seed() {
    let calls = |world: &sim::World| {
        let both: Vec<_> = ["/a", "/b"]
            .map(|path| {
                maniple::spawn(move || {
                    let mut file = File::create(path).unwrap();
                    file.write_all(b"text").unwrap();
                    file.sync_all().unwrap();
                })
            })
            .into();
        both.into_iter().for_each(|each| each.join().unwrap());
        assert!(world.now() > Duration::ZERO);
    };
    let (ended, record) = sim::record(3, calls);
    let text = record.text();
    for told in ["open /a", "write /a", "sync /b"] {
        assert!(text.contains(told), "{text}");
    }
    assert_eq!(ended.unwrap().trace(), sim::run(3, calls).unwrap().trace());
    for seed in 0..200 {
        let (one, other) = (
            sim::run(seed, calls).unwrap(),
            sim::run(seed, calls).unwrap(),
        );
        assert_eq!(one.trace(), other.trace(), "seed {seed}");
    }
}

#[test]
fn a_file_that_was_open_in_a_crash_is_no_more() {
    sim::check(sim::seeds(50), |world| {
        let kept = Arc::new(maniple::sync::Mutex::new(None));
        let theirs = kept.clone();
        let host = world.host("host", move || {
            let file = File::create("/tmp/file").unwrap();
            theirs.lock().get_or_insert(file);
        });
        maniple::sleep(10 * MILLI);
        host.crash();
        let file = kept.lock().take().unwrap();
        assert!((&file).write(b"late").is_err());
        host.restart();
        assert!((&file).write(b"late").is_err());
        assert!(file.metadata().is_err());
    });
}

#[test]
fn a_full_disk_says_so_and_has_room_again_once_something_is_removed() {
    sim::check(sim::seeds(50), |world| {
        let host = world.host("host", || {
            fs::write("/one", vec![1; 600]).unwrap();
            assert_eq!(
                kind(fs::write("/two", vec![2; 600])),
                ErrorKind::StorageFull
            );
            assert_eq!(fs::metadata("/two").unwrap().len(), 400);
            let file = OpenOptions::new().write(true).open("/two").unwrap();
            assert_eq!(kind(file.set_len(u64::MAX)), ErrorKind::StorageFull);
            assert_eq!(kind(file.write_at(b"x", u64::MAX)), ErrorKind::StorageFull);
            fs::remove_file("/one").unwrap();
            fs::write("/two", vec![2; 1000]).unwrap();
            fs::write("/done", "").unwrap();
        });
        host.set_disk_size(1000);
        world.eventually(Duration::from_secs(1), || host.file("/done").is_ok());
    });
}

#[test]
fn a_disk_that_fails_and_a_disk_that_is_full_come_by_the_seed() {
    sim::check(sim::seeds(100), |world| {
        fs::write("/file", "some").unwrap();
        File::open("/file").unwrap().sync_all().unwrap();
        let shortage = world.shortage("scenario").disk(0.3).space(0.3);
        let mut file = loop {
            match OpenOptions::new().append(true).open("/file") {
                Ok(file) => break file,
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO)),
            }
        };
        let written = file.write(b"0123456789");
        sim::sometimes!(
            written
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::StorageFull)
        );
        sim::sometimes!(written.as_ref().is_ok_and(|&count| count == 5));
        sim::sometimes!(
            written
                .as_ref()
                .is_err_and(|error| error.raw_os_error() == Some(libc::EIO))
        );
        sim::sometimes!(file.sync_all().is_err());
        drop(shortage);
        let count = written.unwrap_or(0);
        let all = fs::read("/file").unwrap();
        assert!(all.len() == 4 + count || all.len() == 4);
        assert_eq!(file.write(b"more").unwrap(), 4);
    });
}

#[test]
fn a_call_in_a_cancelled_scope_does_not_touch_the_file() {
    sim::check(sim::seeds(50), |world| {
        fs::write("/file", "old").unwrap();
        let token = maniple::cancel::CancelToken::new();
        let theirs = token.clone();
        let writing = maniple::spawn(move || {
            theirs.run(|| OpenOptions::new().append(true).open("/file")?.write(b"new"))
        });
        maniple::sleep(Duration::from_micros(world.draw(0..600)));
        token.cancel();
        let written = writing.join().unwrap().unwrap();
        sim::sometimes!(written.is_err());
        sim::sometimes!(written.is_ok());
        let expected: &[u8] = if written.is_ok() { b"oldnew" } else { b"old" };
        assert_eq!(fs::read("/file").unwrap(), expected);
    });
}

#[test]
fn a_name_is_there_after_a_crash_once_its_directory_was_synced() {
    sim::check(sim::seeds(300), |world| {
        let host = world.host("host", || {
            if fs::metadata("/d").is_ok() {
                return;
            }
            fs::create_dir("/d").unwrap();
            File::open("/").unwrap().sync_all().unwrap();
            for name in ["/d/synced", "/d/renamed", "/d/forgotten"] {
                let mut file = File::create(name).unwrap();
                file.write_all(name.as_bytes()).unwrap();
                file.sync_all().unwrap();
                if name == "/d/renamed" {
                    fs::rename(name, "/d/new").unwrap();
                    File::open("/d").unwrap().sync_data().unwrap();
                }
            }
            fs::rename("/d/synced", "/d/moved").unwrap();
            fs::write("/tmp/done", "").unwrap();
        });
        world.eventually(Duration::from_secs(1), || host.file("/tmp/done").is_ok());
        host.crash();
        host.restart();
        assert_eq!(host.file("/d/new").unwrap(), b"/d/renamed");
        assert!(host.file("/d/renamed").is_err());
        let (old, new) = (host.file("/d/synced"), host.file("/d/moved"));
        // A rename is one change.
        assert!(old.is_ok() != new.is_ok());
        assert_eq!(old.or(new).unwrap(), b"/d/synced");
        let forgotten = host.file("/d/forgotten");
        sim::sometimes!(forgotten.is_err());
        sim::sometimes!(forgotten.is_ok_and(|bytes| bytes == b"/d/forgotten"));
    });
}

/// What somebody may have forgotten who wrote a log that survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Author {
    Careful,
    ForgetsToSync,
    ForgetsTheDirectory,
    ForgetsTheSum,
    SyncsAgainAfterAnError,
}

/// Numbers from one on, each in a record of its own.
struct Log {
    file: File,
    author: Author,
    last: u64,
}

/// More than a sector.
const RECORD: usize = 700;

fn record(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(RECORD - 8, number as u8);
    bytes.extend(sum(&bytes).to_le_bytes());
    bytes
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

impl Log {
    /// Opens it, and reads what is there.
    fn open(author: Author) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open("/log")?;
        if author != Author::ForgetsTheDirectory {
            File::open("/")?.sync_all()?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut last = 0;
        for record in bytes.chunks_exact(RECORD) {
            let (body, end) = record.split_at(RECORD - 8);
            if author != Author::ForgetsTheSum && end != sum(body).to_le_bytes() {
                break;
            }
            let number = u64::from_le_bytes(body[..8].try_into().unwrap());
            assert_eq!(number, last + 1, "a record that nobody wrote");
            last = number;
        }
        file.set_len(last * RECORD as u64)?;
        file.sync_all()?;
        Ok(Self { file, author, last })
    }

    /// Returns once it is on the disk.
    fn append(&mut self) -> io::Result<u64> {
        let number = self.last + 1;
        self.file.write_all(&record(number))?;
        match self.author {
            Author::ForgetsToSync => {}
            Author::SyncsAgainAfterAnError => {
                while self.file.sync_data().is_err() {
                    maniple::cancel::check()?;
                }
            }
            _ => self.file.sync_data()?,
        }
        self.last = number;
        Ok(number)
    }
}

/// Whether nothing is lost that the log has said to have.
fn log_survives(author: Author, errors: f64) -> impl Fn(&sim::World) + Send + Sync + 'static {
    move |world| {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let checked = Arc::new(AtomicBool::new(false));
        let (theirs, is_checked) = (acknowledged.clone(), checked.clone());
        let host = world.host("store", move || {
            let mut log = match Log::open(author) {
                Ok(log) => log,
                // A disk that fails now: somebody starts it anew.
                Err(_) => return,
            };
            let said = theirs.load(Ordering::Relaxed);
            assert!(
                log.last >= said,
                "{said} were acknowledged, {} are there",
                log.last
            );
            is_checked.store(true, Ordering::Relaxed);
            // After an error nobody knows what is on the disk: somebody starts it anew.
            while let Ok(number) = log.append() {
                theirs.store(number, Ordering::Relaxed);
            }
        });
        for _ in 0..3 {
            let shortage = world.shortage("store").disk(errors);
            maniple::sleep(Duration::from_micros(world.draw(0..60_000)));
            drop(shortage);
            host.crash();
            checked.store(false, Ordering::Relaxed);
            host.restart();
            world.eventually(Duration::from_secs(1), || checked.load(Ordering::Relaxed));
        }
    }
}

/// How many seeds it takes to find out.
fn seeds_to_find(author: Author, errors: f64) -> u64 {
    let found = (0..1000).find(|&seed| sim::run(seed, log_survives(author, errors)).is_err());
    found.unwrap_or_else(|| panic!("an author who {author:?} was not found out"))
}

#[test]
fn a_log_whose_author_forgot_something_is_found_out_within_a_thousand_seeds() {
    for author in [
        Author::ForgetsToSync,
        Author::ForgetsTheDirectory,
        Author::ForgetsTheSum,
    ] {
        let seed = seeds_to_find(author, 0.0);
        println!("{author:?}: seed {seed}");
    }
    let seed = seeds_to_find(Author::SyncsAgainAfterAnError, 0.1);
    println!("{:?}: seed {seed}", Author::SyncsAgainAfterAnError);
}

#[test]
fn a_log_that_is_right_survives_a_thousand_seeds() {
    sim::check(0..1000, log_survives(Author::Careful, 0.0));
}

#[test]
fn a_log_that_begins_anew_after_an_error_survives_a_disk_that_fails() {
    sim::check(0..1000, log_survives(Author::Careful, 0.1));
}
