// An argument must be had from the request.

use maniple_server::{Router, extract::Path};

struct Database;

fn show(_: Path<u32>, _: Database) -> &'static str {
    "user"
}

fn main() {
    let _ = Router::new().get("/users/{id}", show);
}
