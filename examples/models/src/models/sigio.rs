//! Signal-driven input and output: the kernel sends a signal for each event on a socket,
//! and one thread waits for signals.
//!
//! Each socket is told whom to signal, and with which signal. It is one of the real-time
//! signals, which are queued and say for which descriptor they were sent. They stay
//! blocked, so no handler ever runs: the thread takes them from the queue, one by one,
//! where it waits. The queue has a bound; beyond it all that comes is one `SIGIO`, which
//! says that something was lost.

use std::{
    collections::HashMap,
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    process, ptr,
};

use libc::{c_int, c_long, siginfo_t, sigset_t, timespec};

use super::{
    Client, Model, Service,
    multiplex::{Host, LISTENER, Sessions},
};
use crate::site::{Door, Site};

fn serve(site: &Site) -> io::Result<()> {
    let mut signals = Signals::block()?;
    let mut door = Door::new(site.listen()?)?;
    signals.watch(door.as_fd(), LISTENER)?;
    let mut sessions = Sessions::new(site.backends, signals);
    // Who knocked before the listener was watched has sent no signal.
    sessions.accept(&mut door);
    loop {
        let more = sessions.turn();
        // ① The only place where this process waits; then it takes what else is queued.
        // Often several signals are about one client, who is attended to once.
        let mut waits = !more;
        for _ in 0..SIGNALS_AT_ONCE {
            match sessions.host.next(waits)? {
                Some(Signal::About(LISTENER)) => sessions.accept(&mut door),
                Some(Signal::About(whose)) => sessions.on_event(whose),
                // ② First the queue is emptied, then everything is looked at: what happens
                // later sends a signal again.
                Some(Signal::Lost) => {
                    while sessions.host.next(false)?.is_some() {}
                    sessions.accept(&mut door);
                    sessions.look_at_all();
                }
                None => break,
            }
            waits = false;
        }
    }
}

const SIGNALS_AT_ONCE: usize = 256;

enum Signal {
    /// Something has happened on the connection of that number.
    About(u64),
    /// There was no room in the queue for a signal.
    Lost,
}

/// The signals for which this process waits, and what each descriptor stands for: a signal
/// tells no more than that.
struct Signals {
    set: sigset_t,
    real_time: c_int,
    whose: HashMap<RawFd, u64>,
}

impl Signals {
    /// Blocks the signals, so that they are queued instead of ending the process.
    fn block() -> io::Result<Self> {
        let real_time = libc::SIGRTMIN() + 1;
        // SAFETY: a set is plain bits, and these calls only write to it and to this thread's mask.
        let (set, failure) = unsafe {
            let mut set = mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, real_time);
            libc::sigaddset(&mut set, libc::SIGIO);
            let failure = libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            (set, failure)
        };
        if failure != 0 {
            return Err(io::Error::from_raw_os_error(failure));
        }
        let whose = HashMap::new();
        Ok(Self {
            set,
            real_time,
            whose,
        })
    }

    /// Takes the next signal; without `waits` only if there is one.
    fn next(&self, waits: bool) -> io::Result<Option<Signal>> {
        let at_once = timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: zeros are a valid `siginfo_t`; the pointers are to what outlives the calls.
        let (number, info) = unsafe {
            let mut info: siginfo_t = mem::zeroed();
            let number = match waits {
                true => libc::sigwaitinfo(&self.set, &mut info),
                false => libc::sigtimedwait(&self.set, &mut info, &at_once),
            };
            (number, info)
        };
        if number == -1 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        if number == libc::SIGIO {
            return Ok(Some(Signal::Lost));
        }
        // ③ A descriptor closed meanwhile may belong to another client by now, who then is
        // looked at for nothing.
        let whose = self.whose.get(&descriptor_of(&info)).copied();
        Ok(Some(Signal::About(whose.unwrap_or(u64::MAX))))
    }
}

impl Host for Signals {
    /// ④ Three calls and each event on the connection becomes a signal to this process,
    /// which carries the descriptor.
    fn watch(&mut self, connection: BorrowedFd<'_>, whose: u64) -> io::Result<()> {
        let descriptor = connection.as_raw_fd();
        let set = |what, value: c_int| {
            // SAFETY: these calls take a number and change nothing but this descriptor's settings.
            match unsafe { libc::fcntl(descriptor, what, value) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        };
        set(F_SETSIG, self.real_time)?;
        set(libc::F_SETOWN, process::id().cast_signed())?;
        set(libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
        self.whose.insert(descriptor, whose);
        Ok(())
    }
}

/// From fcntl.h; fcntl(2) tells of it.
const F_SETSIG: c_int = 10;

/// What `siginfo_t` holds for signals about descriptors, after sigaction(2).
#[repr(C)]
struct AboutDescriptor {
    number: c_int,
    error: c_int,
    code: c_int,
    band: c_long,
    descriptor: c_int,
}

fn descriptor_of(info: &siginfo_t) -> RawFd {
    // SAFETY: `siginfo_t` is larger, and begins like this; a signal that someone else sent
    // has other integers there.
    unsafe { (*ptr::from_ref(info).cast::<AboutDescriptor>()).descriptor }
}

pub(super) const MODEL: Model = Model {
    number: 19,
    name: "sigio",
    title: "Signal-driven input and output",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("sigio.rs"), include_str!("multiplex/mod.rs")],
    serve,
};
