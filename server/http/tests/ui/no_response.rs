// A handler returns a response.

use maniple_server::{Router, extract::Path};

fn show(Path(id): Path<u32>) -> u32 {
    id
}

fn main() {
    let _ = Router::new().get("/users/{id}", show);
}
