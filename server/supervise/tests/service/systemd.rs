//! What systemd passes to a service, and what it is told.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
};

use maniple_supervise::ctl::Request;

use super::{Folder, LONG, Service, ask, connect, service};

/// Stands in for systemd: the socket of `NOTIFY_SOCKET`.
struct Systemd {
    socket: UnixDatagram,
    folder: Folder,
}

impl Systemd {
    fn new() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self { socket, folder }
    }

    fn informs(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.join("notify"));
    }

    /// Waits for a message that begins so, past others.
    #[track_caller]
    fn hears(&self, start: &str) -> String {
        loop {
            let mut buffer = [0; 512];
            let count = self.socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if text.starts_with(start) {
                return text;
            }
        }
    }
}

#[test]
fn systemd_hears_when_a_service_is_ready_reloads_and_ends() {
    let systemd = Systemd::new();
    let mut service = Service::with(|command| systemd.informs(command));
    systemd.hears("READY=1");
    let status = systemd.hears("STATUS=");
    assert_eq!(status, "STATUS=2 of 2 workers are ready, generation 1");
    service.ctl(Request::Reload).unwrap();
    let text = systemd.hears("RELOADING=1\nMONOTONIC_USEC=");
    let micros = text.rsplit('=').next().unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    systemd.hears("READY=1");
    service.signal("TERM");
    systemd.hears("STOPPING=1");
    assert!(service.ended().success());
}

#[test]
fn systemds_watchdog_is_fed_by_the_supervisor_alone() {
    let systemd = Systemd::new();
    let mut service = Service::with(|command| {
        systemd.informs(command);
        command.env("WATCHDOG_USEC", "200000");
    });
    service.address();
    for _ in 0..5 {
        systemd.hears("WATCHDOG=1");
    }
    // Its number is another's: it is not meant.
    let other = Systemd::new();
    let mut service = Service::with(|command| {
        other.informs(command);
        command
            .env("WATCHDOG_USEC", "1000")
            .env("WATCHDOG_PID", "1");
    });
    other.hears("READY=1");
    service.signal("TERM");
    assert!(service.ended().success());
    other.socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    while let Ok(count) = other.socket.recv(&mut buffer) {
        assert!(!buffer[..count].starts_with(b"WATCHDOG"));
    }
}

#[test]
fn a_service_without_a_supervisor_tells_the_same() {
    let systemd = Systemd::new();
    let mut service = Service::with(|command| {
        systemd.informs(command);
        command.env("WORKERS", "0").env("WATCHDOG_USEC", "200000");
    });
    let said = systemd.hears("STATUS=");
    let address = said.rsplit(' ').next().unwrap().parse().unwrap();
    systemd.hears("READY=1");
    systemd.hears("WATCHDOG=1");
    let mut stream = connect(address).unwrap();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(ask(address, "/").unwrap(), "hello");
    service.signal("TERM");
    systemd.hears("STOPPING=1");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("slow"), "{answer:?}");
    assert!(service.ended().success());
}

#[test]
fn a_socket_of_systemds_is_taken_and_outlasts_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for names in ["http", "greeter.socket"] {
        let folder = Folder::new();
        let program = service(&folder);
        let mut command = Command::new("sh");
        // The address is one that nobody could bind.
        command.args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=$NAMES exec \"$0\" \"$@\" 3<&0 0</dev/null",
        ]);
        command.arg(program.get_program()).args(program.get_args());
        let variables = program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        command
            .envs(variables)
            .env("NAMES", names)
            .env("ADDRESS", "256.0.0.1:0");
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        command.stdin(Stdio::from(socket)).stdout(Stdio::null());
        let mut service = Service {
            process: command.spawn().unwrap(),
            folder,
        };
        assert_eq!(service.address(), address);
        assert_eq!(ask(address, "/").unwrap(), "hello");
        service.signal("TERM");
        assert!(service.ended().success());
        // It waits for the next service.
        drop(connect(address).unwrap());
    }
}
