//! What the scenes need: processes of this same program, their lines, and signals to them.

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use maniple::net::{PipeReader, TcpStream};
use maniple::process::{Child, Command, Output, Stdio};
use maniple_examples::sockdiag::{Ends, SockDiag, Socket};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Far longer than anything here takes: only a fault reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process of this program in one of its roles; dropping it kills the process.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    says: BufReader<PipeReader>,
}

impl Peer {
    pub fn start(arguments: &[&str]) -> anyhow::Result<Peer> {
        let mut child = command(arguments)?
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start a process")?;
        let says = BufReader::new(child.stdout.take().context("a piped output")?);
        Ok(Peer { child, says })
    }

    /// Starts a server and waits until it listens.
    pub fn serve(listen: &str, more: &[&str]) -> anyhow::Result<(Peer, SocketAddr)> {
        let mut peer = Peer::start(&[&["serve", "--listen", listen], more].concat())?;
        let line = peer.line(|line| line.contains(" listening on "))?;
        let address = line.rsplit(' ').next().unwrap_or_default();
        Ok((peer, address.parse().context("the server's address")?))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that is `wanted`.
    pub fn line(&mut self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut line = String::new();
            let read =
                maniple::deadline(until, || (&mut self.says).take(1000).read_line(&mut line));
            if read.context("a process has not said what it should")?? == 0 {
                bail!("a process ended before it said what it should");
            }
            if wanted(line.trim_end()) {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    /// `kill -STOP`, once it has taken effect: the process exists, and does nothing.
    pub fn stop(&self) -> anyhow::Result<()> {
        let id = self.pid()?;
        kill_process(id, Signal::STOP).context("stop a process")?;
        // The signal reaches one thread after the other; the parent learns when it has reached all.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let stopped = move || waitid(WaitId::Pid(id), options);
        let status = maniple::offload(stopped).context("wait for a process to stop")?;
        ensure!(status?.is_some_and(|status| status.stopped()), "it ended");
        Ok(())
    }

    /// `kill -CONT`
    pub fn go_on(&self) -> anyhow::Result<()> {
        kill_process(self.pid()?, Signal::CONT).context("let a process go on")
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        id.context("a process id")
    }

    /// `kill -9`, and when that was.
    pub fn kill(mut self) -> anyhow::Result<Instant> {
        let at = Instant::now();
        self.child.kill()?;
        self.child.wait()?;
        Ok(at)
    }
}

/// Runs this program in one of its roles to its end.
pub fn output(arguments: &[&str]) -> anyhow::Result<Output> {
    let output = maniple::timeout(PATIENCE, || command(arguments)?.output());
    output
        .context("a process has not ended")?
        .context("run a process")
}

fn command(arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments).env("RUST_LOG", "error");
    Ok(command)
}

/// Looks at the sockets until they are as they are to be.
pub fn see<T>(ends: Ends, look: impl Fn(&[Socket]) -> Option<T>) -> anyhow::Result<T> {
    let diag = SockDiag::open()?;
    let started = Instant::now();
    loop {
        let sockets = diag.sockets(ends)?;
        if let Some(seen) = look(&sockets) {
            return Ok(seen);
        }
        if started.elapsed() > PATIENCE {
            bail!("sockets are not as expected: {sockets:?}");
        }
        maniple::sleep(Duration::from_millis(2));
    }
}

/// A port on which nobody listens, and which nobody is given by chance: it is bound, with `SO_REUSEADDR`.
#[derive(Debug)]
pub struct Reserved {
    socket: OwnedFd,
    pub address: SocketAddr,
}

impl Reserved {
    pub fn any() -> io::Result<Reserved> {
        Reserved::at(SocketAddr::from(([127, 0, 0, 1], 0)), true)
    }

    /// Binds without listening.
    pub fn at(address: SocketAddr, reuse_address: bool) -> io::Result<Reserved> {
        let (inet, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(inet, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&socket, reuse_address)?;
        rustix::net::bind(&socket, &address)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
        Ok(Reserved { socket, address })
    }

    pub fn listen(&self) -> io::Result<()> {
        Ok(rustix::net::listen(&self.socket, 16)?)
    }

    /// Calls the very port it is bound to, as a client does whom the kernel gives that port by chance.
    pub fn call_itself(self) -> io::Result<TcpStream> {
        rustix::net::connect(&self.socket, &self.address)?;
        TcpStream::try_from(std::net::TcpStream::from(self.socket))
    }
}
