//! Where a stack is: return addresses now, names for them later.

use std::fmt;

/// The return addresses of a stack, innermost first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    addresses: Vec<usize>,
}

/// One frame of a trace; inlined functions have frames of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) function: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

impl Trace {
    /// Stack that walking the caller's stack may take; a third of it was seen.
    pub(crate) const STACK_BYTES: usize = 8 * 1024;

    /// Adds a frame, further out than those that are there; false once there is no room for more. Does not allocate.
    #[inline]
    pub(crate) fn add(&mut self, address: usize) -> bool {
        if self.addresses.len() < self.addresses.capacity() {
            self.addresses.push(address);
        }
        self.addresses.len() < self.addresses.capacity()
    }

    /// An empty trace with room for so many frames.
    pub(crate) fn with_room(frames: usize) -> Self {
        Self {
            addresses: Vec::with_capacity(frames),
        }
    }

    /// A trace of addresses that were found otherwise, innermost first.
    pub(crate) fn of(addresses: impl Iterator<Item = usize>) -> Self {
        Self {
            addresses: addresses.collect(),
        }
    }

    /// Names the frames. Reads debug information, which takes milliseconds at first.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for &address in &self.addresses {
            let before = frames.len();
            // The instruction before the one that is returned to is the call.
            let call = std::ptr::without_provenance_mut::<std::ffi::c_void>(address - 1);
            backtrace::resolve(call, |symbol| {
                frames.push(Frame {
                    function: symbol
                        .name()
                        .map_or_else(|| format!("{address:#x}"), |name| format!("{name:#}")),
                    file: symbol.filename().map(|file| file.display().to_string()),
                    line: symbol.lineno(),
                });
            });
            if frames.len() == before {
                frames.push(Frame {
                    function: format!("{address:#x}"),
                    file: None,
                    line: None,
                });
            }
        }
        frames
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, "\n             at {file}:{line}")?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_to_be_found() -> Trace {
        let mut trace = Trace::with_room(64);
        backtrace::trace(|frame| match frame.ip().addr() {
            0 => false,
            address => trace.add(address),
        });
        std::hint::black_box(trace)
    }

    #[test]
    fn a_trace_names_the_functions_it_was_taken_in() {
        let frames = a_function_to_be_found().frames();
        let found = frames
            .iter()
            .find(|frame| frame.function.contains("a_function_to_be_found"));
        assert!(
            found.is_some_and(|frame| frame.line.is_some()),
            "{frames:?}"
        );
    }

    #[test]
    fn frames_beyond_the_room_are_left_out() {
        let mut trace = Trace::with_room(2);
        assert!(trace.add(1) && !trace.add(2) && !trace.add(3));
        assert_eq!(trace.addresses, [1, 2]);
    }
}
