//! What hooking costs: a wait beside one of maniple's own sockets, and a call outside of coroutines beside the system
//! call. `cargo run --release -p maniple-hook --example cost`.

use std::{
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    time::Duration,
};

use maniple::{Runtime, spawn};

/// Rounds there and back.
const ROUNDS: u32 = 50_000;
/// Calls that find something.
const CALLS: u32 = 200_000;
/// Each figure is the best of so many.
const TRIES: usize = 15;

fn main() -> io::Result<()> {
    maniple_hook::install!();
    let runtime = Runtime::builder().workers(1).build()?;
    println!("| one worker, Unix-domain sockets | ns |\n|---|--:|");
    let own = best(|| {
        runtime.run(|| {
            let (near, far) = maniple::net::UnixStream::pair()?;
            there_and_back(near, far)
        })
    })?;
    let hooked = best(|| {
        runtime.run(|| UnixStream::pair().and_then(|(near, far)| there_and_back(near, far)))
    })?;
    // Each side waits once a round.
    let a_wait = |of: Duration| per(of, 2 * ROUNDS);
    row(
        "a wait of maniple's own socket, with its write and read",
        a_wait(own),
    );
    row("the same of std's, hooked", a_wait(hooked));
    row("more for a hooked wait", a_wait(hooked) - a_wait(own));

    let bare = best(|| {
        receive(|fd, to, length| unsafe {
            // SAFETY: the buffer's own.
            libc::syscall(libc::SYS_recvfrom, fd, to, length, libc::MSG_PEEK, 0, 0) as isize
        })
    })?;
    let glibc = real_recv();
    let bare_glibc = best(|| {
        receive(|fd, to, length| {
            // SAFETY: the buffer's own.
            unsafe { glibc(fd, to.cast(), length, libc::MSG_PEEK) }
        })
    })?;
    let outside = best(|| receive(hooked_recv))?;
    let inside = best(|| runtime.run(|| receive(hooked_recv)))?;
    row("recv by syscall(2)", per(bare, CALLS));
    row(
        "recv of the C library, on a plain thread",
        per(bare_glibc, CALLS),
    );
    row("recv hooked, on a plain thread", per(outside, CALLS));
    row(
        "recv hooked, in a coroutine, with something to receive",
        per(inside, CALLS),
    );
    Ok(())
}

fn there_and_back<S: Read + Write + Send + 'static>(
    mut near: S,
    mut far: S,
) -> io::Result<Duration> {
    let other = spawn(move || -> io::Result<()> {
        let mut byte = [0];
        for _ in 0..ROUNDS {
            far.read_exact(&mut byte)?;
            far.write_all(&byte)?;
        }
        Ok(())
    });
    let began = used();
    let mut byte = [0];
    for _ in 0..ROUNDS {
        near.write_all(&byte)?;
        near.read_exact(&mut byte)?;
    }
    let took = used() - began;
    other.join().map_err(io::Error::other)??;
    Ok(took)
}

fn receive(call: impl Fn(i32, *mut u8, usize) -> isize) -> io::Result<Duration> {
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    let fd = near.as_raw_fd();
    let mut to = [0; 16];
    let began = used();
    for _ in 0..CALLS {
        assert_eq!(call(fd, to.as_mut_ptr(), to.len()), 1);
    }
    Ok(used() - began)
}

fn hooked_recv(fd: i32, to: *mut u8, length: usize) -> isize {
    // SAFETY: the buffer's own.
    unsafe { libc::recv(fd, to.cast(), length, libc::MSG_PEEK) }
}

type Recv = unsafe extern "C" fn(i32, *mut libc::c_void, usize, i32) -> isize;

/// The C library's own, behind the hooked one.
fn real_recv() -> Recv {
    // SAFETY: a name, and where to look; a function of that name has that type.
    unsafe { std::mem::transmute(libc::dlsym(libc::RTLD_NEXT, c"recv".as_ptr())) }
}

/// The processor's time that the process has used: others on the machine count for less than by the clock.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn best(mut measure: impl FnMut() -> io::Result<Duration>) -> io::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        best = best.min(measure()?);
    }
    Ok(best)
}

fn per(of: Duration, times: u32) -> f64 {
    of.as_nanos() as f64 / f64::from(times)
}

fn row(name: &str, nanos: f64) {
    println!("| {name} | {nanos:.1} |");
}
