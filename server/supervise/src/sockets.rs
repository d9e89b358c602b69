//! The sockets that a service listens on, by name: systemd's, a supervisor's, or opened here.

use std::{
    env, fs, io,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use maniple::net::TcpListener;

/// A name and where to listen.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) address: String,
}

/// A socket and its name.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) socket: OwnedFd,
    /// A file that goes with it, of a Unix-domain socket that was opened here.
    pub(crate) file: Option<PathBuf>,
}

impl Named {
    /// Removes what is left of it in the file system.
    pub(crate) fn remove_file(&self) {
        if let Some(path) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

pub(crate) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Names stand in a line, with blanks between them.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let is_good = |c: char| c.is_ascii_graphic() && c != ':';
    match !name.is_empty() && name.len() <= 64 && name.chars().all(is_good) {
        true => Ok(()),
        false => Err(invalid(format!(
            "a socket's name is up to 64 letters, digits and signs without blank or colon, not {name:?}"
        ))),
    }
}

/// All that are wanted: each that systemd has passed under its name, the others opened. Where systemd passed as many as
/// are wanted and none under a name of these, they are taken in their order.
pub(crate) fn open(wanted: &[Wanted]) -> io::Result<Vec<Named>> {
    let mut passed = passed_by_systemd();
    let knows = |wanted: &Wanted| passed.iter().any(|(name, _)| *name == wanted.name);
    let in_order = passed.len() == wanted.len() && !wanted.iter().any(knows);
    let mut open = Vec::new();
    for wanted in wanted {
        let index = match in_order {
            true => Some(0),
            false => passed.iter().position(|(name, _)| *name == wanted.name),
        };
        let name = wanted.name.clone();
        open.push(match index {
            Some(index) => Named {
                name,
                socket: passed.remove(index).1,
                file: None,
            },
            None => bind(name, &wanted.address)?,
        });
    }
    for (name, _) in passed {
        log::warn!("systemd passed a socket {name:?}, which nothing here listens on: it is closed");
    }
    Ok(open)
}

/// sd_listen_fds_with_names(3).
fn passed_by_systemd() -> Vec<(String, OwnedFd)> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // Asks for whom they are (`LISTEN_PID`), and sees to it that nobody takes them twice.
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = match passed.take_tcp_listener(index) {
            Ok(Some(listener)) => Some(OwnedFd::from(listener)),
            _ => match passed.take_unix_listener(index) {
                Ok(Some(listener)) => Some(OwnedFd::from(listener)),
                _ => None,
            },
        };
        match socket {
            Some(socket) => sockets.push((name, socket)),
            None => log::warn!("systemd passed {name:?}, which is no listening stream socket"),
        }
    }
    sockets
}

/// Listens: `host:port`, `unix:/path` or `unix:@name`.
fn bind(name: String, address: &str) -> io::Result<Named> {
    let named = |socket, file| Named { name, socket, file };
    let at = |error: io::Error| io::Error::new(error.kind(), format!("bind {address}: {error}"));
    let Some(place) = address.strip_prefix("unix:") else {
        return Ok(named(TcpListener::bind(address)?.into(), None));
    };
    if let Some(abstract_name) = place.strip_prefix('@') {
        let address = UnixAddr::from_abstract_name(abstract_name).map_err(at)?;
        let listener = UnixListener::bind_addr(&address).map_err(at)?;
        return Ok(named(listener.into(), None));
    }
    let listener = bind_file(Path::new(place)).map_err(at)?;
    Ok(named(listener.into(), Some(place.into())))
}

/// Listens at a path, in place of a socket there that nobody listens on any more.
pub(crate) fn bind_file(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match UnixStream::connect(path) {
            Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            _ => Err(error),
        },
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, address: &str) -> Wanted {
        Wanted {
            name: name.into(),
            address: address.into(),
        }
    }

    #[test]
    fn names_that_would_break_a_list_are_refused() {
        check_name("http").unwrap();
        for name in ["", "a b", "a:b", "a\nb", "ä"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_is_not() {
        let path = env::temp_dir().join(format!("maniple sockets {}", std::process::id()));
        let address = format!("unix:{}", path.display());
        drop(UnixListener::bind(&path).unwrap());
        let open = open(&[wanted("http", &address)]).unwrap();
        let again = bind("http".into(), &address).unwrap_err();
        assert!(again.to_string().starts_with("bind unix:/"), "{again}");
        open[0].remove_file();
        assert!(!path.exists());
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind("http".into(), &address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("bind {address}")), "{error}");
    }
}
