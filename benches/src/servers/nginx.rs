//! nginx, where it is installed: files, and their compression, by one process on one core.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::process::Child;

/// Where Debian has it, which is on the path of administrators alone.
const PLACES: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// Its program and version, if there is one.
pub(crate) fn here() -> Option<(&'static str, String)> {
    PLACES.iter().find_map(|&program| {
        let told = Command::new(program)
            .arg("-v")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let version = String::from_utf8_lossy(&told.stderr);
        let (_, version) = version.trim().rsplit_once('/')?;
        Some((program, version.to_owned()))
    })
}

/// Serves the files of `root`, as Debian's settings have it: by sendfile(2), and packets filled. Beside that it keeps files
/// open, which it does not by itself.
pub(crate) fn start(root: &Path) -> Result<(Child, SocketAddr)> {
    let (program, _) = here().context("nginx is not installed")?;
    // Free a moment ago: the kernel hands ports out in turn.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = root.join("nginx");
    fs::create_dir_all(&folder)?;
    let (root, own) = (root.display(), folder.display());
    let settings = format!(
        "daemon off; master_process off; pid {own}/pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000;
    open_file_cache max=100; types {{ application/json json; }}
    gzip on; gzip_types application/json; gzip_comp_level 6; gzip_min_length 256;
    client_body_temp_path {own}/1; proxy_temp_path {own}/2; fastcgi_temp_path {own}/3;
    uwsgi_temp_path {own}/4; scgi_temp_path {own}/5;
    server {{ listen {address} backlog=4096; root {root}; }}
}}
"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, settings)?;
    let mut command = Command::new(program);
    command.args(["-p", &own.to_string(), "-c"]).arg(&file);
    let mut child = Child::start_on_first_core(&mut command).context("starting nginx")?;
    let patience = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        if let Some(cause) = child.ended() {
            return Err(cause.context("nginx ended"));
        }
        if Instant::now() > patience {
            bail!("nginx does not listen");
        }
        maniple::sleep(Duration::from_millis(5));
    }
    Ok((child, address))
}
