// A middleware takes the rest of the chain.

use maniple_server::{Request, Router};

fn count(_: &mut Request) {}

fn main() {
    let _ = Router::new().with(count);
}
