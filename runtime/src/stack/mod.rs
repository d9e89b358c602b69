//! Memory for coroutine stacks: where it comes from, how it is guarded, and how it is reused.
//!
//! # How it works
//!
//! ```text
//!    region: one mapping, cut into equal slots           one slot (256 KiB by default)
//!   ┌───────┬───────┬───────┬ ─ ─ ─ ─ ─ ┐              ┌─────────────────────┐ base()
//!   │ slot  │ slot  │ slot  │ not yet    │              │ touched pages       │   │ grows
//!   │ 0     │ 1     │ 2     │ carved     │              │ ...                 │   ▼ down
//!   └───────┴───────┴───────┴ ─ ─ ─ ─ ─ ┘              │ address space only  │
//!                                                      ├─────────────────────┤
//!                                                      │ guard page          │
//!                                                      └─────────────────────┘ limit()
//! ```
//!
//! * A slot's size is address space. The kernel backs it page by page as it is touched, so a
//!   generous size costs only page tables. Sizes are powers of two ([`SizeClass`]), which makes
//!   every slot of a class interchangeable.
//! * [`slab`] carves slots from a few large regions and is shared by all workers. [`pool`] is one
//!   worker's cache in front of it, where the usual acquire and release are a `Vec` pop and push.
//! * A slot gets its guard when it is carved and keeps it for life. With `MADV_GUARD_INSTALL` the
//!   guard is a mark in the page table and the region stays one mapping. An `mprotect` guard splits
//!   it, which costs two mappings per stack and ends at about half of `vm.max_map_count`. Where
//!   no stack can overflow, as in experiments, slots may be without guards.
//! * [`overflow`](crate::sys::overflow) turns a fault on a guard into a report that names the coroutine.
//!
//! A frame larger than the guard page could step over it. Rust probes every page of such frames,
//! and so do C compilers under `-fstack-clash-protection`, which distributions switch on.
//!
//! # Who owns a slot
//!
//! A [`Stack`] is the only handle to its slot: it is neither `Clone` nor made twice. It goes from
//! the slab to a pool, to a coroutine, and back. A `Stack` that is dropped elsewhere takes its slot
//! out of circulation, and its region then stays mapped for good: memory that something may still
//! be suspended in is never given back.

pub(crate) mod census;
pub(crate) mod depth;
pub(crate) mod pool;
pub(crate) mod slab;

#[cfg(test)]
pub(crate) mod child;

use std::io;
use std::num::NonZeroUsize;

use crate::sys::memory::{self, NoOverflow, Slot};

/// What the stacks of one runtime may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackLimits {
    /// Bytes of address space for a stack whose coroutine asks for nothing else, its guard page
    /// included.
    pub(crate) default_size: usize,
    /// How many stacks may exist outside the slabs at once.
    pub(crate) max_stacks: usize,
    pub(crate) guard: Guarding,
    /// How many free stacks of each size keep their memory; `None` for what suits the size.
    pub(crate) warm: Option<usize>,
}

/// How stacks are guarded, or by which promise they are not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guarding {
    By(StackGuard),
    NotAtAll(NoOverflow),
}

/// What sees to it that a coroutine which overflows its stack faults, rather than writes over its
/// neighbour's: see [`Builder::stack_guard`](crate::runtime::Builder::stack_guard).
///
/// Either kind is one page at the low end of each stack, costs no memory of its own, and ends the
/// process with a report that names the coroutine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackGuard {
    /// [`Madvise`](StackGuard::Madvise) where the kernel has it, [`Mprotect`](StackGuard::Mprotect)
    /// otherwise.
    #[default]
    Auto,
    /// Lightweight guard regions, `madvise(MADV_GUARD_INSTALL)`: a mark in the page table, of which
    /// there may be any number. Needs Linux 6.13; elsewhere the runtime is not built.
    Madvise,
    /// Pages without access rights, `mprotect(PROT_NONE)`: works everywhere, but each stack takes
    /// two of the mappings that `vm.max_map_count` limits, which ends near 32,700 stacks by default.
    Mprotect,
}

/// How stacks are guarded in fact: see [`Stacks::guard`](crate::inspect::Stacks::guard).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardKind {
    /// By lightweight guard regions, `madvise(MADV_GUARD_INSTALL)`.
    Madvise,
    /// By protected pages, `mprotect(PROT_NONE)`.
    Mprotect,
    /// Not at all: see
    /// [`Builder::without_stack_guards`](crate::runtime::Builder::without_stack_guards).
    None,
}

impl GuardKind {
    /// What can be had of what was asked for.
    fn resolve(choice: Guarding) -> Result<GuardKind, StackError> {
        let guard = match choice {
            Guarding::NotAtAll(NoOverflow { .. }) => return Ok(GuardKind::None),
            Guarding::By(guard) => guard,
        };
        match guard {
            StackGuard::Mprotect => Ok(GuardKind::Mprotect),
            _ if memory::has_guard_regions() => Ok(GuardKind::Madvise),
            StackGuard::Auto => Ok(GuardKind::Mprotect),
            StackGuard::Madvise => Err(StackError::NoGuardRegions),
        }
    }
}

/// One slot of a slab, guard page included, and the right to run on it.
///
/// It is one word, so that it travels in a register. Its slot is marked with the slabs that it belongs to.
#[derive(Debug)]
#[must_use = "a stack that is not released takes its slot out of circulation"]
pub(crate) struct Stack(Slot);

impl Stack {
    /// The highest address, where the first frame goes; aligned to 16 bytes.
    #[inline]
    pub(crate) fn base(&self) -> NonZeroUsize {
        self.limit().saturating_add(1 << self.0.size_log2())
    }

    /// The lowest address, that of the guard page.
    #[inline]
    pub(crate) fn limit(&self) -> NonZeroUsize {
        self.0.start()
    }

    /// The bytes that frames may use: the slot without its guard page.
    #[cfg(test)]
    pub(crate) fn usable(&self) -> usize {
        self.class().size() - memory::page_size()
    }

    #[inline]
    fn class(&self) -> SizeClass {
        SizeClass((self.0.size_log2() - MIN_SIZE.ilog2()) as u8)
    }

    #[inline]
    fn owner(&self) -> u8 {
        self.0.mark()
    }
}

/// A power-of-two slot size, from 16 KiB (or four pages, where pages are larger) to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeClass(u8);

impl SizeClass {
    /// How many classes there are.
    const COUNT: usize = (MAX_SIZE / MIN_SIZE).trailing_zeros() as usize + 1;

    /// All classes, smallest first.
    const ALL: [SizeClass; SizeClass::COUNT] = {
        let mut all = [SizeClass(0); SizeClass::COUNT];
        let mut index = 0;
        while index < all.len() {
            all[index] = SizeClass(index as u8);
            index += 1;
        }
        all
    };

    /// The smallest class whose slots have at least `bytes`, guard page included.
    pub(crate) fn for_size(bytes: usize) -> Result<SizeClass, StackError> {
        match bytes {
            0 => Err(StackError::ZeroSize),
            1..=MAX_SIZE => {
                let size = bytes
                    .next_power_of_two()
                    .max(MIN_SIZE)
                    .max(4 * memory::page_size());
                Ok(SizeClass((size / MIN_SIZE).trailing_zeros() as u8))
            }
            _ => Err(StackError::TooLarge { bytes }),
        }
    }

    /// The size of a slot in bytes, guard page included.
    #[inline]
    pub(crate) const fn size(self) -> usize {
        MIN_SIZE << self.0
    }

    #[inline]
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why there is no stack.
///
/// What the kernel said is the `source`, which a printer of the chain prints next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StackError {
    #[error("stack size 0: give at least one byte, or leave the size out for the default")]
    ZeroSize,
    #[error("stack size {bytes} bytes: the largest stack is {MAX_SIZE} bytes (1 GiB)")]
    TooLarge { bytes: usize },
    #[error(
        "stack guards by MADV_GUARD_INSTALL: this kernel has none (Linux 6.13 and later do); \
         choose StackGuard::Mprotect, or leave the choice to the runtime with StackGuard::Auto"
    )]
    NoGuardRegions,
    #[error(
        "limit of {limit} stacks reached: raise runtime::Builder::max_coroutines, or let coroutines end \
         before more begin"
    )]
    TooMany { limit: usize },
    #[error(
        "reserve {size} bytes of address space for a stack; `ulimit -v`, a container's limit or \
         vm.overcommit_memory=2 may be in the way"
    )]
    Reserve { size: usize, source: io::Error },
    #[error(
        "install a stack guard by madvise; the kernel refuses it in locked memory (mlockall), and \
         where no memory is left for page tables"
    )]
    GuardRegion { source: io::Error },
    #[error(
        "install a stack guard by mprotect; each guarded stack takes two mappings and this kernel \
         allows {max_map_count} in all (vm.max_map_count), so about {} stacks: raise it with \
         `sysctl -w vm.max_map_count=N`, or run Linux 6.13 or later, whose guards take no mapping",
        .max_map_count / 2
    )]
    GuardPage {
        max_map_count: usize,
        source: io::Error,
    },
}

impl From<StackError> for io::Error {
    fn from(error: StackError) -> io::Error {
        let kind = match &error {
            StackError::ZeroSize | StackError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            StackError::NoGuardRegions => io::ErrorKind::Unsupported,
            StackError::TooMany { .. } => io::ErrorKind::QuotaExceeded,
            StackError::Reserve { .. }
            | StackError::GuardRegion { .. }
            | StackError::GuardPage { .. } => io::ErrorKind::OutOfMemory,
        };
        io::Error::new(kind, error)
    }
}

/// Slabs that stacks are told apart by: as many as there are marks for slots.
const OWNERS: u8 = 128;

const MIN_SIZE: usize = 16 << 10;
const MAX_SIZE: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_to_its_class() {
        for (bytes, size) in [
            (1, 16 << 10),
            (16 << 10, 16 << 10),
            ((16 << 10) + 1, 32 << 10),
            (100 << 10, 128 << 10),
            (256 << 10, 256 << 10),
            (64 << 20, 64 << 20),
            (1 << 30, 1 << 30),
        ] {
            let expected: usize = 4 * memory::page_size();
            assert_eq!(
                SizeClass::for_size(bytes).unwrap().size(),
                expected.max(size),
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn a_size_of_zero_is_refused() {
        let error = io::Error::from(SizeClass::for_size(0).unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("stack size 0"), "{error}");
    }

    #[test]
    fn a_size_beyond_the_largest_class_is_refused_by_name() {
        for bytes in [(1 << 30) + 1, usize::MAX] {
            let error = io::Error::from(SizeClass::for_size(bytes).unwrap_err());
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&bytes.to_string()), "{error}");
        }
    }

    #[test]
    fn what_the_kernel_said_is_in_the_source_alone() {
        let source = || io::Error::from_raw_os_error(libc::ENOMEM);
        for error in [
            StackError::Reserve {
                size: 1,
                source: source(),
            },
            StackError::GuardRegion { source: source() },
            StackError::GuardPage {
                max_map_count: 2,
                source: source(),
            },
        ] {
            let error = io::Error::from(error);
            let said = error.get_ref().and_then(|error| error.source()).unwrap();
            assert_eq!(said.to_string(), source().to_string());
            assert!(!error.to_string().contains(&said.to_string()), "{error}");
        }
    }
}
