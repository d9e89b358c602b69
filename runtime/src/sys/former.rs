//! What handled a signal before us: called for those that are not ours.

use std::{
    io, mem,
    mem::MaybeUninit,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The action that a signal had when ours was installed.
pub(crate) struct Former {
    signal: libc::c_int,
    action: OnceLock<libc::sigaction>,
    /// It was to be called once (`SA_RESETHAND`), and has been.
    spent: AtomicBool,
}

/// What became of a signal that was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Handled,
    /// It was to be ignored.
    Ignored,
    /// It was to meet the default action.
    Default,
}

impl Former {
    pub(crate) const fn of(signal: libc::c_int) -> Self {
        Self {
            signal,
            action: OnceLock::new(),
            spent: AtomicBool::new(false),
        }
    }

    pub(crate) fn signal(&self) -> libc::c_int {
        self.signal
    }

    /// Installs `handler`, to be called on the alternate stack with these flags beside, and keeps what there was.
    /// To be called once.
    ///
    /// # Safety
    /// `handler` keeps to what a handler may do.
    pub(crate) unsafe fn replace(&self, handler: Handler, flags: libc::c_int) -> io::Result<()> {
        let mut former = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: asks for the current action, which the kernel writes whole.
        let former = unsafe {
            match libc::sigaction(self.signal, ptr::null(), former.as_mut_ptr()) {
                0 => former.assume_init(),
                _ => return Err(io::Error::last_os_error()),
            }
        };
        // Kept before our handler can run, since a signal may follow at once.
        let _ = self.action.set(former);

        // SAFETY: all zeroes is a valid action: the default one, with an empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
        // SAFETY: it has the signature that SA_SIGINFO asks for, and keeps to what a handler may do by the
        // caller's promise.
        match unsafe { libc::sigaction(self.signal, &action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Calls the former handler, if there was one, as the kernel would have.
    ///
    /// # Safety
    /// Only for a signal handler, with the arguments it was called with.
    pub(crate) unsafe fn pass_on(
        &self,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) -> Passed {
        let Some(former) = self.action.get() else {
            return Passed::Default;
        };
        let handler = match former.sa_sigaction {
            libc::SIG_DFL => return Passed::Default,
            libc::SIG_IGN => return Passed::Ignored,
            handler => handler,
        };
        if former.sa_flags & libc::SA_RESETHAND != 0 && self.spent.swap(true, Ordering::Relaxed) {
            return Passed::Default;
        }
        // SAFETY: the former action's mask and handler are used as the kernel would have used them. The mask
        // needs no restoring: returning from our handler does that. Its stack is ours, which is the better one
        // to have if it had not asked for the alternate.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &former.sa_mask, ptr::null_mut());
            if former.sa_flags & libc::SA_NODEFER != 0 {
                let mut signal = MaybeUninit::uninit();
                libc::sigemptyset(signal.as_mut_ptr());
                libc::sigaddset(signal.as_mut_ptr(), self.signal);
                libc::pthread_sigmask(libc::SIG_UNBLOCK, signal.as_ptr(), ptr::null_mut());
            }
            if former.sa_flags & libc::SA_SIGINFO != 0 {
                mem::transmute::<usize, Handler>(handler)(self.signal, info, context);
            } else {
                mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler)(self.signal);
            }
        }
        Passed::Handled
    }
}
