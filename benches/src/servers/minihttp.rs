//! may_minihttp on one may worker.

use std::io;

use anyhow::{Result, anyhow};
use may_minihttp::{HttpServer, HttpService, Request, Response};

use super::BODY;

#[derive(Clone)]
struct Hello;

impl HttpService for Hello {
    fn call(&mut self, _: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        response.header("Content-Type: text/plain; charset=utf-8");
        response.body(BODY);
        Ok(())
    }
}

pub(super) fn serve(port: u16) -> Result<()> {
    may::config().set_workers(1).set_pool_capacity(5_000);
    let server = HttpServer(Hello).start(("127.0.0.1", port))?;
    server.join().map_err(|_| anyhow!("the server panicked"))
}
