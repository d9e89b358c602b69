//! The proactor's way to the kernel: operations go in, completions come out.
//!
//! All that is unsafe rests on one invariant: what an operation points to belongs to the
//! operation, from before it is pushed until its last completion. `read` borrows a buffer
//! until it returns, and the compiler sees that. The start of an operation returns at once,
//! and the kernel writes to the buffer when the client cares to send: long after a borrow
//! would have ended. So a buffer is given away with its operation, nobody can touch, grow
//! or free it meanwhile, and the completion gives it back. The same holds for a descriptor:
//! were it closed in between, its number could be another's.

use std::{
    collections::{HashMap, VecDeque},
    io,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    rc::Rc,
};

use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};
use rustix::net::{SocketAddrAny, SocketFlags};

/// An operation to start, with all that the kernel needs for it.
#[derive(Debug)]
pub(super) enum Verb {
    /// Accepts one connection after the other, each with a completion of its own, for as
    /// long as there is the ring.
    Accept,
    Connect(Rc<SocketAddrAny>),
    /// Into a buffer of this length.
    Receive(Vec<u8>),
    Send(Vec<u8>),
}

/// How an operation ended, with the buffer that it had.
#[derive(Debug)]
pub(super) enum Done {
    Accepted(io::Result<OwnedFd>),
    Connected(io::Result<()>),
    /// What has come; nothing is the end of input.
    Received(io::Result<Vec<u8>>),
    /// What the kernel has not taken.
    Sent(io::Result<Vec<u8>>),
}

struct Operation<W> {
    whose: W,
    socket: Rc<OwnedFd>,
    verb: Verb,
}

/// The two rings, and the operations that are under way.
pub(super) struct Ring<W> {
    ring: IoUring,
    /// ② Buffers of the kernel, for the time being. Never dropped with the ring, after
    /// whose end the kernel might still write for a while: leaking is safe, freeing is not.
    under_way: ManuallyDrop<HashMap<u64, Operation<W>>>,
    unsubmitted: VecDeque<squeue::Entry>,
    last: u64,
}

impl<W: Copy> Ring<W> {
    pub(super) fn new() -> io::Result<Self> {
        // One thread submits, and completions are prepared only when it asks: Linux 6.1 can
        // make use of that.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)
            .or_else(|_| IoUring::new(ENTRIES))
            .map_err(|error| io::Error::new(error.kind(), format!("{REFUSED}: {error}")))?;
        Ok(Self {
            ring,
            under_way: ManuallyDrop::default(),
            unsubmitted: VecDeque::new(),
            last: 0,
        })
    }

    /// Starts an operation. It takes its buffer with it, and says nothing before
    /// [`wait`](Self::wait).
    pub(super) fn start(&mut self, whose: W, socket: Rc<OwnedFd>, mut verb: Verb) {
        let fd = Fd(socket.as_raw_fd());
        let entry = match &mut verb {
            Verb::Accept => {
                let flags = SocketFlags::CLOEXEC.bits() as i32;
                opcode::AcceptMulti::new(fd).flags(flags).build()
            }
            Verb::Connect(address) => {
                opcode::Connect::new(fd, address.as_ptr().cast(), address.addr_len()).build()
            }
            Verb::Receive(buffer) => {
                opcode::Recv::new(fd, buffer.as_mut_ptr(), buffer.len() as u32).build()
            }
            Verb::Send(bytes) => opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .build(),
        };
        self.last += 1;
        let operation = Operation {
            whose,
            socket,
            verb,
        };
        self.under_way.insert(self.last, operation);
        self.unsubmitted.push_back(entry.user_data(self.last));
    }

    /// Tells the kernel what was started, and waits until something has ended.
    pub(super) fn wait(&mut self) -> io::Result<Vec<(W, Rc<OwnedFd>, Done)>> {
        let mut submission = self.ring.submission();
        while let Some(entry) = self.unsubmitted.front() {
            // SAFETY: the entry points to a buffer or an address on the heap, and names a
            // descriptor, that its operation in `under_way` owns. `completed` alone takes
            // it from there, at its last completion, and nothing else reaches into it. It
            // may be moved meanwhile, by which what a Vec or Rc points to stays where it
            // is.
            if unsafe { submission.push(entry) }.is_err() {
                break;
            }
            self.unsubmitted.pop_front();
        }
        drop(submission);
        let all = self.unsubmitted.is_empty();
        // ③ One system call starts everything new and collects everything done.
        if let Err(error) = self.ring.submit_and_wait(usize::from(all))
            && ![libc::EINTR, libc::EBUSY, libc::EAGAIN].contains(&code_of(&error))
        {
            return Err(error);
        }
        let completions: Vec<_> = self.ring.completion().collect();
        Ok(completions
            .into_iter()
            .filter_map(|completion| self.completed(&completion))
            .collect())
    }

    /// The operation is over, and its buffer is ours again.
    fn completed(&mut self, completion: &cqueue::Entry) -> Option<(W, Rc<OwnedFd>, Done)> {
        let Operation {
            whose,
            socket,
            verb,
        } = self.under_way.remove(&completion.user_data())?;
        let result = match completion.result() {
            code if code < 0 => Err(io::Error::from_raw_os_error(-code)),
            count => Ok(count),
        };
        let done = match verb {
            Verb::Accept => {
                if cqueue::more(completion.flags()) {
                    let operation = Operation {
                        whose,
                        socket: socket.clone(),
                        verb,
                    };
                    self.under_way.insert(completion.user_data(), operation);
                } else {
                    self.start(whose, socket.clone(), verb);
                }
                // SAFETY: accepting gives a new descriptor, which this completion alone tells of.
                Done::Accepted(result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
            }
            Verb::Connect(_) => Done::Connected(result.map(drop)),
            Verb::Receive(mut buffer) => Done::Received(result.map(|count| {
                buffer.truncate(count as usize);
                buffer
            })),
            Verb::Send(mut bytes) => Done::Sent(result.map(|count| {
                bytes.drain(..count as usize);
                bytes
            })),
        };
        Some((whose, socket, done))
    }
}

fn code_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// How many operations can be started by one system call.
const ENTRIES: u32 = 256;

/// How the message begins where a kernel, or what guards it, does not allow all this.
const REFUSED: &str = "io_uring is refused here";
