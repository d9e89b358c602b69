//! may_minihttp, on one worker of may or on several.

use std::{
    io::{self, ErrorKind},
    net::TcpListener,
};

use anyhow::{Result, anyhow};
use may_minihttp::{HttpServer, HttpService, Request, Response};

use super::{BODY, Listening, announce, routes};

#[derive(Clone)]
struct Hello;

impl HttpService for Hello {
    fn call(&mut self, _: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        response.header("content-type: text/plain; charset=utf-8");
        response.body(BODY);
        Ok(())
    }
}

/// Knows the routes of `compare skew`.
#[derive(Clone)]
struct Routes;

impl HttpService for Routes {
    fn call(
        &mut self,
        request: Request<'_, '_, '_>,
        response: &mut Response<'_>,
    ) -> io::Result<()> {
        let body = routes::answer_target(request.path()).ok_or(ErrorKind::NotFound)?;
        response.header("content-type: text/plain; charset=utf-8");
        response.body_mut().extend_from_slice(body.as_bytes());
        Ok(())
    }
}

pub(super) fn serve(listening: &Listening) -> Result<()> {
    serve_service(listening, 1, Hello)
}

pub(super) fn serve_with_workers(listening: &Listening, workers: usize) -> Result<()> {
    serve_service(listening, workers, Routes)
}

fn serve_service<S>(listening: &Listening, workers: usize, service: S) -> Result<()>
where
    S: HttpService + Clone + Send + Sync + 'static,
{
    may::config().set_workers(workers);
    // It binds for itself and does not tell where, hence a port that was free a moment ago.
    let address = TcpListener::bind(listening.listen)?.local_addr()?;
    let server = HttpServer(service).start(address)?;
    announce(address);
    server
        .join()
        .map_err(|_| anyhow!("the accepting coroutine panicked"))
}
