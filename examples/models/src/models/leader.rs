//! A coroutine per connection, and for each aggregate a leader with children: A, B and C
//! are asked side by side.
//!
//! It reads as a thread per connection: read, ask, write. But a wait suspends a coroutine
//! and not a thread, so ten thousand waits are no matter, and a request takes the longest
//! of its calls instead of their sum.

use std::{io, time::Duration};

use maniple::net::{TcpListener, TcpStream};

use super::{Client, Model, Service};
use crate::{
    site::{Site, pause_after_failed_accept},
    work::{Answer, Backends, Conversation, Gathering, Unavailable},
};

fn serve(site: &Site) -> io::Result<()> {
    let runtime = maniple::Runtime::builder().workers(site.cores).build()?;
    runtime.run(|| {
        let listener = TcpListener::bind(site.listen)?;
        site.announce(listener.local_addr()?)?;
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Without a descriptor it would fail at once, again and again, and
                    // never let others run.
                    maniple::sleep(pause_after_failed_accept(&error).unwrap_or_default());
                    continue;
                }
            };
            let backends = Backends::new(site.backends);
            // ① A stack of its own for each client, and no thread; on the worker that has
            // the fewest, since it will stay there.
            drop(maniple::task::spawn_least_loaded(move || {
                converse(stream, backends)
            }));
        }
        Ok(())
    })
}

fn converse(stream: TcpStream, mut backends: Backends<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = Conversation::over(stream);
    loop {
        // ② A client that is silent for too long is cut: the deadline holds for whatever
        // waits inside.
        let asked = maniple::timeout(PATIENCE, || client.request());
        let Some(request) = asked.map_err(io::Error::from)?? else {
            return Ok(());
        };
        let answer = request.ask.answer(|id| ask_side_by_side(&mut backends, id));
        client.answer(&answer)?;
    }
}

/// The leader waits here until all three have answered, and may lend them what it owns.
fn ask_side_by_side(backends: &mut Backends<TcpStream>, id: u64) -> Result<Answer, Unavailable> {
    let [a, b, c] = &mut backends.each;
    // ③ Two children and the leader itself make the calls.
    let (a, b, c) = maniple::join!(a.ask(id), b.ask(id), c.ask(id));
    Ok(Gathering::merged(id, [a?, b?, c?]))
}

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MODEL: Model = Model {
    number: 24,
    name: "leader",
    title: "Leader with children, coroutines",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("leader.rs")],
    serve,
};
