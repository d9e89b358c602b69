//! One function over many items, so many at a time: [`map`], [`try_map`] and [`map_as_completed`].

use crate::{
    cancel::{self, shield},
    group::{Group, decided, join::cut_short},
    sync::channel::{self, Sender},
};

/// Calls `f` for each item, at most `limit` at a time, and returns the results in the items' order.
///
/// The caller takes the items from the iterator, the next one once a call has ended; each call runs in
/// a child of a group, so it may borrow. Nothing is queued but the results.
///
/// Elsewhere: Go's `errgroup` with `SetLimit`, Eio's `Fiber.List.map ~max_fibers`; in Kotlin `async` under a
/// `Semaphore` or a flow's `flatMapMerge`, in Trio a nursery and a `CapacityLimiter`, in Java a
/// `StructuredTaskScope` and a semaphore. Among Rust's futures it is `buffered`.
///
/// # Panics
/// With the panic of a call or of the iterator; the other calls are cancelled. If `limit` is zero.
/// Cancellation and deadlines reach the calls; where that keeps one from being made or from returning
/// anything, this unwinds to the scope's edge.
///
/// # Examples
/// ```
/// let words = ["a", "bcd", "ef"];
/// let lengths = maniple::group::map(2, &words, |word| word.len());
/// assert_eq!(lengths, [1, 3, 2]);
/// ```
pub fn map<I, F, T>(limit: usize, items: I, f: F) -> Vec<T>
where
    I: IntoIterator,
    I::Item: Send,
    F: Fn(I::Item) -> T + Sync,
    T: Send,
{
    let mut places = Places::new();
    map_as_completed(limit, items, f, |index, value| places.put(index, value));
    places.into_values()
}

/// Maps like [`map`], and stops at the first error: calls under way are cancelled, others not made.
///
/// # Errors
/// The first error of a call, once all calls have ended.
///
/// # Panics
/// Panics as [`map`] does.
///
/// # Examples
/// ```
/// let texts = ["1", "2", "three", "4"];
/// let numbers = maniple::group::try_map(2, texts, |text| text.parse::<i32>());
/// assert!(numbers.is_err());
/// ```
pub fn try_map<I, F, T, E>(limit: usize, items: I, f: F) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    I::Item: Send,
    F: Fn(I::Item) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    let mut places = Places::new();
    run(limit, items, f, |index, value| places.put(index, value))?;
    Ok(places.into_values())
}

/// Maps like [`map`], but hands each result to `each`, with the index of its item, as soon as it is there.
///
/// `each` runs in the caller, one result after the other. While it runs no further call is begun, so a
/// slow one holds the calls back instead of letting results pile up.
///
/// Elsewhere: `buffer_unordered` among Rust's futures, `as_completed` in Python, Kotlin's `select` over
/// deferreds or a `channelFlow`, a channel that goroutines send to in Go, an Eio `Stream`, a Trio memory
/// channel.
///
/// # Panics
/// Panics as [`map`] does, and with the panic of `each`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let mut order = Vec::new();
/// maniple::group::map_as_completed(
///     2,
///     [20, 1],
///     |millis| maniple::sleep(Duration::from_millis(millis)),
///     |index, ()| order.push(index),
/// );
/// assert_eq!(order, [1, 0]);
/// ```
pub fn map_as_completed<I, F, T>(limit: usize, items: I, f: F, each: impl FnMut(usize, T))
where
    I: IntoIterator,
    I::Item: Send,
    F: Fn(I::Item) -> T + Sync,
    T: Send,
{
    let Ok(()) = run(
        limit,
        items,
        |item| Ok::<T, std::convert::Infallible>(f(item)),
        each,
    );
}

/// The loop of them all: begins calls up to the limit, then one more for each that reports its end.
fn run<I, F, T, E>(limit: usize, items: I, f: F, mut each: impl FnMut(usize, T)) -> Result<(), E>
where
    I: IntoIterator,
    I::Item: Send,
    F: Fn(I::Item) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    assert!(limit > 0, "a limit of zero calls at a time");
    // Holds no more than `limit` reports; no child waits to send.
    let (sender, reports) = channel::unbounded::<Option<(usize, T)>>();
    let whole = decided(|g| {
        let mut items = items.into_iter().enumerate();
        let (mut under_way, mut exhausted) = (0, false);
        loop {
            while under_way < limit && !exhausted {
                match items.next() {
                    Some(_) if cancel::check().is_err() => return Ok(false),
                    Some((index, item)) => {
                        begin(g, index, item, &f, &sender);
                        under_way += 1;
                    }
                    None => exhausted = true,
                }
            }
            if under_way == 0 {
                return Ok(true);
            }
            let report = reports.recv().or_else(|_| {
                // Cut short; so are the calls under way, which will say what they make of it.
                shield(|| reports.recv())
            });
            let Ok(Some((index, value))) = report else {
                return Ok(false);
            };
            under_way -= 1;
            each(index, value);
        }
    })?;
    if !whole {
        cut_short();
    }
    Ok(())
}

fn begin<'scope, A, F, T, E>(
    g: &'scope Group<'scope, '_, E>,
    index: usize,
    item: A,
    f: &'scope F,
    reports: &'scope Sender<Option<(usize, T)>>,
) where
    A: Send + 'scope,
    F: Fn(A) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    let report = Report {
        reports,
        value: None,
    };
    drop(g.try_spawn(move || {
        report.carry(index, f(item)?);
        Ok(())
    }));
}

/// Tells the leader that a call has ended, whichever way, even if it never began.
struct Report<'a, T> {
    reports: &'a Sender<Option<(usize, T)>>,
    value: Option<(usize, T)>,
}

impl<T> Report<'_, T> {
    fn carry(mut self, index: usize, value: T) {
        self.value = Some((index, value));
    }
}

impl<T> Drop for Report<'_, T> {
    fn drop(&mut self) {
        // The leader keeps the receiver until all calls have ended.
        let _received = self.reports.try_send(self.value.take());
    }
}

/// Results in the order of their items.
struct Places<T>(Vec<Option<T>>);

impl<T> Places<T> {
    fn new() -> Self {
        Places(Vec::new())
    }

    fn put(&mut self, index: usize, value: T) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(value);
    }

    fn into_values(self) -> Vec<T> {
        let complete =
            |value: Option<T>| value.expect("the loop ends once every call has reported");
        self.0.into_iter().map(complete).collect()
    }
}
