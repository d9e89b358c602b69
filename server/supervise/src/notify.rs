//! systemd is told how a service does: sd_notify(3), for services of `Type=notify` and `Type=notify-reload`.
//!
//! A [`Supervisor`](crate::Supervisor) and a [`Worker`](crate::Worker) tell it by themselves. What is here is for services
//! that have neither. Where no one listens, nothing is sent.
//!
//! # Examples
//! ```
//! use maniple_supervise::notify;
//! # fn main() -> std::io::Result<()> {
//! maniple::run(|| {
//!     let _watchdog = notify::watchdog()?; // says that the runtime runs, if systemd wants to know
//!     notify::ready()?;
//!     notify::status("12 rooms")?;
//!     notify::stopping()
//! })
//! # }
//! ```

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

use maniple::{JoinHandle, task};
use rustix::time::{ClockId, clock_gettime};

/// The service has started, or has read its settings again.
///
/// # Errors
/// If somebody listens and it cannot be sent.
pub fn ready() -> io::Result<()> {
    tell("READY=1")
}

/// The service reads its settings again; [`ready`] is to follow.
///
/// # Errors
/// If somebody listens and it cannot be sent.
pub fn reloading() -> io::Result<()> {
    tell(&reloading_text())
}

fn reloading_text() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    format!("RELOADING=1\nMONOTONIC_USEC={micros}")
}

/// The service has begun to end.
///
/// # Errors
/// If somebody listens and it cannot be sent.
pub fn stopping() -> io::Result<()> {
    tell("STOPPING=1")
}

/// What the service is doing, in a line for people.
///
/// # Errors
/// If somebody listens and it cannot be sent.
pub fn status(text: &str) -> io::Result<()> {
    tell(&format!("STATUS={}", crate::message::one_line(text)))
}

/// Sends assignments, one a line, as sd_notify(3) lists them.
///
/// # Errors
/// If somebody listens and it cannot be sent.
pub fn tell(assignments: &str) -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(place) if !place.is_empty() => tell_at(place.as_encoded_bytes(), assignments),
        _ => Ok(()),
    }
}

/// To the socket at a path, or by a name that begins with `@`.
fn tell_at(place: &[u8], assignments: &str) -> io::Result<()> {
    let address = match place.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => {
            use std::os::unix::ffi::OsStrExt;
            SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(place)))?
        }
    };
    let socket = UnixDatagram::unbound()?;
    // Who does not read is not waited for: a watchdog's next message says the same.
    socket.set_nonblocking(true)?;
    match socket.send_to_addr(assignments.as_bytes(), &address) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            log::warn!("systemd's socket is full: {assignments:?} is not sent");
            Ok(())
        }
        sent => sent.map(drop),
    }
}

/// How often systemd wants to hear that the service is alive: half of `WATCHDOG_USEC`, if that is meant for this process.
pub fn watchdog_interval() -> Option<Duration> {
    let of = |name| env::var(name).ok()?.parse::<u64>().ok();
    let meant_for = of("WATCHDOG_PID");
    if env::var_os("NOTIFY_SOCKET").is_none()
        || meant_for.is_some_and(|pid| pid != u64::from(std::process::id()))
    {
        return None;
    }
    let micros = of("WATCHDOG_USEC").filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros / 2))
}

/// Says `WATCHDOG=1` twice in the time in which systemd wants to hear it, from a coroutine of the caller's runtime, until
/// it is dropped. Nothing if systemd does not want to hear it.
///
/// As it is a coroutine, a runtime whose workers are held up says nothing, and systemd restarts the service.
///
/// # Errors
/// If there is no stack for the coroutine.
pub fn watchdog() -> io::Result<Watchdog> {
    let Some(interval) = watchdog_interval() else {
        return Ok(Watchdog(None));
    };
    let alive = task::Builder::new()
        .name("systemd watchdog")
        .spawn(move || {
            loop {
                if let Err(error) = tell("WATCHDOG=1") {
                    log::warn!("systemd's watchdog: {error}");
                }
                maniple::sleep(interval);
            }
        })?;
    Ok(Watchdog(Some(alive)))
}

/// Ends the coroutine of [`watchdog`] when it is dropped.
#[derive(Debug)]
#[must_use = "the watchdog is told nothing more once this is dropped"]
pub struct Watchdog(Option<JoinHandle<()>>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(alive) = &self.0 {
            alive.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let patience = Some(Duration::from_secs(60));
        socket.set_read_timeout(patience).unwrap();
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_is_found_by_its_path_and_by_its_name() {
        let name = format!("maniple notify {}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        tell_at(format!("@{name}").as_bytes(), "READY=1").unwrap();
        assert_eq!(heard(&listening), "READY=1");

        let path = env::temp_dir().join(name);
        let listening = UnixDatagram::bind(&path).unwrap();
        let told = tell_at(path.as_os_str().as_encoded_bytes(), "STOPPING=1");
        std::fs::remove_file(&path).unwrap();
        told.unwrap();
        assert_eq!(heard(&listening), "STOPPING=1");
    }

    #[test]
    fn one_who_does_not_read_is_not_waited_for() {
        let name = format!("maniple silent {}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _silent = UnixDatagram::bind_addr(&address).unwrap();
        for _ in 0..5000 {
            tell_at(format!("@{name}").as_bytes(), "WATCHDOG=1").unwrap();
        }
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let text = reloading_text();
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
    }
}
