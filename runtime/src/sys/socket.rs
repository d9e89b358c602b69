//! Thin wrappers of what the descriptors of sockets and processes tell and take that rustix has no call for.

use std::{
    ffi::c_int,
    io,
    mem::size_of_val,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
};

use rustix::net::SocketAddrAny;

/// Bytes in the send queue: not sent yet, or not acknowledged by the peer (`SIOCOUTQ`, tcp(7)).
pub(crate) fn send_queue(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the request, which sockets and terminals know by the same number, writes one int.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match done {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a TCP socket that listens leave packets unread that would begin a connection: SYN without ACK. Others
/// come through, of handshakes that are under way above all (`SO_ATTACH_FILTER`, socket(7)).
pub(crate) fn ignore_new_connections(listener: BorrowedFd<'_>) -> io::Result<()> {
    /// Where the flags are in a TCP header, and those that tell (RFC 9293, 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let step = |code: u32, k, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, FLAGS, 0, 0),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN | ACK, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SYN, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which is as long as `filter` says, during the call.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who made the other end of a Unix-domain connection (`SO_PEERCRED`, unix(7)). A process that cannot be seen from
/// here is 0, which rustix' own type has no room for.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of a `ucred`, for which any bits are valid.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &mut length,
        )
    };
    match done {
        0 => Ok(credentials),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What an address says behind its family, as the kernel has given it.
pub(crate) fn bytes_of(address: &SocketAddrAny) -> &[u8] {
    // SAFETY: so many bytes of it are initialised.
    let bytes = unsafe {
        std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.addr_len() as usize)
    };
    bytes.get(size_of::<libc::sa_family_t>()..).unwrap_or(&[])
}

/// How a process ended that is no longer in the system's table (`PIDFD_GET_INFO`, Linux 6.15).
pub(crate) fn exit_status(process: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel reads and writes one `PidfdInfo`, of the length that the request's number says.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO as _, &raw mut info) };
    (result == 0 && info.mask & INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

/// `struct pidfd_info` of `linux/pidfd.h`, as of its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// Process, group, parent, and eight ids of users and groups.
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: u32 = 3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11;

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// `FromRawFd` for a socket that `from_fd` makes.
macro_rules! from_raw_fd {
    ($socket:ident, $from_fd:expr) => {
        #[allow(unsafe_code, reason = "the trait's own contract, handed on as it is")]
        impl ::std::os::fd::FromRawFd for $socket {
            /// # Safety
            /// The descriptor is open and nobody else's, and a non-blocking socket of this kind.
            unsafe fn from_raw_fd(fd: ::std::os::fd::RawFd) -> Self {
                // SAFETY: the caller's promise.
                $from_fd(unsafe { ::std::os::fd::OwnedFd::from_raw_fd(fd) })
            }
        }
    };
}

pub(crate) use from_raw_fd;
