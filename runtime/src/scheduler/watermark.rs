//! Watermarks: how deep coroutines have used their stacks, measured by their worker while anybody wants to know.
//!
//! It looks at a stack between two turns, when nothing runs there: before the first turn it notes which pages
//! are backed, and paints it if that is wanted; after each turn it notes the depth, and reads the paint; at the
//! end it looks which pages are backed then.

use std::ops::Range;

use super::Worker;
use crate::{
    coroutine::{Header, Name, Record, Still, TOP, looks, on_running},
    stack::depth::{self, Row, Tally, Watermark},
    sys::memory::{self, page_size},
};

/// So deep are stacks painted. Below that the pages tell, which are given back before a turn where nothing lives.
const PAINTED: usize = 64 << 10;

/// Before a turn: prepares the stack of a coroutine that is about to begin, and paints it if that is wanted.
pub(super) fn before_turn(task: &Still<'_>, paint: bool) {
    if task.was_suspended() {
        return;
    }
    let stack = task.stack_range();
    if depth::wants_fresh_stacks() {
        // What the context switch has put there lies in the page at the top. If it fails they are counted as backed.
        let below_top = stack.start..stack.end - page_size();
        let _ = memory::give_back(&[task.stack().vacant(&below_top)]);
    }
    let mut watermark = Box::new(new_watermark(task));
    watermark.from_begin = true;
    watermark.backed_before = lowest_page(task).unwrap_or(0);
    if paint {
        let painted = paintable(&stack);
        watermark.paint = painted.start;
        if (1..painted.start).contains(&watermark.backed_before) {
            clear(
                task,
                stack.start + page_size()..painted.start,
                &mut watermark,
            );
        }
        task.stack().paint(&painted);
    }
    task.record.watermark.set(Some(watermark));
}

/// After a turn on the worker of that number.
pub(super) fn after_turn(worker: u32, task: &Still<'_>, ended: bool) {
    let mut watermark = take_watermark(task);
    if watermark.paint != 0 {
        read_paint(task, &mut watermark, ended);
    }
    depth::note(worker, watermark.row, |tally| {
        if !ended {
            tally.suspended.note(task.depth());
            return;
        }
        tally.ended += 1;
        note_paint(&mut watermark, tally);
        if watermark.from_begin {
            match deepest_page(task, &watermark) {
                Some(deepest) => tally.resident.note(deepest),
                None => tally.unknown += 1,
            }
        }
    });
    if !ended {
        task.record.watermark.set(Some(watermark));
    }
}

/// Counts the depths of the running coroutine, if one runs, under `label` from here on.
#[cold]
#[inline(never)]
pub(crate) fn set_label(label: &str) {
    on_running(|running| {
        let Some((worker, task)) = Worker::current().zip(running) else {
            return;
        };
        let mut watermark = take_watermark(&task);
        if watermark.since_label > 0 {
            depth::note(worker.id(), watermark.row, |tally| {
                note_paint(&mut watermark, tally);
            });
        }
        watermark.row = watermark.row.with_label(label);
        task.record.watermark.set(Some(watermark));
    });
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
    from..stack.end - TOP
}

/// Notes how deep the last turn came, and paints over it.
fn read_paint(task: &Still<'_>, watermark: &mut Watermark, ended: bool) {
    let Range { start, end } = paintable(&task.stack_range());
    let painted = task.stack().lowest_change(&(start..end)).unwrap_or(end);
    let lowest = match painted < start + page_size() {
        true => below_paint(task, watermark).unwrap_or(painted),
        false => painted,
    };
    let deepest = task.stack_range().end - lowest;
    watermark.since_label = watermark.since_label.max(deepest);
    watermark.written = watermark.written.max(deepest);
    if !ended {
        if lowest < start {
            clear(task, lowest..start, watermark);
        }
        task.stack().paint(&(painted..end));
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
fn clear(task: &Still<'_>, pages: Range<usize>, watermark: &mut Watermark) {
    let vacant = task.stack().vacant(&pages);
    if vacant.is_empty() {
        return;
    }
    watermark.backed_before = match memory::give_back(&[vacant]) {
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
