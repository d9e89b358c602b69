//! Watermarks: how deep coroutines have used their stacks, measured by their worker while anybody wants to know.
//!
//! It looks at a stack between two turns, when nothing runs there: before the first turn it notes which pages
//! are backed, and paints it if that is wanted; after each turn it notes the depth, and reads the paint; at the
//! end it looks which pages are backed then.

use std::{ops::Range, slice};

use super::{Worker, current_coroutine, snapshot::looks};
use crate::{
    coroutine::{Header, HomeTask, Name, Record},
    stack::depth::{self, Row, Tally, Watermark},
    sys::memory::{self, page_size},
};

/// So deep are stacks painted. Below that the pages tell, which are given back before a turn where nothing lives.
const PAINTED: usize = 64 << 10;

/// The top of a stack is not painted: what the context switch puts there before the first turn takes less, and
/// every coroutine takes more.
const UNPAINTED: usize = 512;

impl Worker {
    /// Before a turn: prepares the stack of a coroutine that is about to begin.
    ///
    /// # Safety
    /// It has not ended, and does not run.
    pub(super) unsafe fn watermark_before(&self, task: HomeTask) {
        let header = &*task;
        if header.was_suspended() {
            return;
        }
        let stack = header.stack_range();
        let below_top = stack.start + page_size()..stack.end - page_size();
        if depth::wants_fresh_stacks() {
            // SAFETY: whole pages of a stack on which nothing has run, which is this thread's; what the context
            // switch has put there lies in the page at the top. If it fails they are counted as backed.
            let _ = unsafe { memory::discard(slice::from_ref(&below_top)) };
        }
        let mut watermark = Box::new(new_watermark(header));
        watermark.from_begin = true;
        watermark.backed_before = lowest_page(header).unwrap_or(0);
        if self.scheduler.config.paint_stacks {
            let painted = paintable(&stack);
            watermark.paint = painted.start;
            if (1..painted.start).contains(&watermark.backed_before) {
                // SAFETY: pages between the guard and the paint of a stack on which nothing has run.
                unsafe { clear(stack.start + page_size()..painted.start, &mut watermark) };
            }
            // SAFETY: above the guard, and below what the context switch has put there; nothing has run.
            unsafe { memory::paint(painted) };
        }
        header.record.watermark.set(Some(watermark));
    }

    /// After a turn.
    ///
    /// # Safety
    /// It does not run, and its stack is not yet given back.
    pub(super) unsafe fn watermark_after(&self, task: HomeTask, ended: bool) {
        let header = &*task;
        let mut watermark = take_watermark(header);
        if watermark.paint != 0 {
            // SAFETY: painted, and nothing runs on this stack.
            unsafe { read_paint(header, &mut watermark, ended) };
        }
        depth::note(self.id(), watermark.row, |tally| {
            if !ended {
                tally.suspended.note(header.depth());
                return;
            }
            tally.ended += 1;
            note_paint(&mut watermark, tally);
            if watermark.from_begin {
                match deepest_page(header, &watermark) {
                    Some(deepest) => tally.resident.note(deepest),
                    None => tally.unknown += 1,
                }
            }
        });
        if !ended {
            header.record.watermark.set(Some(watermark));
        }
    }
}

/// Counts the depths of the running coroutine, if one runs, under `label` from here on.
#[cold]
#[inline(never)]
pub(crate) fn set_label(label: &str) {
    let Some((worker, task)) = Worker::current().zip(current_coroutine()) else {
        return;
    };
    let header = &*task;
    let mut watermark = take_watermark(header);
    if watermark.since_label > 0 {
        depth::note(worker.id(), watermark.row, |tally| {
            note_paint(&mut watermark, tally);
        });
    }
    watermark.row = watermark.row.with_label(label);
    header.record.watermark.set(Some(watermark));
}

/// Whether the pages of this coroutine, which is suspended, must stay though it does not need them; if not, how
/// deep they reach is remembered.
pub(super) fn keeps_pages(header: &Header) -> bool {
    if !looks().depths() {
        return false;
    }
    let mut watermark = take_watermark(header);
    let is_painted = watermark.paint != 0;
    if !is_painted && let Some(deepest) = lowest_page(header) {
        // What was there before it began says nothing, and is gone from here on.
        if watermark.backed_before == 0 || deepest < watermark.backed_before {
            watermark.given_back = watermark.given_back.max(header.stack_range().end - deepest);
            watermark.backed_before = header.stack_range().end - page_size();
        }
    }
    header.record.watermark.set(Some(watermark));
    is_painted
}

fn new_watermark(header: &Header) -> Watermark {
    Watermark {
        session: depth::session(),
        row: Row::of(
            header.origin.spawned_at,
            header.origin.name.as_ref().map(Name::kind),
        ),
        ..Watermark::default()
    }
}

/// Its watermark, or a new one if that is of an earlier measurement.
fn take_watermark(header: &Header) -> Box<Watermark> {
    let Record { watermark, .. } = &header.record;
    let known = watermark.take().filter(|g| g.session == depth::session());
    known.unwrap_or_else(|| Box::new(new_watermark(header)))
}

fn paintable(stack: &Range<usize>) -> Range<usize> {
    let from = (stack.start + page_size()).max(stack.end - PAINTED);
    from..stack.end - UNPAINTED
}

/// Notes how deep the last turn came, and paints over it.
///
/// # Safety
/// The stack was painted, and nothing runs on it.
unsafe fn read_paint(header: &Header, watermark: &mut Watermark, ended: bool) {
    let Range { start, end } = paintable(&header.stack_range());
    // SAFETY: by the caller's promise.
    let change = unsafe { memory::lowest_change(start..end) };
    let painted = change.unwrap_or(end);
    let lowest = match painted < start + page_size() {
        true => below_paint(header, watermark).unwrap_or(painted),
        false => painted,
    };
    let deepest = header.stack_range().end - lowest;
    watermark.since_label = watermark.since_label.max(deepest);
    watermark.written = watermark.written.max(deepest);
    if !ended {
        let frames = header.end_of_frames();
        // SAFETY: below the frames that it is suspended in, and above the guard: nothing lives there until it
        // is resumed on this thread.
        unsafe {
            if lowest < start {
                let dead = frames.min(start) & !(page_size() - 1);
                clear(lowest..dead.max(lowest), watermark);
            }
            memory::paint(painted..frames.min(end).max(painted));
        }
    }
}

/// The lowest page below the paint that the last turn has touched, if it came there.
///
/// A frame is touched once in each of its pages as it is made, whether it is written or not. So one that passes
/// the end of the paint has changed a byte in the last page of it.
fn below_paint(header: &Header, watermark: &mut Watermark) -> Option<usize> {
    let stack = header.stack_range();
    let below = stack.start + page_size()..watermark.paint;
    if below.is_empty() {
        return None;
    }
    let lowest = memory::lowest_resident(below).ok().flatten()?;
    watermark.beyond = true;
    if lowest >= watermark.backed_before && watermark.backed_before < watermark.paint {
        // What another left could not be given back.
        watermark.lost = true;
        return None;
    }
    Some(lowest)
}

/// Gives pages back below the paint, so that those that are backed later tell how deep the coroutine came.
///
/// # Safety
/// Whole pages of a stack of this thread's, on which nothing runs and where nothing lives.
unsafe fn clear(pages: Range<usize>, watermark: &mut Watermark) {
    if pages.is_empty() {
        return;
    }
    // SAFETY: by the caller's promise.
    watermark.backed_before = match unsafe { memory::discard(slice::from_ref(&pages)) } {
        Ok(()) => watermark.paint,
        // Memory that is locked stays.
        Err(_) => pages.start,
    };
}

/// Counts what was written since the label was set.
fn note_paint(watermark: &mut Watermark, tally: &mut Tally) {
    let written = std::mem::take(&mut watermark.since_label);
    if written == 0 {
        return;
    }
    tally.beyond_paint += u64::from(std::mem::take(&mut watermark.beyond));
    tally.painted.note(written);
}

/// How deep the pages reach that the coroutine has touched; `None` if those of another reach as deep.
fn deepest_page(header: &Header, watermark: &Watermark) -> Option<usize> {
    let base = header.stack_range().end;
    if watermark.paint != 0 {
        return (!watermark.lost).then(|| watermark.written.next_multiple_of(page_size()));
    }
    let now = lowest_page(header)?;
    let is_own = now < watermark.backed_before || watermark.backed_before == base - page_size();
    let now = is_own.then_some(base - now);
    // Where pages were given back, what it touched before counts too.
    match (now, watermark.given_back) {
        (now, 0) => now,
        (now, given_back) => Some(now.unwrap_or(0).max(given_back)),
    }
}

/// The lowest page of its stack that memory backs.
fn lowest_page(header: &Header) -> Option<usize> {
    let stack = header.stack_range();
    memory::lowest_resident(stack.start + page_size()..stack.end)
        .ok()
        .flatten()
}
