//! maniple-server as it comes: parser, router, date, limits and timeouts.

use anyhow::Result;
use maniple_server::{Request, Router, Server};

use super::{
    BODY, Listening, announce,
    routes::{self, CPU, WHERE},
};

pub(super) fn serve(listening: &Listening) -> Result<()> {
    serve_router(listening, 1, Router::new().get("/", |_: &mut Request| BODY))
}

pub(super) fn serve_with_workers(listening: &Listening, workers: usize) -> Result<()> {
    let router = Router::new()
        .get("/", |_: &mut Request| BODY)
        .get(CPU, |request: &mut Request| {
            routes::answer(CPU, request.query())
        })
        .get(WHERE, |request: &mut Request| {
            routes::answer(WHERE, request.query())
        });
    serve_router(listening, workers, router)
}

pub(super) fn serve_router(listening: &Listening, workers: usize, router: Router) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(workers).build()?;
    runtime.run(|| {
        let mut server = Server::builder(router);
        if let Some(patience) = listening.idle() {
            server = server.idle_timeout(patience);
        }
        let server = server.bind(listening.listen)?;
        announce(server.local_addr());
        server.serve()
    })?;
    Ok(())
}
