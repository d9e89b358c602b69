//! Processes made by `fork`: starting one, and learning which have ended.

use std::{io, os::unix::fs::MetadataExt};

use rustix::process::{Pid, WaitOptions, getpid, getppid, wait};

use crate::site::end_with_parent;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Fork {
    /// The new one. It ends with its parent, and should end with [`std::process::exit`]:
    /// whatever stands above on the stack was meant for the parent.
    Child,
    /// The old one, and the new one's number.
    Parent(Pid),
}

/// Makes a second process of this one.
///
/// # Errors
///
/// If the kernel gives no further process, or this one has several threads: the others
/// would be missing in the child, with whatever they had locked at that moment locked for
/// good.
pub fn fork() -> io::Result<Fork> {
    let threads = threads()?;
    if threads != 1 {
        let why = format!("a process with {threads} threads cannot fork safely");
        return Err(io::Error::other(why));
    }
    let parent = getpid();
    // SAFETY: this is the only thread, so that the child finds no lock held and no
    // structure half changed.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // A parent that ended before it could be bound to is not this one's parent any more.
            if end_with_parent().is_err() || getppid() != Some(parent) {
                std::process::exit(1);
            }
            Ok(Fork::Child)
        }
        child => Ok(Fork::Parent(
            Pid::from_raw(child).expect("fork says a number above zero"),
        )),
    }
}

/// A child that has ended, if there is one that was not yet asked for. Does not wait.
pub fn ended() -> io::Result<Option<Pid>> {
    match wait(WaitOptions::NOHANG) {
        Ok(ended) => Ok(ended.map(|(child, _)| child)),
        Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a child ends.
///
/// # Errors
///
/// If there is none.
pub fn next_to_end() -> io::Result<Pid> {
    loop {
        if let Some((child, _)) = rustix::io::retry_on_intr(|| wait(WaitOptions::empty()))? {
            return Ok(child);
        }
    }
}

/// How many threads this process has: what the kernel says for the price of one call.
fn threads() -> io::Result<u64> {
    let directory = std::fs::metadata("/proc/self/task")?;
    // Each is a directory there, and links to it; two links every directory has.
    Ok(directory.nlink() - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_does_not_fork() {
        std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || ended.recv());
            let refused = fork().expect_err("there are two threads at least");
            drop(end);
            assert!(refused.to_string().ends_with("cannot fork safely"));
        });
    }
}
