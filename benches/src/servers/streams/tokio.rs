//! tokio-tungstenite and axum's events on tokio's current-thread runtime.

use std::{convert::Infallible, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
    serve::ListenerExt,
};
use futures_util::{SinkExt, StreamExt, stream};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::broadcast::{self, error::RecvError},
    task::LocalSet,
};

use super::{BEHIND, EVENT, LISTEN};
use crate::servers::announce;

pub(super) fn echo() -> Result<()> {
    let tasks = LocalSet::new();
    let accept = async {
        let listener = TcpListener::bind(LISTEN).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    tasks.block_on(&runtime, accept)
}

pub(super) fn events(period: Duration) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(LISTEN).await?;
        announce(listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // Without it events still come, only later.
            let _ = stream.set_nodelay(true);
        });
        let (publisher, _) = broadcast::channel::<Event>(BEHIND);
        let publishing = publisher.clone();
        tokio::spawn(async move {
            let event = Event::default().data(EVENT);
            loop {
                tokio::time::sleep(period).await;
                // Without subscribers there is nobody to miss it.
                let _ = publishing.send(event.clone());
            }
        });
        let handler = move || {
            let published = publisher.subscribe();
            let events = stream::unfold(published, async |mut published| {
                loop {
                    match published.recv().await {
                        Ok(event) => return Some((Ok::<_, Infallible>(event), published)),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            });
            std::future::ready(Sse::new(events).keep_alive(KeepAlive::default()))
        };
        axum::serve(listener, Router::new().route("/", get(handler))).await?;
        Ok(())
    })
}
