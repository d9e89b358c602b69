//! The client by HTTP/2 at servers that others have written: `.ci/run http2` installs and runs them.

mod nghttpd;
mod nginx;
mod node;
mod python;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use maniple_server::{
    Body, Client, ClientError, Method, StatusCode, Version,
    client::{Builder, Phase},
    tls::ClientConfig,
};

use super::driven::Reserved;

const PATIENCE: Duration = Duration::from_secs(30);

/// Whether plain text is spoken, by prior knowledge, or TLS, where HTTP/2 is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
}

const BOTH: [Way; 2] = [Way::Plain, Way::Tls];

/// Where a program is to be, and its files.
struct Place {
    plain: Reserved,
    secure: Reserved,
    folder: PathBuf,
}

/// A server's process.
struct Program {
    child: Child,
    place: Place,
    roots: Vec<u8>,
}

impl Place {
    fn port(&self, way: Way) -> u16 {
        self.address(way).port()
    }

    fn address(&self, way: Way) -> SocketAddr {
        match way {
            Way::Plain => self.plain.address(),
            Way::Tls => self.secure.address(),
        }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

impl Program {
    /// Runs what `command` makes of a place, and waits until it speaks in these ways.
    fn start(ways: &[Way], command: impl FnOnce(&Place) -> Command) -> Self {
        let (plain, secure) = (Reserved::new(), Reserved::new());
        let name = format!(
            "maniple-http2-{}-{}",
            std::process::id(),
            plain.address().port()
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let place = Place {
            plain,
            secure,
            folder,
        };
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(place.certificate(), made.cert.pem()).unwrap();
        fs::write(place.key(), made.signing_key.serialize_pem()).unwrap();
        let mut command = command(&place);
        let log = fs::File::create(place.folder.join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(Stdio::from(log));
        let child = command.spawn();
        let mut program = Self {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            place,
            roots: made.cert.pem().into_bytes(),
        };
        for way in ways {
            program.wait_for(program.place.address(*way));
        }
        program
    }

    fn wait_for(&mut self, address: SocketAddr) {
        let over = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let ended = self.child.try_wait().unwrap();
            let log = || fs::read_to_string(self.place.folder.join("log")).unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}\n{}", log());
            assert!(Instant::now() < over, "it does not listen\n{}", log());
            maniple::sleep(Duration::from_millis(10));
        }
    }

    fn client(&self, way: Way) -> Client {
        self.client_with(way, |builder| builder)
    }

    fn client_with(&self, way: Way, settings: impl FnOnce(Builder) -> Builder) -> Client {
        let config = ClientConfig::builder().roots_pem(self.roots.clone());
        let builder = Client::builder().tls(config.build().unwrap());
        let builder = builder
            .http2_prior_knowledge(way == Way::Plain)
            .timeout(PATIENCE);
        settings(builder).build()
    }

    fn url(&self, way: Way, path: &str) -> String {
        let scheme = match way {
            Way::Plain => "http",
            Way::Tls => "https",
        };
        format!("{scheme}://{}{path}", self.place.address(way))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(process) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            // Whoever has processes of its own ends them, too.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        // hypercorn may take a quarter of a minute over connections that have just been closed.
        let over = Instant::now() + Duration::from_secs(2);
        while let Ok(None) = self.child.try_wait() {
            match Instant::now() < over {
                true => maniple::sleep(Duration::from_millis(10)),
                false => drop(self.child.kill()),
            }
        }
        let _ = fs::remove_dir_all(&self.place.folder);
    }
}

/// What is beside the tests' sources.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/http2/peers")
        .join(name)
}

/// A whole answer by HTTP/2.
fn text(client: &Client, url: &str) -> String {
    let answer = client.get(url).unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().unwrap()
}

/// Answers without and with bodies, short and long.
fn gets(program: &Program, client: &Client, way: Way) {
    let url = |path: &str| program.url(way, path);
    assert_eq!(text(client, &url("/")), "hello\n");
    let head = client.request(Method::HEAD, &url("/")).send().unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.read_to_vec().unwrap(), b"");
    for (path, status) in [
        ("/empty", StatusCode::NO_CONTENT),
        ("/same", StatusCode::NOT_MODIFIED),
        ("/missing", StatusCode::NOT_FOUND),
    ] {
        let answer = client.get(&url(path)).unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body = answer.read_to_vec().unwrap();
        assert!(body.is_empty() || status == StatusCode::NOT_FOUND);
    }
    assert_eq!(text(client, &url("/long")).len(), 5_000_000);
    // One is given up in the middle.
    let mut given_up = client.get(&url("/long")).unwrap();
    given_up.read_exact(&mut [0; 10_000]).unwrap();
    drop(given_up);
    maniple::group::map(100, 0..100, |_| {
        assert_eq!(text(client, &url("/")), "hello\n");
    });
}

/// Bodies beyond each window, both ways at once.
fn echoes(program: &Program, client: &Client, way: Way) {
    const LENGTH: usize = 3_000_000;
    let numbers: Vec<u8> = (0..LENGTH).map(|number| (number % 251) as u8).collect();
    let cursor = || io::Cursor::new(numbers.clone());
    for body in [
        Body::from(numbers.clone()),
        Body::from_reader(cursor()),
        Body::from_sized_reader(cursor(), LENGTH as u64),
    ] {
        let sent = client.post(&program.url(way, "/echo")).body(body).send();
        assert!(sent.unwrap().read_to_vec().unwrap() == numbers);
    }
}

/// Fields behind the body.
fn trailers(program: &Program, client: &Client, way: Way) {
    let asked = client.request(Method::GET, &program.url(way, "/trailers"));
    let mut answer = asked.header("te", "trailers").send().unwrap();
    let mut body = String::new();
    answer.read_to_string(&mut body).unwrap();
    assert_eq!(body, "body");
    assert_eq!(answer.trailers().get("x-sum").unwrap(), "7");
}

/// An answer that ends in the middle is told as that, and others go on.
fn cuts(program: &Program, client: &Client, way: Way) {
    let answer = client.get(&program.url(way, "/cut")).unwrap();
    let error = answer.read_to_vec().unwrap_err();
    assert_eq!(error.phase(), Some(Phase::Body), "{error}");
    assert_eq!(text(client, &program.url(way, "/")), "hello\n");
}

/// Heads before the final one, some and too many.
fn hints(program: &Program, client: &Client, way: Way) {
    for count in [1, 100] {
        let url = program.url(way, &format!("/hinted?count={count}"));
        assert_eq!(text(client, &url), "hello\n");
    }
    let url = program.url(way, "/hinted?count=200");
    let error = client.get(&url).unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    assert_eq!(text(client, &program.url(way, "/")), "hello\n");
}

/// Who does not want the body answers before it has come.
fn early_answers(program: &Program, client: &Client, way: Way) {
    let cursor = || io::Cursor::new(vec![b'x'; 3_000_000]);
    for body in [
        Body::from(vec![b'x'; 3_000_000]),
        Body::from_reader(cursor()),
    ] {
        let sent = client.post(&program.url(way, "/early")).body(body).send();
        let answer = sent.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(answer.read_to_vec().unwrap().starts_with(b"early"));
    }
    assert_eq!(text(client, &program.url(way, "/")), "hello\n");
}

/// Heads up to the limit come, and what is longer ends its request alone.
fn big_heads(program: &Program, client: &Client, way: Way) {
    let big = |size| client.get(&program.url(way, &format!("/big?size={size}")));
    for size in [10_000, 30_000, 60_000] {
        let answer = big(size).unwrap();
        assert_eq!(answer.header("x-big").unwrap().len(), size);
        assert_eq!(answer.text().unwrap(), "big");
    }
    let error = big(70_000).unwrap_err();
    assert!(!error.is_unsent() && !error.is_timeout(), "{error:?}");
    assert_eq!(text(client, &program.url(way, "/")), "hello\n");
}

/// Requests that must not be made twice are each done once, whatever the server says of its connections.
fn works(program: &Program, client: &Client, way: Way, count: usize) {
    maniple::group::map(20, 0..count, |number| {
        let asked = client.post(&program.url(way, "/work"));
        let sent = asked.body(number.to_string()).send();
        let answer = sent.unwrap_or_else(|error| panic!("{number} of {count}: {error:?}"));
        assert_eq!(answer.text().unwrap(), number.to_string());
    });
    let works = text(client, &program.url(way, "/works"));
    let works: Vec<&str> = works.split(' ').collect();
    assert_eq!(works.len(), count, "none is done twice");
    assert_eq!(works.iter().collect::<BTreeSet<_>>().len(), count);
}
