//! `getaddrinfo`, which asks servers for names by ways that nobody can hook: the whole call is made on a thread that is
//! there for it.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    io,
    mem::{ManuallyDrop, transmute},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use libc::addrinfo;
use maniple::hook;

use crate::{
    caller::{self, is_plain, may_wait},
    raw,
};

type GetAddrInfo = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const addrinfo,
    *mut *mut addrinfo,
) -> c_int;

/// getaddrinfo(3). A wait that is cut short fails with `EAI_SYSTEM`, and errno says why.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    found: *mut *mut addrinfo,
) -> c_int {
    let Some(real) = real() else {
        raw::fail(libc::ENOSYS);
        return libc::EAI_SYSTEM;
    };
    if is_plain() || !may_wait() {
        // SAFETY: passed on to the caller.
        return unsafe { real(node, service, hints, found) };
    }
    // The call may be left behind, and then its caller's memory is gone.
    // SAFETY: passed on to the caller.
    let owned = |text: *const c_char| unsafe {
        (!text.is_null()).then(|| CString::from(CStr::from_ptr(text)))
    };
    let (node, service) = (owned(node), owned(service));
    // SAFETY: passed on to the caller.
    let hints = unsafe { hints.as_ref() };
    let hints = hints.map(|it| [it.ai_flags, it.ai_family, it.ai_socktype, it.ai_protocol]);
    let looked_up = hook::look_up(move || look_up(real, node, service, hints));
    match looked_up {
        Ok(Ok(list)) => {
            // SAFETY: passed on to the caller, who frees it.
            unsafe { *found = list.release() };
            0
        }
        Ok(Err((failed, errno))) => {
            raw::fail(errno);
            failed
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => libc::EAI_AGAIN,
        Err(error) => {
            match caller::interrupt_of(&error) {
                Some(interrupt) => raw::told(caller::cut(interrupt)),
                None => raw::fail(error.raw_os_error().unwrap_or(libc::EAGAIN)),
            };
            libc::EAI_SYSTEM
        }
    }
}

fn look_up(
    real: GetAddrInfo,
    node: Option<CString>,
    service: Option<CString>,
    hints: Option<[c_int; 4]>,
) -> Result<List, (c_int, c_int)> {
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    let hints = hints.map(|[flags, family, kind, protocol]| {
        // SAFETY: zero is nothing in each of its fields.
        let mut hints: addrinfo = unsafe { std::mem::zeroed() };
        (hints.ai_flags, hints.ai_family) = (flags, family);
        (hints.ai_socktype, hints.ai_protocol) = (kind, protocol);
        hints
    });
    let hints = hints
        .as_ref()
        .map_or(ptr::null(), |hints| &raw const *hints);
    let mut list = ptr::null_mut();
    // SAFETY: texts and hints of ours, and room for the list.
    let failed = unsafe { real(pointer(&node), pointer(&service), hints, &raw mut list) };
    match failed {
        0 => Ok(List(list)),
        // SAFETY: this thread's.
        failed => Err((failed, unsafe { *libc::__errno_location() })),
    }
}

/// What was found, to be freed unless it is handed on.
struct List(*mut addrinfo);

// SAFETY: a list on the heap, of one owner.
unsafe impl Send for List {}

impl List {
    fn release(self) -> *mut addrinfo {
        ManuallyDrop::new(self).0
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: its own, from the C library.
        unsafe { libc::freeaddrinfo(self.0) };
    }
}

/// The C library's own. `install` looks for it, so that no call from a coroutine has to.
pub(crate) fn real() -> Option<GetAddrInfo> {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    let mut found = REAL.load(Ordering::Relaxed);
    if found.is_null() {
        // SAFETY: a name, and where to look.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr()) };
        REAL.store(found, Ordering::Relaxed);
    }
    // SAFETY: a function of that name has that type.
    (!found.is_null()).then(|| unsafe { transmute::<*mut c_void, GetAddrInfo>(found) })
}
