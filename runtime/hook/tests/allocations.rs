//! What hooked calls allocate: nothing where they do not wait, and where they do, nothing for each call. An allocator may
//! make such calls itself, and C code may make them where it must not allocate.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ffi::c_int,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    ptr,
    time::Duration,
};

use maniple::{Runtime, spawn, timeout};

/// The system's allocator, with a count of what each thread asks it for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: the system's, which is asked for all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Longer than any test takes that does not hang.
const LONG: Duration = Duration::from_secs(60);

/// How often this thread allocates in `calls`: of a worker, its own loop and its other coroutines with it.
fn allocations<T>(calls: impl FnOnce() -> T) -> usize {
    let before = ALLOCATIONS.get();
    let value = calls();
    let after = ALLOCATIONS.get();
    drop(value);
    after - before
}

fn on_one_worker<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    maniple_hook::install!();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| timeout(LONG, test).expect("it does not hang"))
}

/// Calls of every kind find here what they need, at once: of Unix-domain sockets nothing is on its way.
struct Ready {
    near: UnixStream,
    far: UnixStream,
    listener: UnixListener,
    client: UnixStream,
    address: SocketAddr,
    pipe: (PipeReader, PipeWriter),
    set: c_int,
}

impl Ready {
    fn new(name: &str) -> Self {
        let name = format!("maniple-hook-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&address).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        // SAFETY: takes numbers. It ends with the process.
        let set = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let mut event = libc::epoll_event {
            events: libc::EPOLLOUT as u32,
            u64: 0,
        };
        // SAFETY: an event of ours.
        let added =
            unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, near.as_raw_fd(), &raw mut event) };
        assert_eq!(added, 0);
        Self {
            near,
            far,
            listener,
            client,
            address,
            pipe: io::pipe().unwrap(),
            set,
        }
    }

    /// One of each, none of which has to wait.
    fn calls(&mut self) {
        let mut to = [0; 8];
        self.near.write_all(b"question").unwrap();
        self.far.read_exact(&mut to).unwrap();
        self.far.write_all(b"answer").unwrap();
        let (fd, none) = (self.near.as_raw_fd(), ptr::null_mut());
        let mut of = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut found = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: an entry, a set and room for an event, of ours.
        unsafe {
            assert_eq!(libc::poll(&raw mut of, 1, -1), 1);
            let mut set: libc::fd_set = std::mem::zeroed();
            libc::FD_SET(fd, &raw mut set);
            assert_eq!(
                libc::select(fd + 1, &raw mut set, none, none, ptr::null_mut()),
                1
            );
            assert_eq!(libc::epoll_wait(self.set, &raw mut found, 1, -1), 1);
            // There is no child.
            assert_eq!(libc::waitpid(-1, ptr::null_mut(), 0), -1);
        }
        self.near.read_exact(&mut to[..6]).unwrap();
        let (reader, writer) = &mut self.pipe;
        writer.write_all(b"x").unwrap();
        reader.read_exact(&mut to[..1]).unwrap();
        self.listener.accept().unwrap();
        self.client = UnixStream::connect_addr(&self.address).unwrap();
    }
}

const ROUNDS: usize = 300;

#[test]
fn calls_on_a_plain_thread_allocate_nothing() {
    maniple_hook::install!();
    let mut ready = Ready::new("plain");
    let all = allocations(|| {
        for _ in 0..ROUNDS {
            ready.calls();
        }
        // Nor those that wait.
        #[allow(clippy::disallowed_methods, reason = "a plain thread")]
        std::thread::sleep(Duration::from_millis(1));
    });
    assert_eq!(all, 0);
}

#[test]
fn calls_of_a_coroutine_that_need_not_wait_allocate_nothing() {
    on_one_worker(|| {
        let mut ready = Ready::new("coroutine");
        let all = allocations(|| (0..ROUNDS).for_each(|_| ready.calls()));
        assert_eq!(all, 0);
    });
}

/// The table of a worker goes by the descriptors' numbers, and grows for the largest.
#[test]
fn waits_allocate_for_the_first_use_of_a_number_and_not_for_each_call() {
    on_one_worker(|| {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        // Larger than any that was waited for.
        let (idle, _far) = UnixStream::pair().unwrap();
        let answers = spawn(move || {
            let mut byte = [0];
            while far.read(&mut byte).unwrap() != 0 {
                far.write_all(&byte).unwrap();
            }
        });
        type Wait<'a> = &'a dyn Fn(&mut UnixStream);
        let waits: [(&str, Wait<'_>); 4] = [
            ("a receive", &|_| {}),
            ("one with a time of its own", &|near| {
                near.set_read_timeout(Some(LONG)).unwrap();
            }),
            ("a poll of two", &|near| {
                let mut of = [&*near, &idle].map(|of| libc::pollfd {
                    fd: of.as_raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                });
                // SAFETY: two entries, of ours.
                assert_eq!(unsafe { libc::poll(of.as_mut_ptr(), 2, -1) }, 1);
            }),
            ("a sleep", &|_| {
                #[allow(clippy::disallowed_methods, reason = "it is what is tested")]
                std::thread::sleep(Duration::from_micros(1));
            }),
        ];
        let mut in_table = 0;
        for (name, wait) in waits {
            let mut ask = || {
                near.write_all(b"x").unwrap();
                wait(&mut near);
                near.read_exact(&mut [0]).unwrap();
            };
            in_table += allocations(&mut ask);
            let more = allocations(|| (0..ROUNDS).for_each(|_| ask()));
            assert_eq!(more, 0, "{name}");
        }
        assert!((1..=4).contains(&in_table), "{in_table}: the table grows");
        drop(near);
        answers.join().unwrap();
    });
}
