//! Intrusive lists: their nodes live where their owners put them, often on a suspended stack.
//!
//! A [`List`] is linked in both directions. It never owns a node and never allocates. Who may touch the links is the
//! business of whatever encloses the list: a spin lock, or the rule that only one thread sees it.
//!
//! A [`Chain`] has nodes that many threads give away and one takes, all at once. It owns them meanwhile, so it is safe
//! to use; what gives a node away, and gets it back, is its [`Handle`]. Since it takes the whole chain there is no ABA
//! problem.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Deref,
    ptr::{self, NonNull},
};

use crate::loom::{AtomicPtr, Ordering};

/// The links of one node; `T` embeds one for each list that it can be in at a time.
///
/// The neighbours are written when the node is linked and read while it is. So making a node, which most
/// operations do in vain, writes one byte.
pub(crate) struct Links<T> {
    prev: Cell<MaybeUninit<Option<NonNull<T>>>>,
    next: Cell<MaybeUninit<Option<NonNull<T>>>>,
    linked: Cell<bool>,
}

impl<T> fmt::Debug for Links<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("linked", &self.linked)
            .finish_non_exhaustive()
    }
}

impl<T> Links<T> {
    pub(crate) const fn new() -> Self {
        Self {
            prev: Cell::new(MaybeUninit::uninit()),
            next: Cell::new(MaybeUninit::uninit()),
            linked: Cell::new(false),
        }
    }

    /// Whether the node is in a list; for its owner, who puts it there and takes it out.
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.linked.get()
    }

    /// The node behind this one.
    ///
    /// # Safety
    /// The node is linked, and accesses are excluded as for [`List::for_each`].
    #[inline]
    pub(crate) unsafe fn next(&self) -> Option<NonNull<T>> {
        // SAFETY: linking has written both.
        unsafe { self.next.get().assume_init() }
    }

    #[inline]
    fn set_prev(&self, prev: Option<NonNull<T>>) {
        self.prev.set(MaybeUninit::new(prev));
    }

    #[inline]
    fn set_next(&self, next: Option<NonNull<T>>) {
        self.next.set(MaybeUninit::new(next));
    }
}

/// Tells the list where a node keeps its links.
pub(crate) trait Linked: Sized {
    fn links(&self) -> &Links<Self>;
}

pub(crate) struct List<T: Linked> {
    head: Cell<Option<NonNull<T>>>,
    tail: Cell<Option<NonNull<T>>>,
}

// SAFETY: the list is a pair of pointers; every access to the nodes behind them goes through unsafe
// methods whose callers promise exclusion, so the pair may move to, or be locked by, another thread.
unsafe impl<T: Linked> Send for List<T> {}

impl<T: Linked> List<T> {
    pub(crate) const fn new() -> Self {
        Self {
            head: Cell::new(None),
            tail: Cell::new(None),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// The node that `pop_front` would take.
    #[inline]
    pub(crate) fn front(&self) -> Option<NonNull<T>> {
        self.head.get()
    }

    /// # Safety
    /// The node is in no list, stays where it is until it has been removed, and all accesses to
    /// this list and its nodes' links are mutually excluded.
    #[inline]
    pub(crate) unsafe fn push_back(&self, node: NonNull<T>) {
        // SAFETY: the caller vouches for the node; a tail is a node pushed earlier and not removed.
        unsafe {
            let links = node.as_ref().links();
            debug_assert!(!links.linked.get(), "a node can be in one list at a time");
            links.linked.set(true);
            links.set_next(None);
            links.set_prev(self.tail.get());
            match self.tail.get() {
                Some(tail) => tail.as_ref().links().set_next(Some(node)),
                None => self.head.set(Some(node)),
            }
            self.tail.set(Some(node));
        }
    }

    /// # Safety
    /// As for `push_back`.
    pub(crate) unsafe fn push_front(&self, node: NonNull<T>) {
        // SAFETY: the caller vouches for the node; a head is a node pushed earlier and not removed.
        unsafe {
            let links = node.as_ref().links();
            debug_assert!(!links.linked.get(), "a node can be in one list at a time");
            links.linked.set(true);
            links.set_prev(None);
            links.set_next(self.head.get());
            match self.head.get() {
                Some(head) => head.as_ref().links().set_prev(Some(node)),
                None => self.tail.set(Some(node)),
            }
            self.head.set(Some(node));
        }
    }

    /// Takes the node out if it is in this list; tells whether it was.
    ///
    /// # Safety
    /// The node is in this list or in none, and accesses are excluded as for `push_back`.
    #[inline]
    pub(crate) unsafe fn remove(&self, node: NonNull<T>) -> bool {
        // SAFETY: linking has written both neighbours, which are linked too, so they are alive.
        unsafe {
            let links = node.as_ref().links();
            if !links.linked.replace(false) {
                return false;
            }
            let (prev, next) = (links.prev.get().assume_init(), links.next());
            match prev {
                Some(prev) => prev.as_ref().links().set_next(next),
                None => self.head.set(next),
            }
            match next {
                Some(next) => next.as_ref().links().set_prev(prev),
                None => self.tail.set(prev),
            }
            true
        }
    }

    /// # Safety
    /// Accesses are excluded as for `push_back`.
    #[inline]
    pub(crate) unsafe fn pop_front(&self) -> Option<NonNull<T>> {
        let head = self.head.get()?;
        // SAFETY: the head is in this list; exclusion is the caller's promise.
        unsafe { self.remove(head) };
        Some(head)
    }

    /// Whether there is a node that `is` says yes to; `is` may not change this list.
    ///
    /// # Safety
    /// Accesses are excluded as for `push_back`.
    pub(crate) unsafe fn any(&self, mut is: impl FnMut(&T) -> bool) -> bool {
        let mut at = self.head.get();
        while let Some(node) = at {
            // SAFETY: a node in the list is alive, and linked.
            let (node, next) = unsafe { (node.as_ref(), node.as_ref().links().next()) };
            if is(node) {
                return true;
            }
            at = next;
        }
        false
    }

    /// Calls `f` for each node; `f` may not change this list.
    ///
    /// # Safety
    /// Accesses are excluded as for `push_back`, and nodes stay alive during the walk.
    pub(crate) unsafe fn for_each(&self, mut f: impl FnMut(NonNull<T>)) {
        let mut at = self.head.get();
        while let Some(node) = at {
            // SAFETY: a node in the list is alive, and linked.
            at = unsafe { node.as_ref().links().next() };
            f(node);
        }
    }
}

/// Has a node, and gives it away to a [`Chain`].
///
/// # Safety
/// A node that was given stays where it is, and its link is the chain's alone, until it is regained. Any thread may
/// regain it.
pub(crate) unsafe trait Handle: Deref<Target: Chained> + Sized {
    fn give(self) -> NonNull<Self::Target>;

    /// # Safety
    /// The node was given, and has not been regained since.
    unsafe fn regain(node: NonNull<Self::Target>) -> Self;
}

/// Tells a chain where a node keeps the link to the one given before it.
pub(crate) trait Chained: Sized {
    fn next(&self) -> &AtomicPtr<Self>;
}

/// One word: nodes that were given away, on a mark.
pub(crate) struct Chain<H: Handle> {
    head: AtomicPtr<H::Target>,
    handles: PhantomData<fn(H) -> H>,
}

/// What lies below the nodes of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    None,
    First,
    Second,
}

impl Mark {
    /// As a word that is no node: the lowest page holds none.
    #[inline]
    fn word<T>(self) -> *mut T {
        ptr::without_provenance_mut(self as usize * align_of::<T>())
    }

    #[inline]
    fn of<T>(word: *mut T) -> Option<Self> {
        let all = [Self::None, Self::First, Self::Second];
        all.into_iter().find(|mark| mark.word() == word)
    }
}

impl<H: Handle> Chain<H> {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(Mark::None.word()),
            handles: PhantomData,
        }
    }

    /// Whether there are neither nodes nor a mark, at a glance.
    #[inline]
    pub(crate) fn looks_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Whether there is that mark and nothing on it, at a glance.
    #[inline]
    pub(crate) fn looks_like(&self, mark: Mark) -> bool {
        self.head.load(Ordering::Relaxed) == mark.word()
    }

    /// Gives a node away; true if it is the first on that mark.
    pub(crate) fn push(&self, handle: H, mark: Mark) -> bool {
        let node = handle.give();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: given, and in no chain yet, so it is there.
            let next = unsafe { node.as_ref() }.next();
            next.store(head, Ordering::Relaxed);
            // Release: the taker's acquiring swap sees the node's link and all that led to the push.
            match self.head.compare_exchange_weak(
                head,
                node.as_ptr(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return head == mark.word(),
                Err(now) => head = now,
            }
        }
    }

    /// Takes all nodes, oldest first, and the mark that they lay on; whether there were any is told too.
    pub(crate) fn take(&self, mut each: impl FnMut(H)) -> (Mark, bool) {
        let mut at = self.head.swap(Mark::None.word(), Ordering::Acquire);
        if let Some(mark) = Mark::of(at) {
            return (mark, false);
        }
        let mut oldest_first = ptr::null_mut::<H::Target>();
        let mark = loop {
            // SAFETY: a node that was given stays until it is regained.
            let next = unsafe { &*at }.next();
            let below = next.load(Ordering::Relaxed);
            next.store(oldest_first, Ordering::Relaxed);
            oldest_first = at;
            match Mark::of(below) {
                Some(mark) => break mark,
                None => at = below,
            }
        };
        while let Some(node) = NonNull::new(oldest_first) {
            // SAFETY: as above; the link is read before the node is regained, which is once.
            let handle = unsafe {
                oldest_first = node.as_ref().next().load(Ordering::Relaxed);
                H::regain(node)
            };
            each(handle);
        }
        (mark, true)
    }

    /// Puts one mark in the place of another, if that is there and nothing on it.
    pub(crate) fn replace(&self, from: Mark, to: Mark, success: Ordering) -> bool {
        self.head
            .compare_exchange(from.word(), to.word(), success, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
// SAFETY: a box that was leaked stays, and what is in it is nobody else's.
unsafe impl<T: Chained + Send> Handle for Box<T> {
    fn give(self) -> NonNull<T> {
        NonNull::from(Box::leak(self))
    }

    unsafe fn regain(node: NonNull<T>) -> Self {
        // SAFETY: given above.
        unsafe { Box::from_raw(node.as_ptr()) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Node {
        links: Links<Node>,
        value: u32,
    }

    impl Linked for Node {
        fn links(&self) -> &Links<Node> {
            &self.links
        }
    }

    fn node(value: u32) -> Node {
        Node {
            links: Links::new(),
            value,
        }
    }

    fn values(list: &List<Node>) -> Vec<u32> {
        let mut seen = Vec::new();
        // SAFETY: one thread, nodes alive.
        unsafe { list.for_each(|n| seen.push(n.as_ref().value)) };
        seen
    }

    #[test]
    fn nodes_leave_from_front_middle_and_back() {
        let (a, b, c) = (node(1), node(2), node(3));
        let list = List::new();
        // SAFETY: one thread, nodes outlive the list's use of them.
        unsafe {
            for n in [&a, &b, &c] {
                list.push_back(NonNull::from(n));
            }
            assert_eq!(values(&list), [1, 2, 3]);
            assert!(list.remove(NonNull::from(&b)));
            assert!(!list.remove(NonNull::from(&b)), "already out");
            assert_eq!(values(&list), [1, 3]);
            list.push_back(NonNull::from(&b));
            assert_eq!(list.pop_front().map(|n| n.as_ref().value), Some(1));
            assert!(list.remove(NonNull::from(&b)));
            assert_eq!(values(&list), [3]);
            list.push_front(NonNull::from(&a));
            assert_eq!(values(&list), [1, 3]);
            assert!(list.remove(NonNull::from(&a)));
            assert_eq!(list.pop_front().map(|n| n.as_ref().value), Some(3));
            list.push_front(NonNull::from(&b));
            list.push_back(NonNull::from(&c));
            assert_eq!(list.pop_front().map(|n| n.as_ref().value), Some(2));
            assert_eq!(list.pop_front().map(|n| n.as_ref().value), Some(3));
            assert!(list.pop_front().is_none() && list.is_empty());
        }
    }
}
