//! An upload into a file, piece by piece: memory stays the same however large the body is.
//!
//! Try it: `cargo run --bin upload`, then `curl -T Cargo.lock http://127.0.0.1:8080/files/lock`.

use std::{env, io};

use maniple::fs::File;
use maniple_server::{Request, Router, Server, StatusCode};

fn store(request: &mut Request) -> io::Result<String> {
    let name = request.param("name").unwrap_or_default();
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(io::Error::other("letters and digits, please"));
    }
    let path = env::temp_dir().join(format!("upload-{name}"));
    let mut file = File::create(&path)?; // on a thread pool, while this coroutine waits
    let bytes = io::copy(&mut request.body(), &mut file)?;
    file.close()?; // a full disk may be told here and not before
    Ok(format!("{bytes} bytes in {}\n", path.display()))
}

fn put(request: &mut Request) -> Result<String, (StatusCode, String)> {
    store(request).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let builder = Server::builder(Router::new().put("/files/{name}", put));
        let builder = builder.max_body_bytes(1 << 30).handle_signals(true);
        let server = builder.bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
