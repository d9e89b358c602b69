//! Clients that others have written, over TCP: Python's `websockets`, Node's `ws` and undici, Chromium. `.ci/run clients`
//! installs them and runs these.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use maniple::Runtime;
use maniple_server::{
    Html, Request, Router, Server, ServerHandle,
    websocket::{self, Settings},
};

use super::raw::{LONG, echo};

/// Where `.ci/run` puts them.
fn tools() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ci-tools/clients");
    env::var_os("MANIPLE_CLIENTS").map_or(installed, PathBuf::from)
}

struct Serving {
    handle: ServerHandle,
    /// What a page has found out.
    results: Receiver<String>,
    _runtime: Runtime,
}

impl Serving {
    fn start() -> Self {
        let settings = Settings::new()
            .protocols(["v2", "v1"])
            .max_message(1 << 21)
            .max_frame(1 << 21);
        let (found, results) = channel();
        let router = Router::new()
            .get("/result", move |request: &mut Request| {
                let text = request.query_param("text").unwrap_or_default();
                found.send(text.into_owned()).unwrap();
            })
            .get("/", |_: &mut Request| {
                Html(include_str!("clients/page.html"))
            })
            .get("/echo", move |request: &mut Request| {
                settings.upgrade(request, echo)
            })
            // Ends as soon as the client has said something.
            .get("/end", |request: &mut Request| {
                websocket::upgrade(request, |socket| {
                    let code = socket
                        .receive()?
                        .and_then(|code| code.as_text()?.parse().ok());
                    Ok(socket.close(code.unwrap_or(1000), "as you like")?)
                })
            });
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = Server::builder(router);
        let server = runtime.run(|| server.bind("127.0.0.1:0")).unwrap();
        let handle = server.handle();
        drop(runtime.spawn(move || server.serve()));
        Self {
            handle,
            results,
            _runtime: runtime,
        }
    }

    /// What a client prints that is told the address.
    fn seen_by(&self, command: &mut Command) -> String {
        let address = self.handle.local_addr().to_string();
        let output = command.arg(&address).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

#[test]
#[ignore = "needs what .ci/run clients installs"]
fn pythons_websockets_is_served() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket/clients/client.py");
    let mut command = Command::new(tools().join("python/bin/python"));
    let seen = Serving::start().seen_by(command.arg(program));
    assert_eq!(
        seen,
        "echoes 7\nfragments whole\npong in time\nprotocol v2\nclosed 4321 as you like\n"
    );
}

#[test]
#[ignore = "needs what .ci/run clients installs"]
fn nodes_clients_are_served() {
    for client in ["ws", "undici"] {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket/clients/client.mjs");
        // Packages are looked for where the program lies.
        let here = tools().join("client.mjs");
        std::fs::copy(program, &here).unwrap();
        let mut command = Command::new("node");
        let seen = Serving::start().seen_by(command.arg(here).arg(client));
        assert_eq!(
            seen, "echoes 7\nprotocol v2\nclosed 4321 as you like\n",
            "{client}"
        );
    }
}

#[test]
#[ignore = "needs what .ci/run clients installs"]
fn chromium_is_served_and_has_its_close_at_once() {
    let serving = Serving::start();
    let profile = env::temp_dir().join(format!("maniple-chromium-{}", std::process::id()));
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        // So that it stays.
        .arg("--remote-debugging-port=0")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{}/", serving.handle.local_addr()))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut browser = command.spawn().unwrap();
    let result = serving.results.recv_timeout(LONG);
    browser.kill().unwrap();
    browser.wait().unwrap();
    let _ = std::fs::remove_dir_all(profile);
    let expected = "echoes 3, closed 4321 as you like, at once";
    assert_eq!(result.as_deref(), Ok(expected));
}
