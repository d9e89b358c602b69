//! Chat rooms over WebSocket: what one says, all in the room get; who does not keep up is sent away.
//!
//! Try it: `cargo run --bin chat`, then open http://127.0.0.1:8080/#garden in two windows.

use std::{env, io, sync::Arc};

use maniple_parts::hub::{Hub, Lag};
use maniple_server::{Html, Request, Response, Router, Server, websocket};

type Rooms = Arc<Hub<websocket::Frame>>; // a message is made once for all of a room

fn enter(request: &mut Request, rooms: Rooms) -> Response {
    let room = request.param("room").unwrap_or("lobby").to_owned();
    websocket::upgrade(request, move |socket| {
        let mut member = rooms.subscribe(&room, Lag::Disconnect)?;
        let sender = socket.sender();
        maniple::group(|group| {
            group.spawn(move || {
                while let Ok(said) = member.recv() {
                    let _ = sender.send_frame(&said.message); // who receives meets the error, too
                }
                let _ = sender.close(websocket::code::TRY_AGAIN_LATER, "too slow");
            });
            while let Some(message) = socket.receive()? {
                rooms.publish(&room, message.into())?;
            }
            group.cancel(); // the client has left, and so does its sender
            Ok(())
        })
    })
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let rooms = Arc::new(Hub::builder("rooms").queue(64).build()?);
        let router = Router::new()
            .get("/", |_: &mut Request| Html(include_str!("../chat.html")))
            .get("/{room}", move |r: &mut Request| enter(r, rooms.clone()));
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
