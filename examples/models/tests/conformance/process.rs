//! A model, or the backends, as a process.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, Output, Stdio},
};

use io_uring::IoUring;
use rustix::{
    net::{self, AddressFamily, SocketType},
    process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit},
};

/// Allows this process, and those that it starts, as many descriptors as the system lets it have.
pub fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Ports for backends that nobody else is given while this lives, also while no backend listens there: they are bound, with
/// `SO_REUSEADDR`, which a listener with the same may be beside.
pub struct Ports([(OwnedFd, SocketAddr); 3]);

impl Ports {
    pub fn reserve() -> Self {
        Self([0; 3].map(|_| {
            let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
            net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let address = net::getsockname(&socket).unwrap();
            (socket, address.try_into().unwrap())
        }))
    }

    pub fn addresses(&self) -> [SocketAddr; 3] {
        self.0.each_ref().map(|(_, address)| *address)
    }

    /// As an option has them.
    pub fn said(&self) -> String {
        self.addresses()
            .map(|address| address.to_string())
            .join(",")
    }
}

/// The program that runs models.
pub fn model() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model"));
    command.stdin(Stdio::null()).arg("--end-with-parent");
    command
}

/// A process that has said where it listens; dropping it kills it.
pub struct Running {
    process: Child,
    said: String,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = model()
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let said = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(!said.is_empty(), "{arguments:?} said nothing");
        Self { process, said }
    }

    pub fn address(&self) -> SocketAddr {
        self.said.parse().unwrap()
    }

    /// What it said after the last space.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Allows it so many open descriptors.
    pub fn limit_descriptors(&self, most: u64) {
        self.limit(Resource::Nofile, most);
    }

    /// Allows so many signals to be queued for it.
    pub fn limit_signals(&self, most: u64) {
        self.limit(Resource::Sigpending, most);
    }

    fn limit(&self, resource: Resource, most: u64) {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(Some(Pid::from_child(&self.process)), resource, limit).unwrap();
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this kernel gives an io_uring to whom asks for one.
///
/// Asked on a thread of its own: the end of a ring interrupts the calls that its thread is waiting in.
pub fn io_uring() -> io::Result<()> {
    let asked = std::thread::spawn(|| IoUring::new(8).map(drop));
    asked.join().expect("asking does not panic")
}

/// What a model says that has ended because it may not use io_uring: one line.
pub fn refused_in_a_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned();
    assert!(!output.status.success(), "it ended as if all were well");
    assert!(said.contains("io_uring is refused here: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// Has the kernel refuse io_uring to the process that `command` starts, as the guard of a container does.
pub fn without_io_uring(command: &mut Command) {
    let statement = |code: u32, k: i64, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k: k as u32,
    };
    let refused = i64::from(libc::SECCOMP_RET_ERRNO) | i64::from(libc::EPERM);
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut filter = [
        // The number of the system call is the first word.
        statement(load, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_io_uring_setup,
            0,
            1,
        ),
        statement(libc::BPF_RET | libc::BPF_K, refused, 0, 0),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ALLOW.into(),
            0,
            0,
        ),
    ];
    let guard = move || {
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: two system calls, of which the second reads the program, which lives on this stack.
        let failed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls and nothing else; it allocates nothing.
    unsafe { command.pre_exec(guard) };
}
