//! Chat in two layers, with one broadcaster: a thread reads for each client, and one thread
//! hears what they read, knows the rooms, and writes to all.
//!
//! One owner of the rooms needs no lock, and its order is everybody's order. But it writes
//! itself, and a write blocks while the client does not read. So the room is as fast as its
//! slowest member: see ③. What is bounded is the queue to the broadcaster; while it is
//! full, readers wait, and then the clients who talk.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::Builder,
    time::Duration,
};

use rustix::net::sockopt::set_socket_send_buffer_size;

use super::{Client, Model, Service, Stalled};
use crate::{
    site::{Site, after_failed_accept},
    work::{
        Rooms,
        chat::{Heard, Lines, SEND_BUFFER},
    },
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    // Those that are accepted inherit it.
    set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    // ① The queue between the layers.
    let (events, heard) = sync_channel(QUEUE);
    Builder::new().spawn(move || broadcast(&heard))?;
    for client in 0.. {
        match listener.accept() {
            Ok((stream, _)) => {
                let events = events.clone();
                let thread = Builder::new().stack_size(STACK);
                drop(thread.spawn(move || listen_to(client, stream, &events)));
            }
            Err(error) => after_failed_accept(&error),
        }
    }
    Ok(())
}

enum Event {
    Came(Arc<TcpStream>),
    Heard(Heard),
}

/// ② The lower layer: reads and passes on. It knows no room.
fn listen_to(client: u64, stream: TcpStream, events: &SyncSender<(u64, Event)>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let stream = Arc::new(stream);
    let mut lines = Lines::new(&*stream);
    let tell = |event| {
        events
            .send((client, event))
            .map_err(|_| io::Error::other("the broadcaster is gone"))
    };
    tell(Event::Came(Arc::clone(&stream)))?;
    loop {
        let heard = lines.hear();
        let last = heard.is_last();
        tell(Event::Heard(heard))?;
        if last {
            lines.discard_rest();
            return Ok(());
        }
    }
}

/// The upper layer, once for all clients.
fn broadcast(events: &Receiver<(u64, Event)>) {
    let mut rooms = Rooms::default();
    let mut streams: HashMap<u64, Arc<TcpStream>> = HashMap::new();
    for (client, event) in events {
        let heard = match event {
            Event::Came(stream) => {
                streams.insert(client, stream);
                continue;
            }
            Event::Heard(heard) => heard,
        };
        let last = heard.is_last();
        let mut told = VecDeque::from(rooms.hear(client, heard));
        while let Some((to, line)) = told.pop_front() {
            let Some(mut stream) = streams.get(&to).map(Arc::as_ref) else {
                continue;
            };
            // ③ Waits for this one client, while all the others wait for their turn.
            if stream.write_all(format!("{line}\n").as_bytes()).is_ok() {
                continue;
            }
            // ④ Gone, or silent for too long: closing it ends its reader too, and the
            // others are told.
            end(streams.remove(&to), Shutdown::Both);
            told.extend(rooms.hear(to, Heard::End));
        }
        if last {
            // All that was said before has been written; there is no queue of its own that
            // would have to be emptied.
            end(streams.remove(&client), Shutdown::Write);
        }
    }
}

fn end(stream: Option<Arc<TcpStream>>, how: Shutdown) {
    // It fails only if the client has already gone.
    let _ = stream.map(|stream| stream.shutdown(how));
}

/// Events that wait for the broadcaster.
const QUEUE: usize = 1024;

/// How long a client may stop all before it is cut.
const PATIENCE: Duration = Duration::from_secs(30);

/// Address space for a thread's stack; memory is taken by the page, as it is used.
const STACK: usize = 256 * 1024;

pub(super) const MODEL: Model = Model {
    number: 27,
    name: "chat-broadcaster",
    title: "Layered chat, one broadcaster",
    service: Service::Chat(Stalled::StopsTheRoom),
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("chat_broadcaster.rs")],
    serve,
};
