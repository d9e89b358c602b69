//! Memory of this process, read by way of the kernel: where there is none it says so, and nothing faults.
//!
//! So one may look at memory that is not one's own: a thread's stack while that runs, an object that may be unloaded.
//! What others write meanwhile comes as it happens to be.

use std::{fs::File, io, sync::OnceLock};

use rustix::io::Errno;

/// Makes [`read`] possible, as far as that depends on the process: `/proc` may be missing, or closed to it.
///
/// A handler of a signal may only read after this.
pub(crate) fn open() -> io::Result<()> {
    if OPEN.get().is_none() {
        let _ = OPEN.set(File::open("/proc/self/mem")?);
    }
    Ok(())
}

static OPEN: OnceLock<File> = OnceLock::new();

/// Fills `bytes` with what lies at `address`. Takes no lock and allocates nothing.
///
/// # Errors
/// If some of it cannot be read, or nothing can since [`open`] has had no success.
pub(crate) fn read(address: usize, bytes: &mut [u8]) -> rustix::io::Result<()> {
    let memory = OPEN.get().ok_or(Errno::BADF)?;
    let mut done = 0;
    while done < bytes.len() {
        let at = address.checked_add(done).ok_or(Errno::FAULT)?;
        match rustix::io::pread(memory, &mut bytes[done..], at as u64) {
            Ok(0) => return Err(Errno::FAULT),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_an_error() {
        open().unwrap();
        let there: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut copy = vec![0; there.len()];
        read(there.as_ptr().addr(), &mut copy).unwrap();
        assert_eq!(copy, there);
        for nowhere in [0, 8, usize::MAX - 8, usize::MAX, isize::MAX as usize] {
            assert!(read(nowhere, &mut [0; 16]).is_err(), "{nowhere:#x}");
        }
    }
}
