//! Rolling restarts: no request is refused or lost, and what fails leaves all as it was.

use std::{
    collections::BTreeSet,
    env, fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use maniple_supervise::ctl::Request;

use super::{Folder, Service, ask, connect, pids, until, write_program};

/// Clients that ask without a pause, and count.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<BTreeSet<String>, String>>>,
}

impl Load {
    /// Half of the clients keep their connections.
    fn on(address: SocketAddr, clients: usize) -> Self {
        let (over, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let client = |number: usize| {
            let (over, answered) = (over.clone(), answered.clone());
            thread::spawn(move || {
                let (mut kept, mut generations) = (None, BTreeSet::new());
                let mut asked = Instant::now();
                while !over.load(SeqCst) {
                    let stream = match kept.take().filter(|_| asked.elapsed() < MOST_PAUSE) {
                        Some(stream) => stream,
                        None => connect(address).map_err(|error| format!("refused: {error}"))?,
                    };
                    asked = Instant::now();
                    let (body, stream) =
                        exchange(stream).map_err(|error| format!("lost: {error}"))?;
                    generations.insert(body);
                    answered.fetch_add(1, SeqCst);
                    kept = stream.filter(|_| number.is_multiple_of(2));
                }
                Ok(generations)
            })
        };
        let clients = (0..clients).map(client).collect();
        Self {
            over,
            answered,
            clients,
        }
    }

    /// Waits for that many further answers.
    fn go_on(&self, answers: u64) {
        let wanted = self.answered.load(SeqCst) + answers;
        until("answers", || {
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            (failed || self.answered.load(SeqCst) >= wanted).then_some(())
        });
    }

    /// How many were answered, and by which generations; fails at the first request that was not.
    #[track_caller]
    fn end(self) -> (u64, BTreeSet<String>) {
        self.over.store(true, SeqCst);
        let mut generations = BTreeSet::new();
        for client in self.clients {
            generations.extend(client.join().unwrap().unwrap());
        }
        (self.answered.load(SeqCst), generations)
    }
}

/// A client that was kept from asking for longer cannot count on a connection that it has kept.
const MOST_PAUSE: Duration = Duration::from_millis(500);

/// One request; the body, and the connection if it may be used again.
fn exchange(mut stream: TcpStream) -> io::Result<(String, Option<TcpStream>)> {
    stream.write_all(b"GET /generation HTTP/1.1\r\nHost: h\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut some = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && !body.is_empty()
        {
            let closes = head.contains("connection: close");
            return Ok((body.to_owned(), (!closes).then_some(stream)));
        }
        match stream.read(&mut some)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)),
            count => answer.extend_from_slice(&some[..count]),
        }
    }
}

#[test]
fn no_request_is_refused_or_lost_in_rolling_restarts_under_load() {
    let mut service = Service::start();
    let address = service.address();
    let before = pids(&service.status());
    let load = Load::on(address, 16);
    load.go_on(200);
    for generation in 2..=4 {
        let said = service.ctl(Request::Reload).unwrap();
        assert_eq!(said, format!("generation {generation} serves\n"));
        load.go_on(200);
    }
    service.signal("HUP");
    service.until_status("serving: 2 of 2 workers ready, generation 5");
    load.go_on(200);
    let (answered, generations) = load.end();
    assert!(answered >= 1000, "{answered}");
    // The last reload's first worker may take all connections for a time.
    assert!(generations.len() >= 4, "{generations:?}");
    let after = pids(&service.status());
    assert!(after.is_disjoint(&before), "{before:?} {after:?}");
    until("the end of those that were replaced", || {
        (pids(&service.status()).len() == 2).then_some(())
    });
}

#[test]
fn connections_that_wait_to_be_accepted_outlast_the_processes() {
    let mut service = Service::with(|command| {
        command.env("WORKERS", "1");
    });
    let address = service.address();
    // The one worker accepts nothing while it computes, and is killed.
    let mut hanging = connect(address).unwrap();
    hanging
        .write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let hangs = service.folder.join("hanging");
    until("a worker that hangs", || hangs.exists().then_some(()));
    let waiting: Vec<_> = (0..20).map(|_| connect(address).unwrap()).collect();
    service.ctl(Request::Reload).unwrap();
    for stream in waiting {
        let (generation, _) = exchange(stream).unwrap();
        assert_eq!(generation, "2");
    }
}

#[test]
fn a_new_program_is_taken_over_at_a_reload() {
    let folder = Folder::new();
    let program = folder.join("program");
    symlink(env::current_exe().unwrap(), &program).unwrap();
    let mut service = Service::with(|command| {
        command.env("PROGRAM", &program);
    });
    let address = service.address();
    assert_eq!(ask(address, "/mark").unwrap(), "none");
    let own = env::current_exe().unwrap();
    let script = format!("#!/bin/sh\nMARK=two exec '{}' \"$@\"\n", own.display());
    write_program(&program, &script);
    service.ctl(Request::Reload).unwrap();
    // The former ones have been told to end, and may accept a little longer.
    until("the new program", || {
        (ask(address, "/mark").unwrap() == "two").then_some(())
    });
}

#[test]
fn a_program_that_fails_leaves_the_former_serving() {
    let folder = Folder::new();
    let program = folder.join("program");
    symlink(env::current_exe().unwrap(), &program).unwrap();
    let mut service = Service::with(|command| {
        command.env("PROGRAM", &program);
    });
    let address = service.address();
    let load = Load::on(address, 4);
    let before = pids(&service.status());
    write_program(&program, "#!/bin/sh\nexit 3\n");
    let error = service.ctl(Request::Reload).unwrap_err().to_string();
    assert_eq!(error, "worker 0 was never ready: exit status 3");
    fs::remove_file(&program).unwrap();
    let error = service.ctl(Request::Reload).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    load.go_on(100);
    load.end();
    assert_eq!(pids(&service.status()), before);
}
