//! A REST service: notes that are made, listed, read, changed and deleted, as JSON; what is wrong
//! is told as `application/problem+json`, with the field.
//!
//! Try it: `cargo run --bin rest`, then, with the address in place of ADDRESS,
//! `curl -H 'content-type: application/json' -d '{"text": "buy nails"}' ADDRESS/notes`,
//! `curl ADDRESS/notes?contains=nails` and `curl -X DELETE ADDRESS/notes/1`.

use std::{collections::BTreeMap, env, io, sync::Arc, time::Instant};

use maniple::sync::RwLock;
use maniple_server::{
    IntoResponse, Json, Problem, Request, Response, Router, Server, StatusCode,
    extract::{Path, Query, State},
    middleware::Next,
};
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct Notes {
    last: u64,
    by_id: BTreeMap<u64, Note>,
}

type Shared = Arc<RwLock<Notes>>;

#[derive(Clone, Deserialize, Serialize)]
struct Note {
    text: String,
    #[serde(default)]
    done: bool,
}

#[derive(Deserialize)]
struct Filter {
    contains: Option<String>,
}

fn list(State(notes): State<Shared>, Query(filter): Query<Filter>) -> Json<BTreeMap<u64, Note>> {
    let wanted = filter.contains.unwrap_or_default();
    let mut found = notes.read().by_id.clone();
    found.retain(|_, note| note.text.contains(&wanted));
    Json(found)
}

fn create(State(notes): State<Shared>, Json(note): Json<Note>) -> Result<Response, Problem> {
    if note.text.is_empty() {
        return Err(
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "must not be empty").with_field("text"),
        );
    }
    let mut notes = notes.write();
    notes.last += 1;
    let id = notes.last;
    notes.by_id.insert(id, note.clone());
    let created = (StatusCode::CREATED, Json(note)).into_response();
    Ok(created.with_header("location", &format!("/notes/{id}")))
}

fn show(State(notes): State<Shared>, Path(id): Path<u64>) -> Option<Json<Note>> {
    notes.read().by_id.get(&id).cloned().map(Json) // None is 404
}

fn change(
    State(notes): State<Shared>,
    Path(id): Path<u64>,
    Json(note): Json<Note>,
) -> Option<Json<Note>> {
    let mut notes = notes.write();
    notes.by_id.get_mut(&id)?.clone_from(&note);
    Some(Json(note))
}

fn delete(State(notes): State<Shared>, Path(id): Path<u64>) -> StatusCode {
    match notes.write().by_id.remove(&id) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

fn log(request: &mut Request, next: Next<'_>) -> Response {
    let began = Instant::now();
    let response = next.run(request);
    let (method, route) = (request.method(), request.route().unwrap_or("no route"));
    log::info!(
        "{method} {route}: {} in {:?}",
        response.status().as_u16(),
        began.elapsed()
    );
    response
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let notes = Router::new()
        .state(Shared::default())
        .get("/", list)
        .post("/", create)
        .get("/{id}", show)
        .put("/{id}", change)
        .delete("/{id}", delete);
    let router = Router::new()
        .with(log)
        .on_error(|problem: &Problem, _: Option<&Request>| problem.to_json())
        .nest("/notes", notes);
    maniple::run(|| {
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
