//! What hooking costs: a wait beside one of maniple's own sockets, a call outside of coroutines beside the system
//! call, and the question of both, whether this is a coroutine. `cargo run --release -p maniple-hook --example cost`;
//! with `-- instructions` behind it, what valgrind counts of a call outside of coroutines.

use std::{
    error::Error,
    hint::black_box,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    process::Command,
    time::Duration,
};

use maniple::{Runtime, spawn};

/// Rounds there and back.
const ROUNDS: u32 = 50_000;
/// Calls that find something.
const CALLS: u32 = 200_000;
/// Questions whether this is a coroutine.
const QUESTIONS: u32 = 20_000_000;
/// Each figure is the best of so many.
const TRIES: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    maniple_hook::install!(unwatched);
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => Ok(times()?),
        Some("instructions") => instructions(),
        // Under valgrind.
        Some(call) => {
            let call: Call = match call {
                "bare" => Box::new(bare_recv()),
                _ => Box::new(hooked_recv),
            };
            let calls = arguments.next().ok_or("how many calls?")?;
            Ok(receive(calls.parse()?, call).map(drop)?)
        }
    }
}

type Call = Box<dyn Fn(i32, *mut u8, usize) -> isize>;

fn times() -> io::Result<()> {
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

    let asked = best(|| Ok(ask()))?;
    let asked_inside = best(|| Ok(runtime.run(ask)))?;
    row(
        "is this a coroutine? asked on a plain thread",
        per(asked, QUESTIONS),
    );
    row(
        "is this a coroutine? asked in one",
        per(asked_inside, QUESTIONS),
    );

    let bare = best(|| {
        receive(CALLS, |fd, to, length| unsafe {
            // SAFETY: the buffer's own.
            libc::syscall(libc::SYS_recvfrom, fd, to, length, libc::MSG_PEEK, 0, 0) as isize
        })
    })?;
    let bare_glibc = best(|| receive(CALLS, bare_recv()))?;
    let outside = best(|| receive(CALLS, hooked_recv))?;
    let inside = best(|| runtime.run(|| receive(CALLS, hooked_recv)))?;
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

/// Each run is a process of its own, the second making twice as many calls: what starting costs falls out.
fn instructions() -> Result<(), Box<dyn Error>> {
    println!("| a plain thread | instructions |\n|---|--:|");
    for (name, call) in [("recv of the C library", "bare"), ("recv hooked", "hooked")] {
        let more = counted(call, 2 * CALLS)?.saturating_sub(counted(call, CALLS)?);
        row(name, more as f64 / f64::from(CALLS));
    }
    Ok(())
}

/// Instructions of a process that makes so many calls.
fn counted(call: &str, calls: u32) -> Result<u64, Box<dyn Error>> {
    let file = std::env::temp_dir().join(format!("maniple-hook-cost-{}", std::process::id()));
    let mut to = std::ffi::OsString::from("--callgrind-out-file=");
    to.push(&file);
    let status = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(to)
        .arg(std::env::current_exe()?)
        .args([call, &calls.to_string()])
        .status()?;
    if !status.success() {
        return Err(format!("valgrind: {status}").into());
    }
    let told = std::fs::read_to_string(&file)?;
    std::fs::remove_file(file)?;
    let total = told.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("callgrind told no totals")?.parse()?)
}

/// With the loop around the question, and a call, so that none of it is left out.
fn ask() -> Duration {
    #[inline(never)]
    fn question() -> bool {
        maniple::hook::is_coroutine()
    }
    let began = used();
    for _ in 0..QUESTIONS {
        black_box(black_box(question as fn() -> bool)());
    }
    used() - began
}

fn receive(calls: u32, call: impl Fn(i32, *mut u8, usize) -> isize) -> io::Result<Duration> {
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    let fd = near.as_raw_fd();
    let mut to = [0; 16];
    let began = used();
    for _ in 0..calls {
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
fn bare_recv() -> impl Fn(i32, *mut u8, usize) -> isize {
    // SAFETY: a name, and where to look; a function of that name has that type.
    let recv: Recv = unsafe { std::mem::transmute(libc::dlsym(libc::RTLD_NEXT, c"recv".as_ptr())) };
    move |fd, to, length| {
        // SAFETY: the buffer's own.
        unsafe { recv(fd, to.cast(), length, libc::MSG_PEEK) }
    }
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
