//! One instance: the process that listens on the port is it. The kernel keeps the lock and lets go of it, however
//! the process ends.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use maniple::net::{TcpListener, ToSocketAddrs as _};
use maniple_examples::sockdiag::{Ends, SockDiag, Socket, State};

/// Who listens on a port already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Process {
        id: u32,
        name: String,
    },
    /// Its descriptors are not ours to read.
    User {
        id: u32,
    },
}

/// Listens as the only one; the error of a second instance says who the first is.
///
/// `SO_REUSEADDR`, which is set, lets a successor in while old connections linger. `SO_REUSEPORT` is not
/// set: with it, all instances would get the port.
pub fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = address
                .to_socket_addrs()
                .ok()
                .and_then(|all| all.into_iter().find_map(|one| holder(one).ok().flatten()));
            match holder {
                Some(holder) => io::Error::new(
                    error.kind(),
                    format!("{address} is in use: {holder} listens there; stop it, or choose another port"),
                ),
                None => error,
            }
        }
        _ => error,
    })
}

/// Who listens where `address` would: there, or on all addresses.
pub fn holder(address: SocketAddr) -> io::Result<Option<Holder>> {
    let sockets = SockDiag::open()?.sockets(Ends::At(address))?;
    let in_the_way = |socket: &&Socket| {
        let ips = [socket.local.ip(), address.ip()];
        socket.state == State::LISTEN
            && (ips[0] == ips[1] || ips.iter().any(|ip| ip.is_unspecified()))
    };
    let Some(listening) = sockets.iter().find(in_the_way) else {
        return Ok(None);
    };
    Ok(Some(
        process_of(listening.inode)?.unwrap_or(Holder::User { id: listening.uid }),
    ))
}

/// Looks for the process that has the socket among its descriptors (proc_pid_fd(5)).
fn process_of(inode: u32) -> io::Result<Option<Holder>> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(id) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Another user's process, or one that has just ended: not readable, and passed over.
        let descriptors = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        let holds = |link: &Path| fs::read_link(link).is_ok_and(|to| to == Path::new(&wanted));
        if descriptors.flatten().any(|entry| holds(&entry.path())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name = name.trim_end().to_owned();
            return Ok(Some(Holder::Process { id, name }));
        }
    }
    Ok(None)
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Process { id, name } => write!(f, "process {id} ({name})"),
            Holder::User { id } => write!(f, "a process of user {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_also_when_it_listens_on_all_addresses() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holder(([127, 0, 0, 1], port).into()).unwrap();
        let Some(Holder::Process { id, .. }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(id, std::process::id());
        drop(listener);
    }

    #[test]
    fn who_listens_on_another_address_is_not_in_the_way() {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder(([127, 0, 0, 3], port).into()).unwrap(), None);
    }
}
