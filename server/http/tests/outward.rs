//! The client through proxies that others wrote: tinyproxy and squid by HTTP, microsocks by SOCKS5. Over TLS it speaks HTTP/2.
//!
//! `.ci/run proxies` installs them and runs this, which is left out otherwise.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use maniple::{JoinHandle, Runtime};
use maniple_server::{
    Body, BodyError, Client, ClientError, DrainReport, Request, Response, Router, Server,
    ServerHandle, StatusCode, Version,
    client::{Phase, Proxy},
    tls::{ClientConfig, ServerConfig, self_signed},
};

const PATIENCE: Duration = Duration::from_secs(30);
const USER: &str = "someone";
const PASSWORD: &str = "password";

/// A server, and whom its clients believe if it speaks TLS.
struct Behind {
    handle: ServerHandle,
    roots: Option<Vec<u8>>,
    _serving: JoinHandle<std::io::Result<DrainReport>>,
    _runtime: Runtime,
}

impl Behind {
    fn start(tls: bool) -> Self {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let builder = Server::builder(routes());
        let (server, roots) = match tls {
            false => (builder.bind("127.0.0.1:0").unwrap(), None),
            true => {
                let certificate = self_signed(["127.0.0.1"]).unwrap();
                let roots = certificate.chain_pem();
                let config = ServerConfig::builder().certificate(certificate);
                let config = config.alpn(["h2", "http/1.1"]).build().unwrap();
                (
                    builder.bind_tls("127.0.0.1:0", config).unwrap(),
                    Some(roots),
                )
            }
        };
        Self {
            handle: server.handle(),
            roots,
            _serving: runtime.spawn(move || server.serve()),
            _runtime: runtime,
        }
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.roots.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{path}", self.handle.local_addr())
    }

    fn client(&self, proxy: Proxy) -> Client {
        let builder = Client::builder().proxy(proxy);
        match &self.roots {
            None => builder.build(),
            Some(roots) => {
                let config = ClientConfig::builder().roots_pem(roots.clone());
                builder.tls(config.build().unwrap()).build()
            }
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

fn routes() -> Router {
    Router::new()
        .get("/id/{id}", |request: &mut Request| {
            let told = request.header("proxy-authorization").is_some();
            let id = request.param("id").unwrap_or("?").to_owned();
            (StatusCode::OK, format!("{id} {told}"))
        })
        .get("/down", |_: &mut Request| {
            Response::text(Body::from_reader(std::io::repeat(b'x').take(1 << 20)))
        })
        .post(
            "/up",
            |request: &mut Request| -> Result<String, BodyError> {
                let mut body = request.body();
                let count = std::io::copy(&mut body, &mut std::io::sink());
                Ok(count.map_err(BodyError::Io)?.to_string())
            },
        )
}

/// A proxy's process, and the folder of its settings.
struct Program {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
    /// So that nobody else had its address before it did.
    _reserved: OwnedFd,
}

fn reserved() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, sockopt};
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let bound = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&bound).unwrap().try_into().unwrap();
    (bound, address)
}

impl Program {
    /// Runs what `command` makes of an address that is free and a folder.
    fn start(command: impl Fn(SocketAddr, &PathBuf) -> Command) -> Self {
        let (reserved, address) = reserved();
        let name = format!("outward-{}-{}", std::process::id(), address.port());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = command(address, &folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut program = Self {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            address,
            folder,
            _reserved: reserved,
        };
        let over = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let ended = program.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(Instant::now() < over, "{command:?} does not listen");
            maniple::sleep(Duration::from_millis(10));
        }
        program
    }

    fn tinyproxy(connect_port: u16) -> Self {
        Self::start(|address, folder| {
            let file = folder.join("tinyproxy.conf");
            let settings = format!(
                "Port {}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nAllow 127.0.0.1\n\
                 BasicAuth {USER} {PASSWORD}\nConnectPort {connect_port}\n",
                address.port()
            );
            std::fs::write(&file, settings).unwrap();
            let mut command = Command::new("tinyproxy");
            command.arg("-d").arg("-c").arg(file);
            command
        })
    }

    fn squid() -> Self {
        Self::start(|address, folder| {
            let file = folder.join("squid.conf");
            let settings = format!(
                "http_port {address}\nhttp_access allow all\ncache deny all\naccess_log none\n\
                 cache_log /dev/null\npid_filename none\nshutdown_lifetime 0 seconds\n\
                 pinger_enable off\nlogfile_rotate 0\n"
            );
            std::fs::write(&file, settings).unwrap();
            let found = ["/usr/sbin/squid", "/usr/bin/squid"].into_iter();
            let found = found.map(PathBuf::from).find(|path| path.exists());
            let mut command = Command::new(found.unwrap_or_else(|| "squid".into()));
            command.arg("-N").arg("-f").arg(file);
            command
        })
    }

    fn microsocks(with_password: bool) -> Self {
        Self::start(|address, _| {
            let mut command = Command::new("microsocks");
            let port = address.port().to_string();
            command.args(["-i", "127.0.0.1", "-p", &port]);
            if with_password {
                command.args(["-u", USER, "-P", PASSWORD]);
            }
            command
        })
    }

    fn proxy(&self, scheme: &str) -> Proxy {
        Proxy::new(&format!("{scheme}://{}", self.address)).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Calls of all kinds through that proxy.
fn all_kinds(behind: &Behind, proxy: Proxy) {
    let client = behind.client(proxy);
    for id in 0..5 {
        let answer = client.get(&behind.url(&format!("/id/{id}"))).unwrap();
        let expected = match behind.roots {
            Some(_) => Version::HTTP_2,
            None => Version::HTTP_11,
        };
        assert_eq!(answer.version(), expected);
        assert_eq!(answer.text().unwrap(), format!("{id} false"));
    }
    let down = client.get(&behind.url("/down")).unwrap();
    assert_eq!(down.bytes().unwrap().len(), 1 << 20);
    let parts = || Body::from_reader(std::io::repeat(b'y').take(300_000));
    let sized = || Body::from_sized_reader(std::io::repeat(b'y').take(300_000), 300_000);
    for body in [Body::from(vec![b'z'; 300_000]), sized(), parts()] {
        let up = client.post(&behind.url("/up")).body(body).send().unwrap();
        assert_eq!(up.status(), StatusCode::OK);
        assert_eq!(up.text().unwrap(), "300000");
    }
    assert_eq!(
        client.get(&behind.url("/id/last")).unwrap().text().unwrap(),
        "last false"
    );
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
#[ignore = "needs tinyproxy: .ci/run proxies"]
fn tinyproxy_passes_on_and_makes_tunnels_for_who_has_the_password() {
    for tls in [false, true] {
        let behind = Behind::start(tls);
        let tinyproxy = Program::tinyproxy(behind.handle.local_addr().port());
        let proxy = tinyproxy.proxy("http");
        all_kinds(&behind, proxy.clone().credentials(USER, PASSWORD));
        let client = behind.client(proxy.credentials(USER, "wrong"));
        let answer = client.get(&behind.url("/id/1"));
        match tls {
            false => assert!(answer.unwrap().status().is_client_error()),
            true => {
                let error = answer.unwrap_err();
                assert!(matches!(error, ClientError::Proxy { .. }), "{error}");
                assert_eq!(error.phase(), Some(Phase::Connect));
            }
        }
    }
}

#[test]
#[ignore = "needs squid: .ci/run proxies"]
fn squid_passes_on_and_makes_tunnels_and_says_when_nobody_is_there() {
    let squid = Program::squid();
    let plain = Behind::start(false);
    all_kinds(&plain, squid.proxy("http"));
    let secure = Behind::start(true);
    all_kinds(&secure, squid.proxy("http"));

    let gone = nobody();
    let client = secure.client(squid.proxy("http"));
    let answer = client.get(&format!("http://{gone}/")).unwrap();
    assert!(answer.status().is_server_error(), "{answer:?}");
    let error = client.get(&format!("https://{gone}/")).unwrap_err();
    assert!(matches!(error, ClientError::Proxy { .. }), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert!(error.is_unsent());
}

#[test]
#[ignore = "needs microsocks: .ci/run proxies"]
fn microsocks_connects_by_name_or_address_for_who_has_the_password() {
    for with_password in [false, true] {
        let microsocks = Program::microsocks(with_password);
        let gone = nobody();
        for scheme in ["socks5", "socks5h"] {
            let proxy = match with_password {
                false => microsocks.proxy(scheme),
                true => microsocks.proxy(scheme).credentials(USER, PASSWORD),
            };
            for tls in [false, true] {
                all_kinds(&Behind::start(tls), proxy.clone());
            }
            let behind = Behind::start(false);
            let client = behind.client(proxy.clone());
            let error = client.get(&format!("http://{gone}/")).unwrap_err();
            assert!(matches!(error, ClientError::Proxy { .. }), "{error}");
            assert!(error.to_string().contains("connection refused"), "{error}");
            let port = behind.handle.local_addr().port();
            let named = client
                .get(&format!("http://localhost:{port}/id/7"))
                .unwrap();
            assert_eq!(named.text().unwrap(), "7 false");
        }
        if with_password {
            let behind = Behind::start(false);
            for proxy in [
                microsocks.proxy("socks5h"),
                microsocks.proxy("socks5h").credentials(USER, "wrong"),
            ] {
                let error = behind.client(proxy).get(&behind.url("/id/1")).unwrap_err();
                assert!(matches!(error, ClientError::Proxy { .. }), "{error}");
            }
        }
    }
}
