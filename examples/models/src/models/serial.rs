//! A coroutine per connection that asks A, then B, then C.
//!
//! It is `thread` word for word, with coroutines for threads: the code blocks, and what
//! blocks is a coroutine. So the number of clients is bounded by memory and not by what the
//! kernel can schedule; but each request still takes the sum of its calls. What it lacks to
//! be `leader` is one line.

use std::{io, time::Duration};

use maniple::net::{TcpListener, TcpStream};

use super::{Client, Model, Service};
use crate::{
    site::{Site, pause_after_failed_accept},
    work::{Backends, Conversation},
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

/// Talks to one client. What goes wrong on its connection ends this coroutine and nothing else.
fn converse(stream: TcpStream, mut backends: Backends<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut client = Conversation::over(stream);
    // ② The whole protocol: read, do, write, each of which may suspend, and the worker goes
    // on with somebody else.
    while let Some(request) = client.request()? {
        // ③ The backends in turn, each on a connection that this client has for itself.
        client.answer(&request.ask.answer_in_turn(&mut backends))?;
    }
    Ok(())
}

/// How long a client may be silent, or not read.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MODEL: Model = Model {
    number: 23,
    name: "serial",
    title: "One after the other, coroutines",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("serial.rs")],
    serve,
};
