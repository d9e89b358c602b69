//! A dump on request from outside: SIGQUIT, as Java's and Go's runtimes have it.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
};

use super::dump;

/// From now on `SIGQUIT` (Ctrl-\ in a terminal, `kill -QUIT`) writes a [`dump`](super::dump()) of all
/// coroutines to standard error, and no longer ends the process with a core dump.
///
/// Starts a thread that does so, once for the process: further calls do nothing. Signals that come while a
/// dump is being written count as one.
///
/// # Errors
/// If the signal cannot be handled or the thread not be started.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// maniple::inspect::dump_on_sigquit()?;
/// # Ok(())
/// # }
/// ```
pub fn dump_on_sigquit() -> io::Result<()> {
    static BEGUN: Mutex<bool> = Mutex::new(false);
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    if *begun {
        return Ok(());
    }
    let (told, tell) = UnixStream::pair()?;
    std::thread::Builder::new()
        .name("maniple-dump".to_owned())
        .spawn(move || dump_when_told(told))?;
    signal_hook::low_level::pipe::register(libc::SIGQUIT, tell)?;
    *begun = true;
    Ok(())
}

fn dump_when_told(mut told: UnixStream) {
    let mut signals = [0; 64];
    loop {
        match told.read(&mut signals) {
            // The other end is closed if the signal could not be handled.
            Ok(0) => return,
            Ok(_) => {
                // Nobody could be told that standard error is closed.
                let _ = io::stderr().write_all(dump().as_bytes());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
