//! Servers that do more than say hello, for `compare http --tasks`.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use axum::{Json as AxumJson, extract::Path as AxumPath, routing::post, serve::ListenerExt};
use maniple_server::{
    Files, Json, Request, Router, extract,
    middleware::{Compression, ConcurrencyLimit, Metrics, RequestId, Timeout},
};

use super::{BODY, Listening, Name, announce, maniple::serve_router};
use crate::task::{FILES, Note, Task};

/// Serves what the task asks for; files are in `root`. Without a chain what that has in its midst.
pub(super) fn serve(
    server: Name,
    listening: &Listening,
    task: Task,
    root: &Path,
    bare: bool,
) -> Result<()> {
    match (server, task) {
        (Name::Maniple, _) => serve_router(listening, 1, routes(task, root, bare)?),
        (Name::Axum, Task::Json) => serve_axum(listening),
        _ => bail!("{server} has no variant for this task"),
    }
}

fn routes(task: Task, root: &Path, bare: bool) -> Result<Router> {
    let hello = Router::new().get("/", |_: &mut Request| BODY);
    Ok(match task {
        Task::Json => Router::new().post("/notes/{id}", take),
        Task::File | Task::LargeFile => Router::new().files("/", Files::new(root)),
        Task::Chain if bare => hello,
        Task::Chain => hello
            .with(Metrics::new())
            .with(RequestId::new())
            .with(ConcurrencyLimit::new(10_000))
            .with(Timeout::new(Duration::from_secs(30))),
        Task::Gzip => {
            let text = std::fs::read(root.join(FILES[2].0))?;
            let text: &'static [u8] = text.leak();
            let answer = move |_: &mut Request| {
                let body = maniple_server::Bytes::from_static(text);
                maniple_server::Response::text(body).with_header("content-type", "application/json")
            };
            Router::new()
                .with(Compression::new())
                .get(&format!("/{}", FILES[2].0), answer)
        }
    })
}

fn take(extract::Path(id): extract::Path<u64>, Json(mut note): Json<Note>) -> Json<Note> {
    note.id = id;
    Json(note)
}

fn serve_axum(listening: &Listening) -> Result<()> {
    let take = async |AxumPath(id): AxumPath<u64>, AxumJson(mut note): AxumJson<Note>| {
        note.id = id;
        AxumJson(note)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listening.listen).await?;
        announce(listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // Without it answers are still right, only later.
            let _ = stream.set_nodelay(true);
        });
        let router = axum::Router::new().route("/notes/{id}", post(take));
        axum::serve(listener, router).await?;
        Ok(())
    })
}
