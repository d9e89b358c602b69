//! A line to etcd that can be held.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// Passes on what comes. Once etcd has sent a text, nothing more goes to etcd until it is let go.
pub struct Link {
    pub address: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Waits,
    Held,
    LetGo,
}

impl Gate {
    fn set(&self, from: State, to: State) {
        let mut state = self.state.lock().unwrap();
        if *state == from {
            *state = to;
            self.changed.notify_all();
        }
    }

    fn pass(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |state| *state == State::Held)
                .unwrap(),
        );
    }
}

impl Link {
    pub fn to(etcd: &str, text: &'static str) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (gate, etcd) = (Arc::<Gate>::default(), etcd.to_owned());
        let shared = Arc::clone(&gate);
        // Ends with the process of the tests.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&etcd).unwrap();
                let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass_on(from, to, |_| up.pass()));
                thread::spawn(move || {
                    pass_on(server, client, |bytes| {
                        if bytes
                            .windows(text.len())
                            .any(|part| part == text.as_bytes())
                        {
                            down.set(State::Waits, State::Held);
                        }
                    });
                });
            }
        });
        Link { address, gate }
    }

    pub fn is_held(&self) -> bool {
        *self.gate.state.lock().unwrap() == State::Held
    }

    pub fn let_go(&self) {
        self.gate.set(State::Held, State::LetGo);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        before(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
