//! hyper and axum on tokio's current-thread runtime.

use std::convert::Infallible;

use anyhow::Result;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::BODY;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

pub(super) fn serve_hyper(port: u16) -> Result<()> {
    runtime()?.block_on(async {
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                let listener = TcpListener::bind(("127.0.0.1", port)).await?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    tokio::task::spawn_local(async move {
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .pipeline_flush(true)
                            .serve_connection(TokioIo::new(stream), service_fn(hello));
                        // A client that goes away ends its connection with an error.
                        let _ = connection.await;
                    });
                }
            })
            .await
    })
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

pub(super) fn serve_axum(port: u16) -> Result<()> {
    use axum::{Router, routing::get, serve::ListenerExt};
    runtime()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await?
            .tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
        let router = Router::new().route("/", get(|| async { BODY }));
        axum::serve(listener, router).await?;
        Ok(())
    })
}
