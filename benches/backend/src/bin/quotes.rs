//! The other service, whom both ask.

use maniple::Runtime;
use maniple_server::{Request, Router, Server};

fn main() -> std::io::Result<()> {
    let own = std::env::var("OWN").expect("OWN is set");
    let quote =
        |request: &mut Request| format!("a word on {}", request.param("id").unwrap_or_default());
    Runtime::builder().workers(1).build()?.run(|| {
        Server::builder(Router::new().get("/quotes/{id}", quote))
            .bind(&own)?
            .serve()
    })?;
    Ok(())
}
