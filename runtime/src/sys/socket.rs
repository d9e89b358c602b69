//! Thin wrappers of what the descriptors of sockets and processes tell and take that rustix has no call for: among it
//! many datagrams at once, and descriptors whatever else comes with them.

use std::{
    ffi::c_int,
    io,
    mem::{MaybeUninit, size_of_val},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    ptr,
};

use rustix::{io::Errno, net::SocketAddrAny};

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
    set_option(listener, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Has a TCP socket take no more for sending while so much is there that has not been sent (`TCP_NOTSENT_LOWAT`,
/// tcp(7)).
pub(crate) fn limit_unsent(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &bytes)
}

/// Sets an option to a value of the type that the kernel knows it by.
fn set_option<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel copies that many bytes, and what a program of a filter points to, during the call.
    match unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            length,
        )
    } {
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

/// One of several datagrams that came.
pub(crate) struct Received {
    /// How long it is, or the room for it if that is less.
    pub(crate) length: usize,
    pub(crate) from: SocketAddrAny,
    /// Whether its end was lost.
    pub(crate) truncated: bool,
}

/// Receives as many datagrams as are there and as there are parts for, each into a part of its own (recvmmsg(2)).
/// Tells of each in their order. The socket is non-blocking.
pub(crate) fn receive_many<'a>(
    socket: BorrowedFd<'_>,
    parts: impl Iterator<Item = &'a mut [u8]>,
    mut tell: impl FnMut(Received),
) -> rustix::io::Result<usize> {
    let mut parts: Vec<_> = parts.map(room).collect();
    let mut names = vec![Name([0; NAME_BYTES]); parts.len()];
    let mut headers: Vec<_> = (parts.iter_mut().zip(&mut names))
        .map(|(part, name)| {
            let mut header = header(part);
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = NAME_BYTES as _;
            libc::mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            }
        })
        .collect();
    // SAFETY: each header points to a part of the caller's and a name of its own, each with its length, all in place
    // for the call and touched by nobody else.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as _,
            0,
            ptr::null_mut(),
        )
    };
    let received = count(received as isize)?;
    for (header, part) in headers[..received].iter().zip(&parts) {
        // SAFETY: the kernel has written so many bytes of an address into the header's name.
        let from = unsafe {
            SocketAddrAny::read(header.msg_hdr.msg_name.cast(), header.msg_hdr.msg_namelen)
        };
        tell(Received {
            length: (header.msg_len as usize).min(part.iov_len),
            from,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    Ok(received)
}

/// Receives bytes, and adds the descriptors that came with them to `fds`, close-on-exec. Descriptors that nobody
/// asked for are closed. `EMFILE` if the process had none left for some.
///
/// (rustix' own parser drops messages of kinds that it does not know, with the descriptors inside still open.)
pub(crate) fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> rustix::io::Result<usize> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut part = room(buffer);
    let mut header = header(&mut part);
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: the header points to the caller's buffer and to `control`, each with its length, both in place for the
    // call and touched by nobody else.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_CMSG_CLOEXEC) };
    let bytes = count(received)?;
    let mut came = Vec::new();
    // SAFETY: the kernel has filled in the header and what its control part points to, which is in place: each message
    // lies within it, and its length too. Payloads may be unaligned. A descriptor of these two kinds was opened for
    // this process by this very call, so nobody else owns it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&header);
        while let Some(message) = at.as_ref() {
            let data = libc::CMSG_DATA(at).cast::<libc::c_int>();
            // The C libraries differ in the type of lengths.
            #[allow(clippy::unnecessary_cast)]
            let length = message.cmsg_len as usize;
            let payload = length.saturating_sub(libc::CMSG_LEN(0) as usize);
            let opened = (0..payload / size_of::<libc::c_int>())
                .map(|index| data.add(index).read_unaligned())
                .filter(|number| *number >= 0)
                .map(|number| OwnedFd::from_raw_fd(number));
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => came.extend(opened),
                (libc::SOL_SOCKET, SCM_PIDFD) => opened.for_each(drop),
                _ => {}
            }
            at = libc::CMSG_NXTHDR(&header, at);
        }
    }
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::MFILE);
    }
    fds.extend(came);
    Ok(bytes)
}

/// Descriptors that one message carries at most (`SCM_MAX_FD`, unix(7)).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// The sender's process descriptor, of a socket with `SO_PASSPIDFD` (Linux 6.5), or a negative error.
const SCM_PIDFD: libc::c_int = 4;

/// Room for what a message brings beside its bytes.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

/// Descriptors, and whatever else a socket may have been told to report: the sender's credentials, process and
/// security label, of which the last has no bound and is short in practice.
const CONTROL_BYTES: usize = (rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS)) + 512) & !7;

/// Room for the address of a sender of any family.
#[derive(Clone)]
#[repr(C, align(8))]
struct Name([u8; NAME_BYTES]);

const NAME_BYTES: usize = size_of::<libc::sockaddr_storage>();

fn room(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

/// A header for one part. It has fields that only some C libraries know.
fn header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: plain data, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

/// What a call returned: a count, or -1 and the error aside.
fn count(returned: isize) -> rustix::io::Result<usize> {
    usize::try_from(returned)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
