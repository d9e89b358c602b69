//! WebSocket: an echo, and a page that talks to it.
//!
//! Try it: `cargo run --bin websocket`, then open http://127.0.0.1:8080/ in a browser.

use std::{env, io};

use maniple_server::{Html, Request, Response, Router, Server, websocket};

const PAGE: &str = r#"<!doctype html><title>Echo</title>
<input placeholder="say something"><pre></pre>
<script>
const [input, output] = ["input", "pre"].map(name => document.querySelector(name));
const socket = new WebSocket(`ws://${location.host}/echo`);
socket.onmessage = event => output.textContent += event.data + "\n";
socket.onclose = event => output.textContent += `closed with ${event.code}\n`;
input.onchange = () => { socket.send(input.value); input.value = ""; };
</script>"#;

fn echo(request: &mut Request) -> Response {
    websocket::upgrade(request, |socket| {
        while let Some(message) = socket.receive()? {
            socket.send(message)?;
        }
        Ok(())
    })
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let router = Router::new()
            .get("/", |_: &mut Request| Html(PAGE))
            .get("/echo", echo);
        let server = Server::builder(router)
            .handle_signals(true) // Ctrl-C says 1001 to those that are connected
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
