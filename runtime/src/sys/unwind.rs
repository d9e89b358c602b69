//! Walks a copy of a stack, by the tables that unwinding reads, and the caller's own.
//!
//! Of a copy, nothing but itself and the tables is read, both within their bounds, and never on the thread that is
//! looked at. So code without tables, or with wrong ones, a stack pointer that is elsewhere or an interrupted switch
//! of stacks cuts the trace short, and does no more harm.

use std::{ops::ControlFlow, slice};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, Evaluation, EvaluationResult,
    FrameDescriptionEntry, NativeEndian, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, UnwindTableRow, Value,
};

/// What is known of a thread's registers, by their numbers in the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// The instruction that comes next.
    pub(crate) at: usize,
    pub(crate) values: [Option<usize>; REGISTERS],
}

impl Registers {
    /// Of a thread of which no more is known than these two.
    pub(crate) fn of(at: usize, stack_pointer: usize) -> Self {
        let mut values = [None; REGISTERS];
        values[STACK_POINTER] = Some(stack_pointer);
        Self { at, values }
    }

    pub(crate) fn stack_pointer(&self) -> usize {
        self.values[STACK_POINTER].unwrap_or(0)
    }
}

#[cfg(target_arch = "x86_64")]
mod numbers {
    /// With the return address, which is the last.
    pub(crate) const REGISTERS: usize = 17;
    pub(crate) const STACK_POINTER: usize = 7;
    pub(super) const RETURN_ADDRESS: usize = 16;
    /// What a function leaves as it was, unless its table says otherwise.
    pub(super) const KEPT: &[usize] = &[3, 6, 12, 13, 14, 15];
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub(crate) const REGISTERS: usize = 32;
    pub(crate) const STACK_POINTER: usize = 31;
    pub(super) const RETURN_ADDRESS: usize = 30;
    /// With the link register, which leaf functions leave alone.
    pub(super) const KEPT: &[usize] = &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];
}

use numbers::{KEPT, RETURN_ADDRESS};
pub(crate) use numbers::{REGISTERS, STACK_POINTER};

/// Calls `visit` with the address of each frame's call, the innermost first, until it breaks or the walk leaves
/// `stack`, words that were copied from the address `start` on. The innermost is that of the next instruction
/// itself, and like the others one too high for its line.
pub(crate) fn walk(
    mut registers: Registers,
    start: usize,
    stack: &[usize],
    mut visit: impl FnMut(usize) -> ControlFlow<()>,
) {
    let copy = Copy { start, stack };
    let mut context = UnwindContext::new();
    // An interrupted function goes on where it is, others behind a call, which may be their last instruction.
    let mut is_interrupted = true;
    for _ in 0..MOST_STEPS {
        let behind = registers.at.wrapping_add(usize::from(is_interrupted));
        if registers.at == 0 || behind == 0 || visit(behind).is_break() {
            return;
        }
        let stepped = with_tables(behind - 1, |tables| {
            tables.step(behind - 1, &registers, &copy, &mut context)
        });
        let Some(step) = stepped.flatten() else {
            return;
        };
        let below = registers.stack_pointer();
        registers = step.registers;
        is_interrupted = step.was_signal;
        if !(below..=copy.end()).contains(&registers.stack_pointer()) {
            return;
        }
    }
}

/// Calls `visit` with the return addresses of the caller's stack, innermost first, until it says false.
///
/// Takes no lock: naming frames, which holds the one of the library for seconds, must not hold up a worker
/// or a signal handler.
#[inline]
pub(crate) fn walk_own(mut visit: impl FnMut(usize) -> bool) {
    // SAFETY: the library's lock is for platforms whose walking is not safe on several threads at once. On
    // Linux it is the unwinder's, which keeps its state on the stack and reads what the loader shares
    // without locks.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            // Zero marks the end of the outermost stack.
            let address = frame.ip().addr();
            address != 0 && visit(address)
        });
    }
}

/// More frames than any caller keeps.
const MOST_STEPS: usize = 1024;

/// Steps of one expression in a table; real ones have less than ten.
const MOST_OPERATIONS: u32 = 100;

type Bytes = EndianSlice<'static, NativeEndian>;

struct Copy<'a> {
    start: usize,
    stack: &'a [usize],
}

impl Copy<'_> {
    fn end(&self) -> usize {
        self.start + size_of_val(self.stack)
    }

    fn read(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.start)?;
        let word = offset / size_of::<usize>();
        let is_aligned = offset.is_multiple_of(size_of::<usize>());
        self.stack.get(word).copied().filter(|_| is_aligned)
    }
}

/// The frame above.
struct Step {
    registers: Registers,
    was_signal: bool,
}

/// The tables of one loaded object, while the loader keeps it.
struct Tables {
    header: EhFrameHdr<Bytes>,
    frames: EhFrame<Bytes>,
    bases: BaseAddresses,
}

impl Tables {
    fn step(
        &self,
        address: usize,
        registers: &Registers,
        copy: &Copy<'_>,
        context: &mut UnwindContext<usize>,
    ) -> Option<Step> {
        let word_size = size_of::<usize>() as u8;
        let header = self.header.parse(&self.bases, word_size).ok()?;
        let (frames, bases, address) = (&self.frames, &self.bases, address as u64);
        let find = EhFrame::cie_from_offset;
        let function = header
            .table()?
            .fde_for_address(frames, bases, address, find);
        let function = function.ok()?;
        let row = function.unwind_info_for_address(frames, bases, context, address);
        let frame = Frame {
            frames,
            function: &function,
            row: row.ok()?,
            registers,
            copy,
        };
        Some(Step {
            registers: frame.caller()?,
            was_signal: function.is_signal_trampoline(),
        })
    }
}

/// One frame and how to leave it.
struct Frame<'a> {
    frames: &'a EhFrame<Bytes>,
    function: &'a FrameDescriptionEntry<Bytes>,
    row: &'a UnwindTableRow<usize>,
    registers: &'a Registers,
    copy: &'a Copy<'a>,
}

impl Frame<'_> {
    fn caller(&self) -> Option<Registers> {
        let base = match self.row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => self
                .register(*register)?
                .wrapping_add_signed(*offset as isize),
            CfaRule::Expression(expression) => self.evaluate(expression, None)?,
        };
        let mut values = [None; REGISTERS];
        for (number, value) in values.iter_mut().enumerate() {
            *value = match self.row.register(Register(number as u16)) {
                Some(RegisterRule::SameValue) => self.registers.values[number],
                Some(rule) => self.recover(&rule, base),
                None if number == STACK_POINTER => Some(base),
                None if KEPT.contains(&number) => self.registers.values[number],
                None => None,
            };
        }
        let at = plain(values[RETURN_ADDRESS]?);
        Some(Registers { at, values })
    }

    fn recover(&self, rule: &RegisterRule<usize>, base: usize) -> Option<usize> {
        let number = |register: &Register| self.register(*register);
        match rule {
            RegisterRule::Offset(offset) => {
                self.copy.read(base.wrapping_add_signed(*offset as isize))
            }
            RegisterRule::ValOffset(offset) => Some(base.wrapping_add_signed(*offset as isize)),
            RegisterRule::Register(register) => number(register),
            RegisterRule::Expression(expression) => {
                self.copy.read(self.evaluate(expression, Some(base))?)
            }
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(base)),
            _ => None,
        }
    }

    fn register(&self, register: Register) -> Option<usize> {
        *self.registers.values.get(usize::from(register.0))?
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>, base: Option<usize>) -> Option<usize> {
        let expression = expression.get(self.frames).ok()?;
        let encoding = self.function.cie().encoding();
        let mut evaluation: Evaluation<Bytes> = expression.evaluation(encoding);
        evaluation.set_max_iterations(MOST_OPERATIONS);
        if let Some(base) = base {
            evaluation.set_initial_value(base as u64);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => {
                    return match evaluation.value_result()? {
                        Value::Generic(value) => usize::try_from(value).ok(),
                        _ => None,
                    };
                }
                EvaluationResult::RequiresMemory { address, size, .. }
                    if usize::from(size) == size_of::<usize>() =>
                {
                    let word = self.copy.read(usize::try_from(address).ok()?)?;
                    evaluation.resume_with_memory(Value::Generic(word as u64))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    // The instruction counts as a register in the tables of lazy binding.
                    let value = match usize::from(register.0) {
                        #[cfg(target_arch = "x86_64")]
                        RETURN_ADDRESS => self.registers.at,
                        _ => self.register(register)?,
                    };
                    evaluation.resume_with_register(Value::Generic(value as u64))
                }
                _ => return None,
            }
            .ok()?;
        }
    }
}

/// A return address without the signature that pointer authentication puts into its upper bits.
fn plain(address: usize) -> usize {
    match cfg!(target_arch = "aarch64") {
        true => address & ((1 << 48) - 1),
        false => address,
    }
}

/// Shows `look` the tables of the object that holds the code at `address`, if there are any.
fn with_tables<R>(address: usize, look: impl FnOnce(&Tables) -> R) -> Option<R> {
    let (mut look, mut found) = (Some(look), None);
    let mut search = Search {
        address,
        look: &mut |tables| {
            found = look.take().map(|look| look(tables));
        },
    };
    // SAFETY: `visit` is called with each object in turn and with `search`, whose type it knows.
    unsafe {
        libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast());
    }
    found
}

struct Search<'a> {
    address: usize,
    look: &'a mut dyn FnMut(&Tables),
}

/// # Safety
/// For dl_iterate_phdr(3), with a [`Search`].
unsafe extern "C" fn visit(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    search: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller's, which live as long as the call.
    let (object, search) = unsafe { (&*object, &mut *search.cast::<Search<'_>>()) };
    // SAFETY: the loader has mapped the object, which it keeps during this call, as its headers say.
    let segments = unsafe { Segments::of(object) };
    if !segments.hold_code(search.address) {
        return 0;
    }
    // SAFETY: as above.
    if let Some(tables) = unsafe { segments.tables() } {
        (search.look)(&tables);
    }
    1
}

struct Segments {
    base: usize,
    all: &'static [Segment],
}

#[cfg(target_pointer_width = "64")]
type Segment = libc::Elf64_Phdr;

impl Segments {
    /// # Safety
    /// What is returned, and the memory it tells of, is used only while the loader keeps the object.
    unsafe fn of(object: &libc::dl_phdr_info) -> Self {
        let all = match object.dlpi_phdr.is_null() {
            true => &[],
            // SAFETY: so the loader describes an object.
            false => unsafe { slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) },
        };
        Self {
            base: object.dlpi_addr as usize,
            all,
        }
    }

    /// Where a segment begins, and how many bytes of it come from its file.
    fn place(&self, segment: &Segment) -> (usize, usize) {
        let start = self.base.wrapping_add(segment.p_vaddr as usize);
        (start, segment.p_filesz as usize)
    }

    fn hold_code(&self, address: usize) -> bool {
        let code = libc::PF_X;
        self.loaded(address)
            .is_some_and(|(_, flags)| flags & code != 0)
    }

    /// The bytes from `address` to the end of the loaded segment that it lies in, and that segment's rights.
    fn loaded(&self, address: usize) -> Option<(usize, u32)> {
        self.all.iter().find_map(|segment| {
            let (start, length) = self.place(segment);
            let offset = address.checked_sub(start)?;
            let is_in = segment.p_type == libc::PT_LOAD && offset < length;
            is_in.then(|| (length - offset, segment.p_flags))
        })
    }

    /// # Safety
    /// The object is as its headers say.
    unsafe fn bytes(&self, address: usize) -> Option<Bytes> {
        let (length, flags) = self.loaded(address)?;
        if flags & libc::PF_R == 0 {
            return None;
        }
        let start = std::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: the rest of a loaded segment that may be read; tables are not written to once they are loaded.
        let bytes = unsafe { slice::from_raw_parts(start, length) };
        Some(EndianSlice::new(bytes, NativeEndian))
    }

    /// # Safety
    /// As for [`bytes`](Self::bytes).
    unsafe fn tables(&self) -> Option<Tables> {
        let is_header = |segment: &&Segment| segment.p_type == libc::PT_GNU_EH_FRAME;
        let (header_at, _) = self.place(self.all.iter().find(is_header)?);
        // SAFETY: as for this.
        let header = EhFrameHdr::new(unsafe { self.bytes(header_at)? }.slice(), NativeEndian);
        let bases = BaseAddresses::default().set_eh_frame_hdr(header_at as u64);
        let parsed = header.parse(&bases, size_of::<usize>() as u8).ok()?;
        let frames_at = parsed.eh_frame_ptr().direct().ok()?;
        // SAFETY: as for this.
        let frames = unsafe { self.bytes(usize::try_from(frames_at).ok()?)? };
        let mut frames = EhFrame::new(frames.slice(), NativeEndian);
        if cfg!(target_arch = "aarch64") {
            frames.set_vendor(gimli::Vendor::AArch64);
        }
        Some(Tables {
            header,
            frames,
            bases: bases.set_eh_frame(frames_at),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn code_of_this_program_has_tables_and_other_memory_has_none() {
        let here = code_of_this_program_has_tables_and_other_memory_has_none as fn() as usize;
        assert!(with_tables(here, |_| ()).is_some());
        let data = Box::new(0_u8);
        for address in [0, 1, usize::MAX, (&raw const *data).addr()] {
            assert!(with_tables(address, |_| ()).is_none(), "{address:#x}");
        }
    }

    /// What a walk makes of any copy at all: it ends.
    #[test]
    fn a_walk_over_nonsense_ends() {
        let here = a_walk_over_nonsense_ends as fn() as usize;
        let start = 0x7000_0000_0000;
        for fill in [0, 1, usize::MAX, here + 1, start, start + 8] {
            let stack = vec![fill; 1000];
            for stack_pointer in [0, 1, start, start + 4, start + 8000, usize::MAX] {
                for at in [0, 1, here, here + 1, here + 20, usize::MAX] {
                    let mut registers = Registers::of(at, stack_pointer);
                    let mut seen = 0;
                    let mut count = |_| {
                        seen += 1;
                        ControlFlow::Continue(())
                    };
                    walk(registers, start, &stack, &mut count);
                    registers.values = [Some(fill); REGISTERS];
                    walk(registers, start, &stack, count);
                    assert!(seen <= 2 * MOST_STEPS, "{seen}");
                }
            }
        }
    }
}
