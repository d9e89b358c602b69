// Only the last argument of a handler may take the body.

use maniple_server::{Json, Router, extract::Path};

fn change(Json(name): Json<String>, Path(id): Path<u32>) -> String {
    format!("{id} is {name}")
}

fn main() {
    let _ = Router::new().put("/users/{id}", change);
}
