//! Walks a copy of a stack, by the tables that unwinding reads.
//!
//! Of a copy, nothing but itself and copies of the tables is read, both within their bounds, and never on the thread
//! that is looked at. So code without tables, or with wrong ones, a stack pointer that is elsewhere, an object that is
//! unloaded meanwhile or an interrupted switch of stacks cuts the trace short, and does no more harm.

use std::{fs, ops::ControlFlow};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, Evaluation, EvaluationResult,
    FrameDescriptionEntry, NativeEndian, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, UnwindTableRow, Value,
};

use super::own_memory;

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
    let mut objects = Objects::of_this_process();
    // An interrupted function goes on where it is, others behind a call, which may be their last instruction.
    let mut is_interrupted = true;
    for _ in 0..MOST_STEPS {
        let behind = registers.at.wrapping_add(usize::from(is_interrupted));
        if registers.at == 0 || behind == 0 || visit(behind).is_break() {
            return;
        }
        let tables = objects.tables(behind - 1);
        let stepped = tables.and_then(|it| it.step(behind - 1, &registers, &copy, &mut context));
        let Some(step) = stepped else {
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

/// More frames than any caller keeps.
const MOST_STEPS: usize = 1024;

/// Steps of one expression in a table; real ones have less than ten.
const MOST_OPERATIONS: u32 = 100;

type Bytes<'a> = EndianSlice<'a, NativeEndian>;

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

/// The tables of one loaded object, as they were when they were copied.
struct Tables {
    header: Vec<u8>,
    header_at: usize,
    frames: Vec<u8>,
    frames_at: usize,
}

impl Tables {
    fn step(
        &self,
        address: usize,
        registers: &Registers,
        copy: &Copy<'_>,
        context: &mut UnwindContext<usize>,
    ) -> Option<Step> {
        let mut frames = EhFrame::new(&self.frames, NativeEndian);
        if cfg!(target_arch = "aarch64") {
            frames.set_vendor(gimli::Vendor::AArch64);
        }
        let bases = BaseAddresses::default()
            .set_eh_frame_hdr(self.header_at as u64)
            .set_eh_frame(self.frames_at as u64);
        let header = EhFrameHdr::new(&self.header, NativeEndian);
        let header = header.parse(&bases, WORD as u8).ok()?;
        let (address, find) = (address as u64, EhFrame::cie_from_offset);
        let function = header
            .table()?
            .fde_for_address(&frames, &bases, address, find);
        let function = function.ok()?;
        let row = function.unwind_info_for_address(&frames, &bases, context, address);
        let frame = Frame {
            frames: &frames,
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
    frames: &'a EhFrame<Bytes<'a>>,
    function: &'a FrameDescriptionEntry<Bytes<'a>>,
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
        let mut evaluation: Evaluation<Bytes<'_>> = expression.evaluation(encoding);
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

/// The loaded objects, and copies of their tables as far as a walk has asked for them.
struct Objects {
    /// Where mappings of files begin, from their beginnings on, and the kernel's own object.
    starts: Vec<usize>,
    seen: Vec<Object>,
}

impl Objects {
    /// None, where `/proc` cannot be read.
    fn of_this_process() -> Self {
        let told = own_memory::open().and_then(|()| fs::read_to_string("/proc/self/maps"));
        Self {
            starts: told.map_or_else(|_| Vec::new(), |told| parse(&told)),
            seen: Vec::new(),
        }
    }

    /// Those of the object that holds the code at `address`, if it has any.
    fn tables(&mut self, address: usize) -> Option<&Tables> {
        let known = self.seen.iter().position(|it| it.holds_code(address));
        let index = known.or_else(|| {
            let below = self.starts.iter().rev().filter(|start| **start <= address);
            let found = below
                .filter_map(|start| Object::at(*start))
                .find(|it| it.holds_code(address))?;
            self.seen.push(found);
            Some(self.seen.len() - 1)
        })?;
        self.seen[index].tables()
    }
}

/// The starts of [`Objects`], of the lines that proc_pid_maps(5) describes.
fn parse(told: &str) -> Vec<usize> {
    let start = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [range, rights, offset, _, _, path, ..] = words[..] else {
            return None;
        };
        let is_beginning = offset.bytes().all(|digit| digit == b'0');
        let is_object = path.starts_with('/') || path == "[vdso]";
        let (start, _) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        (is_beginning && is_object && rights.starts_with('r')).then_some(start)
    };
    told.lines().filter_map(start).collect()
}

/// A loaded object: an ELF file of 64 bits in memory, or the kernel's.
struct Object {
    /// Where its address zero is.
    base: usize,
    segments: Vec<Segment>,
    /// Once they have been asked for.
    tables: Option<Option<Tables>>,
}

/// What a program header says (elf(5)).
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    start: usize,
    /// How many bytes of it come from the file.
    length: usize,
}

impl Object {
    /// The one whose file is mapped there from its beginning on.
    fn at(start: usize) -> Option<Self> {
        let head = bytes(start, 64)?;
        let is_ours = head.starts_with(b"\x7fELF\x02");
        let segments_at = start.checked_add(word(&head, 32)?).filter(|_| is_ours)?;
        let (size, count) = (half(&head, 54)?, half(&head, 56)?);
        let headers = bytes(segments_at, size * count)?;
        let mut segments = Vec::with_capacity(count);
        for header in headers.chunks_exact(size.max(1)) {
            segments.push(Segment {
                kind: u32::from_ne_bytes(header.get(..4)?.try_into().ok()?),
                flags: u32::from_ne_bytes(header.get(4..8)?.try_into().ok()?),
                offset: word(header, 8)? as u64,
                start: word(header, 16)?,
                length: word(header, 32)?,
            });
        }
        let is_first = |it: &&Segment| it.kind == libc::PT_LOAD && it.offset == 0;
        let first = segments.iter().find(is_first)?.start;
        let base = start.wrapping_sub(first);
        Some(Self {
            base,
            segments,
            tables: None,
        })
    }

    fn holds_code(&self, address: usize) -> bool {
        let code = libc::PF_X;
        self.loaded(address)
            .is_some_and(|(_, flags)| flags & code != 0)
    }

    /// How many bytes there are from `address` to the end of the loaded segment that it lies in, and that segment's
    /// rights.
    fn loaded(&self, address: usize) -> Option<(usize, u32)> {
        self.segments.iter().find_map(|segment| {
            let offset = address.checked_sub(self.base.wrapping_add(segment.start))?;
            let is_in = segment.kind == libc::PT_LOAD && offset < segment.length;
            is_in.then(|| (segment.length - offset, segment.flags))
        })
    }

    fn tables(&mut self) -> Option<&Tables> {
        if self.tables.is_none() {
            self.tables = Some(self.copy_tables());
        }
        self.tables.as_ref()?.as_ref()
    }

    fn copy_tables(&self) -> Option<Tables> {
        let is_header = |it: &&Segment| it.kind == libc::PT_GNU_EH_FRAME;
        let segment = self.segments.iter().find(is_header)?;
        let header_at = self.base.wrapping_add(segment.start);
        let header = bytes(header_at, segment.length)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header_at as u64);
        let parsed = EhFrameHdr::new(&header, NativeEndian).parse(&bases, WORD as u8);
        let frames_at = parsed.ok()?.eh_frame_ptr().direct().ok()?;
        let frames_at = usize::try_from(frames_at).ok()?;
        let (length, _) = self.loaded(frames_at)?;
        Some(Tables {
            header,
            header_at,
            frames: bytes(frames_at, length)?,
            frames_at,
        })
    }
}

const WORD: usize = size_of::<usize>();

/// Larger tables than any program's.
const MOST_BYTES: usize = 256 << 20;

fn bytes(address: usize, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; Some(length).filter(|length| *length <= MOST_BYTES)?];
    own_memory::read(address, &mut bytes).ok()?;
    Some(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + WORD)?;
    Some(usize::from_ne_bytes(bytes.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?).into())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn code_of_this_program_has_tables_and_other_memory_has_none() {
        let here = code_of_this_program_has_tables_and_other_memory_has_none as fn() as usize;
        let mut objects = Objects::of_this_process();
        assert!(objects.tables(here).is_some());
        let c_library = libc::malloc as unsafe extern "C" fn(usize) -> *mut libc::c_void;
        assert!(objects.tables(c_library as usize).is_some());
        assert_eq!(objects.seen.len(), 2);
        assert!(objects.tables(here + 1).is_some());
        assert_eq!(objects.seen.len(), 2, "copied once");
        let data = Box::new(0_u8);
        for address in [0, 1, usize::MAX, (&raw const *data).addr()] {
            assert!(objects.tables(address).is_none(), "{address:#x}");
        }
    }

    #[test]
    fn objects_begin_where_files_are_mapped_from_their_beginning_on() {
        let told = "\
            55d0-55e0 r--p 00000000 fd:00 7 /bin/with blank\n\
            55e0-55f0 r-xp 00010000 fd:00 7 /bin/with blank\n\
            55f0-5600 rw-p 00000000 00:00 0 \n\
            5600-5610 rw-p 00000000 00:00 0 [heap]\n\
            5610-5620 ---p 00000000 fd:00 9 /closed\n\
            7ff0-7ff1 r-xp 00000000 00:00 0 [vdso]\n\
            nonsense\n";
        assert_eq!(parse(told), [0x55d0, 0x7ff0]);
        assert!(Object::at(0x55d0).is_none(), "nothing is there");
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
