//! A network between a driver and its server, that fails when it is told to: a relay on the loopback address.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use crate::CALL;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Carries {
    /// They are passed on.
    All,
    /// They are kept, and passed on when that is over, as if a cable were pulled and put back.
    Nothing,
    /// They are passed on one by one, with a pause after each.
    Drops,
    /// They are passed on a while later, so that nobody has his answer before he waits for it.
    Later,
    /// They are passed on half a call's time later, so that a question and its answer take as long as a call.
    Late,
}

/// The relay; it lives for as long as the process.
#[derive(Clone, Debug)]
pub struct Network {
    /// It listens there.
    pub port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    carries: AtomicU8,
    /// Those that have not ended.
    connections: Mutex<Vec<Weak<TcpStream>>>,
}

impl Network {
    /// Between others and the server on that port.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            carries: AtomicU8::new(Carries::All as u8),
            connections: Mutex::default(),
        });
        let theirs = state.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                _ = (near.set_nodelay(true), far.set_nodelay(true));
                let (near, far) = (Arc::new(near), Arc::new(far));
                theirs.relay(near.clone(), far.clone());
                theirs.relay(far, near);
            }
        });
        Self { port, state }
    }

    /// From now on.
    pub fn carry(&self, what: Carries) {
        self.state.carries.store(what as u8, Ordering::Relaxed);
    }

    /// Ends all connections.
    pub fn reset(&self) {
        for connection in self.state.connections.lock().unwrap().drain(..) {
            if let Some(connection) = connection.upgrade() {
                _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

impl State {
    fn relay(self: &Arc<Self>, from: Arc<TcpStream>, to: Arc<TcpStream>) {
        let mut connections = self.connections.lock().unwrap();
        connections.retain(|one| one.strong_count() > 0);
        connections.push(Arc::downgrade(&from));
        drop(connections);
        let state = self.clone();
        thread::spawn(move || {
            _ = state.pass_on(&from, &to);
            _ = to.shutdown(Shutdown::Both);
        });
    }

    fn pass_on(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let got = from.read(&mut bytes)?;
            if got == 0 {
                return Ok(());
            }
            let mut left = &bytes[..got];
            while !left.is_empty() {
                const MODES: [Carries; 5] = [
                    Carries::All,
                    Carries::Nothing,
                    Carries::Drops,
                    Carries::Later,
                    Carries::Late,
                ];
                let now = MODES[usize::from(self.carries.load(Ordering::Relaxed))];
                match now {
                    Carries::Later => thread::sleep(Duration::from_millis(1)),
                    Carries::Late => thread::sleep(CALL / 2),
                    Carries::All | Carries::Nothing | Carries::Drops => {}
                }
                let part = match now {
                    Carries::All | Carries::Later | Carries::Late => left.len(),
                    Carries::Nothing => 0,
                    Carries::Drops => 1,
                };
                to.write_all(&left[..part])?;
                left = &left[part..];
                if matches!(now, Carries::Nothing | Carries::Drops) {
                    thread::sleep(Duration::from_micros(500));
                }
            }
        }
    }
}
