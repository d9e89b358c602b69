//! maniple-server's WebSocket and events, and tungstenite's WebSocket over its connections.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use maniple::sync::broadcast::{self, Lag, RecvTimeoutError};
use maniple_server::{
    Request, Response, Router, Server,
    sse::{self, Event, Next},
    websocket,
};
use tungstenite::{
    WebSocket,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

use super::{BEHIND, EVENT, LISTEN};
use crate::servers::announce;

pub(super) fn echo() -> Result<()> {
    serve(|| {
        Router::new().get("/", |request: &mut Request| {
            websocket::upgrade(request, |socket| {
                while let Some(message) = socket.receive()? {
                    socket.send(message)?;
                }
                Ok(())
            })
        })
    })
}

pub(super) fn echo_by_tungstenite() -> Result<()> {
    serve(|| {
        Router::new().get("/", |request: &mut Request| {
            let key = request.header("sec-websocket-key").unwrap_or_default();
            let accept = derive_accept_key(key);
            Response::upgrade("websocket", |connection| {
                // The buffers of its default are 128 KiB each.
                let config = WebSocketConfig::default()
                    .read_buffer_size(4 * 1024)
                    .write_buffer_size(0);
                let mut socket = WebSocket::from_raw_socket(connection, Role::Server, Some(config));
                while let Ok(message) = socket.read() {
                    if socket.send(message).is_err() {
                        break;
                    }
                }
            })
            .with_header("sec-websocket-accept", &accept)
        })
    })
}

pub(super) fn events(period: Duration) -> Result<()> {
    serve(move || {
        let (publisher, _) = broadcast::channel::<Arc<Event>>(BEHIND, Lag::DropOldest);
        let publishing = publisher.clone();
        drop(maniple::spawn(move || {
            let event = Arc::new(Event::data(EVENT));
            loop {
                maniple::sleep(period);
                // Without subscribers there is nobody to miss it.
                let _ = publishing.send(event.clone());
            }
        }));
        Router::new().get("/", move |request: &mut Request| {
            let mut published = publisher.subscribe();
            sse::stream(request, move |events| {
                events.forward(|within| match published.recv_timeout(within) {
                    Ok(event) => Next::Event(event),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Lagged(_)) => Next::Nothing,
                    Err(_) => Next::End,
                })
            })
        })
    })
}

fn serve(router: impl FnOnce() -> Router + Send) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let server = Server::builder(router())
            .max_connections(100_000)
            .bind(LISTEN)?;
        announce(server.local_addr());
        server.serve()
    })?;
    Ok(())
}
