//! The service over RPC: generated code at both ends, and processes that are killed, stopped and replaced.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use maniple_example_grpc::{
    Service,
    chat::{ChatRpc, ChatRpcClient, Line},
};
use maniple_rpc::{Channel, Code, Server};

fn line(text: &str, number: u32) -> Line {
    Line {
        text: text.to_owned(),
        number,
        payload: Vec::new(),
    }
}

/// Fails a test that takes longer than any should.
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn methods_of_each_kind_are_generated_at_both_ends() {
    let test = || {
        let server = Server::builder().service(Service.into_service());
        let server = server.bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let client = ChatRpcClient::new(Channel::to(address.to_string()).unwrap());
        let attached = client.with_attachment(vec![7; 100_000]);
        let reply = attached.echo(&line("hello", 0)).unwrap();
        assert_eq!(
            (&*reply, reply.attachment().len()),
            (&line("hello", 0), 100_000)
        );
        let error = client.echo(&line("no", 5)).unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::NotFound, "no"));
        let lines: Result<Vec<_>, _> = client.repeat(&line("again", 1000)).unwrap().collect();
        assert_eq!(lines.unwrap().len(), 1000);
        let mut joining = client.join().unwrap();
        for _ in 0..1000 {
            joining.send(&line("x", 0)).unwrap();
        }
        assert_eq!(joining.finish().unwrap().number, 1000);
        let (mut out, mut replies) = client.talk().unwrap();
        for number in 0..100 {
            out.send(&line("ping", number)).unwrap();
            assert_eq!(replies.next().unwrap().unwrap().number, number);
        }
        out.finish();
        assert!(replies.next().is_none());
        handle.drain();
        serving.join().unwrap().unwrap();
    };
    bounded(move || maniple::run(test));
}

/// A process of an example; dropping it kills it.
struct Process {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Process {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    fn serve(address: &str) -> Self {
        let mut server = Self::start(env!("CARGO_BIN_EXE_rpc_server"), &[address]);
        server.line("listening on ");
        server
    }

    /// What follows this in the next line that has it.
    fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.says.read_line(&mut line).unwrap() > 0,
                "no line {start:?}"
            );
            if let Some(rest) = line.trim_end().strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits until this client says that the other answers; an answer that was late may have had the one before named
    /// once more.
    fn is_answered_by(&mut self, server: &Self) {
        self.line(&format!("process {} answers", server.child.id()));
    }

    /// Told to end, it ends well.
    fn end(&mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Ports on which nobody listens.
fn ports<const N: usize>() -> [String; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

fn client(addresses: &[String]) -> Process {
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    Process::start(env!("CARGO_BIN_EXE_rpc_client"), &addresses)
}

#[test]
fn a_second_instance_ends_and_says_why() {
    bounded(|| {
        let [address] = ports();
        let _first = Process::serve(&address);
        let second = Command::new(env!("CARGO_BIN_EXE_rpc_server"))
            .arg(&address)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(
            !second.status.success() && said.contains("AddrInUse"),
            "{said}"
        );
    });
}

#[test]
fn no_call_fails_whatever_starts_first_is_killed_is_stopped_or_is_replaced() {
    bounded(|| {
        let addresses: [String; 2] = ports();
        let mut client = client(&addresses);
        let mut first = Process::serve(&addresses[0]);
        client.is_answered_by(&first);
        let second = Process::serve(&addresses[1]);
        // Killed: the connection is closed at once, and calls that it took with it are made again.
        first.signal("-KILL");
        client.is_answered_by(&second);
        first = Process::serve(&addresses[0]);
        // Stopped: nothing closes, and heartbeats tell.
        second.signal("-STOP");
        client.is_answered_by(&first);
        second.signal("-CONT");
        // Replaced, in good order.
        first.end();
        client.is_answered_by(&second);
        drop(second);
        let third = Process::serve(&addresses[0]);
        client.is_answered_by(&third);
        client.signal("-TERM");
        let total = loop {
            let mut line = String::new();
            assert!(client.says.read_line(&mut line).unwrap() > 0);
            assert!(!line.starts_with("failed"), "{line}");
            if line.contains(" calls, ") {
                break line;
            }
        };
        assert!(total.trim_end().ends_with(" calls, 0 failed"), "{total}");
        assert!(client.child.wait().unwrap().success());
    });
}
