//! maniple-server as it comes: parser, router, date, limits and timeouts.

use anyhow::Result;
use maniple_server::{Request, Router, Server};

use super::{ANY_PORT, BODY, announce};

pub(super) fn serve() -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let router = Router::new().get("/", |_: &mut Request| BODY);
        let server = Server::builder(router).bind(ANY_PORT)?;
        announce(server.local_addr());
        server.serve()
    })?;
    Ok(())
}
