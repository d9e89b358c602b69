//! Whether the process calls what is defined here, and not the C library's.

use std::{
    error::Error,
    ffi::{CStr, c_void},
    fmt,
};

use crate::{children, connection, copying, readiness, time, transfer};

/// Calls that the process does not make here; returned by [`install`](crate::install()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOurs {
    names: Vec<&'static str>,
}

impl NotOurs {
    /// Their names.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "maniple-hook is linked, and the process calls others' {}: a call that waits there would block its worker. \
             The executable itself has to define and export them: it is no shared library that is loaded, its link has \
             no version script, and no --exclude-libs",
            self.names.join(", ")
        )
    }
}

impl Error for NotOurs {}

macro_rules! table {
    ($($module:ident::$name:ident,)*) => {
        /// The calls that are hooked, and where.
        fn table() -> Vec<(&'static CStr, *const c_void)> {
            vec![$((
                // A name has no NUL.
                CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()).unwrap_or_default(),
                $module::$name as *const c_void,
            )),*]
        }
    };
}

table! {
    transfer::recv, transfer::recvfrom, transfer::recvmsg, transfer::send, transfer::sendto, transfer::sendmsg,
    transfer::read, transfer::readv, transfer::write, transfer::writev,
    connection::connect, connection::accept, connection::accept4,
    readiness::poll, readiness::ppoll, readiness::select, readiness::pselect,
    readiness::epoll_wait, readiness::epoll_pwait,
    time::nanosleep, time::clock_nanosleep, time::usleep, time::sleep,
    copying::sendfile, copying::splice,
    children::waitpid, children::waitid, children::wait,
}

/// The calls that are hooked in this build.
pub fn names() -> Vec<&'static str> {
    all()
        .iter()
        .map(|(name, _)| name.to_str().unwrap_or_default())
        .collect()
}

fn all() -> Vec<(&'static CStr, *const c_void)> {
    #[allow(unused_mut)]
    let mut all = table();
    #[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
    {
        all.push((c"getaddrinfo", crate::names::getaddrinfo as *const c_void));
        all.push((c"pthread_join", children::pthread_join as *const c_void));
    }
    #[cfg(target_env = "gnu")]
    {
        all.push((c"sendfile64", copying::sendfile64 as *const c_void));
        all.push((c"__read_chk", transfer::__read_chk as *const c_void));
        all.push((c"__recv_chk", transfer::__recv_chk as *const c_void));
        all.push((c"__recvfrom_chk", transfer::__recvfrom_chk as *const c_void));
        all.push((c"__poll_chk", readiness::__poll_chk as *const c_void));
        all.push((c"__ppoll_chk", readiness::__ppoll_chk as *const c_void));
    }
    if cfg!(target_env = "musl") {
        all.retain(|(name, _)| ![c"recvmsg", c"sendmsg"].contains(name));
    }
    all
}

/// Holds what the process finds under each name against what is defined here.
pub(crate) fn check() -> Result<(), NotOurs> {
    let is_other = |(name, own): &(&CStr, *const c_void)| {
        // Without shared libraries there is nothing to look in, and the linker has chosen.
        // SAFETY: a name, and where to look.
        !cfg!(target_feature = "crt-static")
            && unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.cast_const() != *own
    };
    let others = all().into_iter().filter(is_other);
    let names: Vec<_> = others
        .map(|(name, _)| name.to_str().unwrap_or_default())
        .collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(NotOurs { names }),
    }
}
