//! may_minihttp on one worker of may.

use std::{io, net::TcpListener};

use anyhow::{Result, anyhow};
use may_minihttp::{HttpServer, HttpService, Request, Response};

use super::{ANY_PORT, BODY, announce};

#[derive(Clone)]
struct Hello;

impl HttpService for Hello {
    fn call(&mut self, _: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        response.header("content-type: text/plain; charset=utf-8");
        response.body(BODY);
        Ok(())
    }
}

pub(super) fn serve() -> Result<()> {
    may::config().set_workers(1);
    // It binds for itself and does not tell where, hence a port that was free a moment ago.
    let address = TcpListener::bind(ANY_PORT)?.local_addr()?;
    let server = HttpServer(Hello).start(address)?;
    announce(address);
    server
        .join()
        .map_err(|_| anyhow!("the accepting coroutine panicked"))
}
