//! Files of a directory, as clients get them.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{FileExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use maniple_server::{Client, Files, Request, Response, Router, Server};

use super::{Served, transports};

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("maniple-served-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file that was last changed long ago.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        set_modified(&path, 784_111_777);
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn set_modified(path: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    file.set_modified(at).unwrap();
}

const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn get(router: &Router, target: &str, fields: &[(&str, &str)]) -> Response {
    ask(router, "GET", target, fields)
}

fn ask(router: &Router, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
    let request = Request::for_test(method, target);
    let mut request = fields.iter().fold(request, |request, (name, value)| {
        request.with_header(name, value)
    });
    router.answer(&mut request)
}

#[test]
fn a_file_goes_out_whole_with_type_tag_and_date() {
    let dir = Dir::new();
    dir.write("site/page.html", "<p>hello");
    let served = Served::of(
        Router::new().files("/", Files::new(dir.path("site"))),
        |b| b,
    );
    let answer = served.say("GET /page.html HTTP/1.1\r\nhost: a\r\n\r\n");
    for part in [
        "HTTP/1.1 200 OK\r\n",
        "content-type: text/html; charset=utf-8\r\n",
        "accept-ranges: bytes\r\n",
        "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "content-length: 8\r\n",
        "\r\n\r\n<p>hello",
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    let head = served.say("HEAD /page.html HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(head.contains("content-length: 8\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let old = served.say("GET /page.html HTTP/1.0\r\nrange: bytes=3-\r\n\r\n");
    assert!(
        old.contains(" 206 ") && old.ends_with("\r\n\r\nhello"),
        "{old}"
    );
    let put = served.say("PUT /page.html HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert!(put.contains(" 405 "), "{put}");
}

#[test]
fn a_large_file_is_streamed_byte_for_byte() {
    let dir = Dir::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    dir.write("large.bin", &bytes);
    let served = Served::of(Router::new().files("/f", Files::new(&dir.0)), |b| b);
    let mut stream = served.connect();
    stream
        .write_all(b"GET /f/large.bin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&bytes));
    let part = served.say("GET /f/large.bin HTTP/1.1\r\nhost: a\r\nrange: bytes=502-504\r\n\r\n");
    assert!(
        part.contains("content-range: bytes 502-504/3000000\r\n"),
        "{part}"
    );
    assert!(part.ends_with("\r\n\r\n\0\u{1}\u{2}"), "{part:?}");
}

#[test]
fn several_ranges_come_as_parts_that_add_up_to_the_length_told() {
    let dir = Dir::new();
    dir.write("small.txt", "0123456789");
    dir.write("large.txt", "0123456789".repeat(200_000));
    let router = Router::new().files("/", Files::new(&dir.0));
    for (name, length) in [("/small.txt", 10), ("/large.txt", 2_000_000)] {
        let answer = get(&router, name, &[("range", "bytes=1-2, -3")]);
        assert_eq!(answer.status(), 206);
        let media = answer.header("content-type").unwrap().to_owned();
        let boundary = media
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let body = answer.into_text().unwrap();
        let part = |range: &str, text: &str| {
            let media = "content-type: text/plain; charset=utf-8";
            format!(
                "--{boundary}\r\n{media}\r\ncontent-range: bytes {range}/{length}\r\n\r\n{text}\r\n"
            )
        };
        let last = format!("{}-{}", length - 3, length - 1);
        let expected = part("1-2", "12") + &part(&last, "789") + &format!("--{boundary}--\r\n");
        assert_eq!(body, expected);
    }
    let served = Served::of(router, |b| b);
    let range = "range: bytes=1-2,-3";
    let asked = format!("GET /large.txt HTTP/1.1\r\nhost: a\r\n{range}\r\n\r\n");
    // A second answer stands where the first one says that it ends.
    let answers = served.say(asked.repeat(2));
    assert_eq!(super::statuses(&answers), [206, 206]);
    assert!(answers.ends_with("--\r\n"));
}

#[test]
fn a_range_that_is_not_there_is_told_the_length() {
    let dir = Dir::new();
    dir.write("a", "0123456789");
    dir.write("empty", "");
    let router = Router::new().files("/", Files::new(&dir.0));
    let answer = get(&router, "/a", &[("range", "bytes=10-")]);
    assert_eq!(answer.status(), 416);
    assert_eq!(answer.header("content-range"), Some("bytes */10"));
    for (method, target, range) in [
        ("HEAD", "/a", "bytes=0-1"),
        ("GET", "/a", "lines=0-1"),
        ("GET", "/a", "bytes=0-,0-,0-"),
        ("GET", "/empty", "bytes=0-1"),
    ] {
        let answer = ask(&router, method, target, &[("range", range)]);
        assert_eq!(answer.status(), 200, "{method} {target} {range}");
        assert_eq!(answer.header("content-range"), None);
    }
}

#[test]
fn conditions_are_held_to_the_files_tag_and_date() {
    let dir = Dir::new();
    dir.write("a.txt", "0123456789");
    // The tag is sure once the file's last change is two seconds old.
    let router = Router::new().files("/", Files::new(&dir.0).no_cache());
    let begun = maniple::time::now();
    let tag = loop {
        let tag = get(&router, "/a.txt", &[])
            .header("etag")
            .unwrap()
            .to_owned();
        if tag.starts_with('"') {
            break tag;
        }
        assert!(tag.starts_with("W/\""), "{tag}");
        assert!(maniple::time::now() - begun < Duration::from_secs(60));
        crate::driven::thread::yield_now();
    };
    let weak = format!("W/{tag}");
    for (fields, status) in [
        (&[("if-none-match", &*tag)][..], 304),
        (&[("if-none-match", &weak)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"x\"")], 200),
        (&[("if-modified-since", THEN)], 304),
        (
            &[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")],
            200,
        ),
        (
            &[("if-none-match", "\"x\""), ("if-modified-since", THEN)],
            200,
        ),
        (&[("if-match", &tag)], 200),
        (&[("if-match", &weak)], 412),
        (&[("if-unmodified-since", THEN)], 200),
        (
            &[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")],
            412,
        ),
        (&[("range", "bytes=0-1"), ("if-range", &tag)], 206),
        (&[("range", "bytes=0-1"), ("if-range", THEN)], 206),
        (&[("range", "bytes=0-1"), ("if-range", &weak)], 200),
        (&[("range", "bytes=0-1"), ("if-range", "\"x\"")], 200),
        (&[("range", "bytes=99-"), ("if-range", "\"x\"")], 200),
        (&[("range", "bytes=0-1"), ("if-none-match", &tag)], 304),
    ] {
        let answer = get(&router, "/a.txt", fields);
        assert_eq!(answer.status(), status, "{fields:?}");
        if status == 304 {
            assert_eq!(answer.header("etag"), Some(&*tag));
            assert_eq!(answer.header("content-type"), None);
            assert_eq!(answer.into_text().unwrap(), "");
        }
    }
}

#[test]
fn a_time_that_tells_nothing_is_not_told() {
    let dir = Dir::new();
    for (name, seconds) in [("zero", 0), ("one", 1), ("later", 32_503_680_000)] {
        dir.write(name, "x");
        set_modified(&dir.path(name), seconds);
        let router = Router::new().files("/", Files::new(&dir.0));
        let answer = get(&router, &format!("/{name}"), &[("if-modified-since", THEN)]);
        assert_eq!(answer.status(), 200, "{name}");
        assert_eq!(answer.header("last-modified"), None, "{name}");
        assert!(answer.header("etag").is_some(), "{name}");
    }
}

#[test]
fn nothing_outside_of_the_directory_is_sent() {
    let dir = Dir::new();
    dir.write("secret.txt", "secret");
    dir.write("site/in.txt", "inside");
    dir.write("site/sub/in.txt", "inside");
    dir.write("site/.env", "secret");
    dir.write("site/.git/config", "secret");
    dir.write("site/.well-known/x", "inside");
    symlink("../secret.txt", dir.path("site/up")).unwrap();
    symlink(dir.path("secret.txt"), dir.path("site/far")).unwrap();
    symlink("..", dir.path("site/out")).unwrap();
    symlink("/proc/self/cwd", dir.path("site/magic")).unwrap();
    symlink("loop", dir.path("site/loop")).unwrap();
    symlink("../in.txt", dir.path("site/sub/near")).unwrap();
    let router = Router::new().files("/s", Files::new(dir.path("site")));
    for target in [
        "/s/../secret.txt",
        "/s/%2e%2e/secret.txt",
        "/s/%2e%2e%2fsecret.txt",
        "/s/..%2fsecret.txt",
        "/s/..%5csecret.txt",
        "/s/sub/../in.txt",
        "/s/sub/%2E%2E/in.txt",
        "/s//etc/passwd",
        "/s/%2fetc%2fpasswd",
        "/s/in.txt%00",
        "/s/in.txt%00.html",
        "/s/up",
        "/s/far",
        "/s/out/secret.txt",
        "/s/magic/Cargo.toml",
        "/s/loop",
        "/s/.env",
        "/s/%2eenv",
        "/s/.git/config",
        "/s/in.txt/",
        "/s/in.txt/x",
        "/s//",
        "/s/sub//in.txt",
    ] {
        let answer = get(&router, target, &[]);
        assert_eq!(answer.status(), 404, "{target}");
        assert!(!answer.into_text().unwrap().contains("secret"), "{target}");
    }
    let long = format!("/s/{}", "x".repeat(5000));
    assert_eq!(get(&router, &long, &[]).status(), 404);
    for target in [
        "/s/in.txt",
        "/s/sub/in.txt",
        "/s/sub/near",
        "/s/.well-known/x",
        "/s/i%6e.txt",
    ] {
        let answer = get(&router, target, &[]);
        let told = answer.status();
        assert_eq!(answer.into_text().unwrap(), "inside", "{target}: {told}");
    }
}

#[test]
fn what_is_no_file_is_refused_without_a_wait() {
    let dir = Dir::new();
    let made = std::process::Command::new("mkfifo")
        .arg(dir.path("fifo"))
        .status();
    assert!(made.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path("socket")).unwrap();
    let served = Served::of(Router::new().files("/", Files::new(&dir.0)), |b| b);
    for name in ["fifo", "socket"] {
        let answer = served.say(format!("GET /{name} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(super::statuses(&answer), [404], "{name}");
    }
    let zero = Router::new().get("/", Files::file("/dev/zero"));
    assert_eq!(get(&zero, "/", &[]).status(), 404);
}

#[test]
fn a_directory_is_its_index_and_gets_its_slash() {
    let dir = Dir::new();
    dir.write("index.html", "root");
    dir.write("a b/index.html", "sub");
    dir.write("bare/x", "x");
    let router = Router::new().files("/s", Files::new(&dir.0));
    for (target, expected) in [
        ("/s/", "root"),
        ("/s/a%20b/", "sub"),
        ("/s/index.html", "root"),
    ] {
        let answer = get(&router, target, &[]);
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(answer.into_text().unwrap(), expected, "{target}");
    }
    for (target, location) in [
        ("/s", "./s/"),
        ("/s?a=b", "./s/?a=b"),
        ("/s/a%20b", "./a%20b/"),
        ("/s/bare", "./bare/"),
    ] {
        let answer = get(&router, target, &[]);
        assert_eq!(answer.status(), 301, "{target}");
        assert_eq!(answer.header("location"), Some(location));
    }
    assert_eq!(get(&router, "/s/bare/", &[]).status(), 404);
    let router = Router::new().files("/s", Files::new(&dir.0).no_index());
    assert_eq!(get(&router, "/s/", &[]).status(), 404);
    let router = Router::new().fallback(Files::new(&dir.0));
    assert_eq!(get(&router, "/", &[]).into_text().unwrap(), "root");
    assert_eq!(get(&router, "/bare/x", &[]).into_text().unwrap(), "x");
    assert_eq!(get(&router, "//host.example/%2e%2e", &[]).status(), 404);
}

#[test]
fn a_compressed_sibling_goes_to_who_takes_it() {
    let dir = Dir::new();
    dir.write("app.js", "plain");
    dir.write("app.js.gz", "gzipped");
    dir.write("app.js.br", "brotli");
    dir.write("alone.txt", "plain");
    dir.write("orphan.txt.gz", "gzipped");
    let router = Router::new().files("/", Files::new(&dir.0).precompressed(true));
    for (accepted, coding, body) in [
        ("", None, "plain"),
        ("gzip", Some("gzip"), "gzipped"),
        ("gzip, br", Some("br"), "brotli"),
        ("gzip, br;q=0.5", Some("gzip"), "gzipped"),
        ("zstd, gzip;q=0.1", Some("gzip"), "gzipped"),
        ("gzip;q=0", None, "plain"),
    ] {
        // Also out of the cache.
        for _ in 0..2 {
            let answer = get(&router, "/app.js", &[("accept-encoding", accepted)]);
            assert_eq!(answer.header("content-encoding"), coding, "{accepted}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            let media = answer.header("content-type");
            assert_eq!(media, Some("text/javascript; charset=utf-8"));
            assert_eq!(answer.into_text().unwrap(), body, "{accepted}");
        }
    }
    let tag = |accepted| {
        let answer = get(&router, "/app.js", &[("accept-encoding", accepted)]);
        answer.header("etag").unwrap().to_owned()
    };
    assert_ne!(tag("gzip"), tag(""));
    assert_ne!(tag("gzip"), tag("br"));
    let answer = get(&router, "/alone.txt", &[("accept-encoding", "br")]);
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
    assert_eq!(
        get(&router, "/orphan.txt", &[("accept-encoding", "gzip")]).status(),
        404
    );
}

#[test]
fn a_change_is_seen_once_what_is_kept_is_old() {
    let dir = Dir::new();
    for files in [
        Files::new(&dir.0).cache(1 << 20, Duration::ZERO),
        Files::new(&dir.0).no_cache(),
    ] {
        dir.write("a", "old");
        let router = Router::new().files("/", files);
        // Kept, most likely, once it has settled.
        let begun = maniple::time::now();
        while maniple::time::now() - begun < Duration::from_millis(150) {
            assert_eq!(get(&router, "/a", &[]).into_text().unwrap(), "old");
        }
        // As long, and with the same time: what rsync leaves behind.
        dir.write("a", "new");
        assert_eq!(get(&router, "/a", &[]).into_text().unwrap(), "new");
        fs::remove_file(dir.path("a")).unwrap();
        assert_eq!(get(&router, "/a", &[]).status(), 404);
    }
}

#[test]
fn the_tag_of_what_is_kept_becomes_strong_with_time() {
    let dir = Dir::new();
    dir.write("a", "kept");
    let files = Files::new(&dir.0).cache(1 << 20, Duration::ZERO);
    let router = Router::new().files("/", files);
    let begun = maniple::time::now();
    loop {
        let answer = get(&router, "/a", &[]);
        if answer.header("etag").unwrap().starts_with('"') {
            break;
        }
        assert!(
            maniple::time::now() - begun < Duration::from_secs(20),
            "it stays weak"
        );
        crate::driven::thread::yield_now();
    }
}

#[test]
fn what_is_kept_is_used_for_its_age_without_another_look() {
    let dir = Dir::new();
    dir.write("a", "old");
    let files = Files::new(&dir.0).cache(1 << 20, Duration::from_secs(3600));
    let router = Router::new().files("/", files);
    let begun = maniple::time::now();
    // It is kept as soon as it has settled, and from then on its change is not seen.
    loop {
        assert_eq!(get(&router, "/a", &[]).status(), 200);
        if maniple::time::now() - begun > Duration::from_millis(300) {
            break;
        }
    }
    fs::remove_file(dir.path("a")).unwrap();
    assert_eq!(get(&router, "/a", &[]).into_text().unwrap(), "old");
}

#[test]
fn a_file_that_becomes_shorter_cuts_the_answer() {
    let dir = Dir::new();
    let length = 64 << 20;
    let file = fs::File::create(dir.path("large")).unwrap();
    file.set_len(length).unwrap();
    let served = Served::of(Router::new().files("/", Files::new(&dir.0)), |b| b);
    let mut stream = served.connect();
    stream
        .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut head = [0; 64];
    stream.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200 OK"));
    // What is between the server and here holds less than this.
    file.set_len(1 << 20).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!((rest.len() as u64) < length, "{} bytes", rest.len());
}

#[test]
fn a_file_that_grows_is_sent_as_long_as_it_was() {
    let dir = Dir::new();
    let length = 8 << 20;
    let file = fs::File::create(dir.path("log")).unwrap();
    file.set_len(length).unwrap();
    let served = Served::of(Router::new().files("/", Files::new(&dir.0)), |b| b);
    let mut stream = served.connect();
    stream
        .write_all(b"GET /log HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    file.write_all_at(b"more", length).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let head = rest
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert_eq!((rest.len() - head) as u64, length);
}

#[test]
fn types_and_caching_are_as_set() {
    let dir = Dir::new();
    dir.write("a.Tmpl", "x");
    let files = Files::new(&dir.0)
        .media_type("tmpl", "text/x-template")
        .cache_control("max-age=60");
    let router = Router::new().files("/", files);
    let answer = get(&router, "/a.Tmpl", &[]);
    assert_eq!(answer.header("content-type"), Some("text/x-template"));
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
    let answer = get(&router, "/a.Tmpl", &[("if-none-match", "*")]);
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
}

#[test]
fn curl_resumes_takes_ranges_and_asks_for_what_is_newer() {
    if std::process::Command::new("curl")
        .arg("--version")
        .output()
        .is_err()
    {
        let is_required = std::env::var_os("MANIPLE_REQUIRE_PROGRAMS").is_some();
        assert!(!is_required, "curl is not installed");
        eprintln!("skipped: curl is not installed");
        return;
    }
    let dir = Dir::new();
    dir.write("a.txt", "0123456789");
    let served = Served::of(Router::new().files("/", Files::new(&dir.0)), |b| b);
    let curl = |options: &[&str]| {
        let mut command = std::process::Command::new("curl");
        command.args(["-sS", "--max-time", "60"]).args(options);
        let output = command.arg(served.url("/a.txt")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{options:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl(&["-r", "2-4"]), "234");
    assert_eq!(curl(&["-r", "-2"]), "89");
    let parts = curl(&["-r", "0-1,5-6"]);
    assert!(
        parts.contains("\r\n\r\n01\r\n") && parts.contains("\r\n\r\n56\r\n"),
        "{parts}"
    );
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(curl(&[&["-z", THEN], &code[..]].concat()), "304");
    let half = dir.path("half");
    fs::write(&half, "01234").unwrap();
    let path = half.to_str().unwrap();
    curl(&["-C", "-", "-o", path]);
    assert_eq!(fs::read_to_string(&half).unwrap(), "0123456789");
}

#[test]
fn a_client_that_takes_codings_reads_a_compressed_sibling_as_the_file() {
    let dir = Dir::new();
    let text = "some text, and ".repeat(10_000);
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coded.write_all(text.as_bytes()).unwrap();
    dir.write("a.txt.gz", coded.finish().unwrap());
    dir.write("a.txt", "another");
    let files = Files::new(&dir.0).precompressed(true);
    let served = Served::of(Router::new().files("/", files), |builder| builder);
    let client = Client::builder().decompression(true).build();
    let answer = client.get(&served.url("/a.txt")).unwrap();
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.text().unwrap(), text);
}

/// More than all buffers between two sockets hold.
const HUGE: u64 = 64 << 20;

/// A file of that length, of which nothing is on the disk.
fn sparse(dir: &Dir, name: &str, length: u64) -> fs::File {
    let file = fs::File::create(dir.path(name)).unwrap();
    file.set_len(length).unwrap();
    file
}

/// Has the kernel forget what it holds of a file, so that it must be read from the disk.
fn forget(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    // It need not.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
}

#[test]
fn a_large_file_and_its_ranges_are_the_same_over_each_transport() {
    let dir = Dir::new();
    let text: String = (0..400_000)
        .map(|number| format!("{number:07}\n"))
        .collect();
    dir.write("large.txt", &text);
    let make = || Server::builder(Router::new().files("/", Files::new(&dir.0)));
    for served in transports::Served::each(make) {
        forget(&dir.path("large.txt"));
        let ask = |fields: &str| {
            let head = "GET /large.txt HTTP/1.1\r\nHost: h\r\n";
            let answer = served.say(format!("{head}{fields}\r\n"));
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.to_owned(), body.to_owned())
        };
        let (head, body) = ask("");
        assert!(head.contains("content-length: 3200000"), "{head}");
        assert!(body == text);
        // From within one step of sending to within another, the last byte, and all but the first.
        for range in [
            5..6,
            1_048_575..2_097_154,
            3_199_999..3_200_000,
            1..3_200_000,
        ] {
            let (head, body) = ask(&format!(
                "Range: bytes={}-{}\r\n",
                range.start,
                range.end - 1
            ));
            assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
            assert!(body == text[range.clone()], "{range:?}");
        }
        let (head, body) = ask("Range: bytes=0-9,1000000-1999999,-3\r\n");
        let boundary = head.split_once("boundary=").unwrap().1;
        let boundary = boundary.split("\r\n").next().unwrap();
        let parts: Vec<_> = body.split(&format!("--{boundary}")).collect();
        let has = |part: &str, range: std::ops::Range<usize>| {
            part.strip_suffix("\r\n").unwrap().ends_with(&text[range])
        };
        assert_eq!(parts.len(), 5);
        assert!(has(parts[1], 0..10) && has(parts[2], 1_000_000..2_000_000));
        assert!(has(parts[3], 3_199_997..3_200_000));
        // Another request is answered where the file has ended.
        let get = "GET /large.txt HTTP/1.1\r\nHost: h\r\n\r\n";
        let answers = served.say(get.repeat(2));
        assert_eq!(super::statuses(&answers), [200, 200]);
        assert!(answers.ends_with(&text));
    }
}

#[test]
fn a_client_that_leaves_within_a_file_leaves_nothing_behind() {
    let dir = Dir::new();
    let _file = sparse(&dir, "huge", HUGE);
    dir.write("small", "here");
    let make = || Server::builder(Router::new().files("/", Files::new(&dir.0)));
    for served in transports::Served::each(make) {
        for read in [1, 3_000_000] {
            let mut stream = served.connect();
            stream
                .write_all(b"GET /huge HTTP/1.1\r\nHost: h\r\n\r\n")
                .unwrap();
            std::io::copy(&mut (&mut stream).take(read), &mut std::io::sink()).unwrap();
        }
        let answer = served.say("GET /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert!(answer.ends_with("\r\n\r\nhere"), "{answer}");
        let patience = maniple::time::now() + Duration::from_secs(60);
        while served.handle.connections() > 0 {
            assert!(maniple::time::now() < patience, "somebody is still served");
            maniple::sleep(Duration::from_millis(2));
        }
    }
}

/// Counts, whatever the end.
struct Sink(u64);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_becomes_shorter_never_looks_complete_over_any_transport() {
    let dir = Dir::new();
    let make = || Server::builder(Router::new().files("/", Files::new(&dir.0).no_cache()));
    for served in transports::Served::each(make) {
        for left in [0, 1 << 20, (1 << 20) + 1, HUGE - 1] {
            let file = sparse(&dir, "shrinks", HUGE);
            let mut stream = served.connect();
            stream
                .write_all(b"GET /shrinks HTTP/1.1\r\nHost: h\r\n\r\n")
                .unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            assert!(
                head.contains(&format!("content-length: {HUGE}\r\n")),
                "{head}"
            );
            file.set_len(left).unwrap();
            let mut sink = Sink(0);
            let ended = std::io::copy(&mut stream, &mut sink);
            assert!(sink.0 < HUGE, "{} bytes of {left}, {ended:?}", sink.0);
        }
    }
}
