//! maniple-server as it comes: parser, router, date, limits and timeouts.

use anyhow::Result;
use maniple_server::{Request, Router, Server};

use super::{
    ANY_PORT, BODY, announce,
    routes::{self, CPU, WHERE},
};

pub(super) fn serve() -> Result<()> {
    serve_router(1, Router::new().get("/", |_: &mut Request| BODY))
}

pub(super) fn serve_with_workers(workers: usize) -> Result<()> {
    let router = Router::new()
        .get("/", |_: &mut Request| BODY)
        .get(CPU, |request: &mut Request| {
            routes::answer(CPU, request.query())
        })
        .get(WHERE, |request: &mut Request| {
            routes::answer(WHERE, request.query())
        });
    serve_router(workers, router)
}

fn serve_router(workers: usize, router: Router) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(workers).build()?;
    runtime.run(|| {
        let server = Server::builder(router).bind(ANY_PORT)?;
        announce(server.local_addr());
        server.serve()
    })?;
    Ok(())
}
