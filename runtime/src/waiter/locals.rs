//! Values that belong to one waiter: a small map from keys to whatever they hold.
//!
//! Only the owner looks into it, except before a coroutine has begun: what it inherits is put there by
//! its spawner. A value is counted, not borrowed, while it is in use, so that user code (initialisers,
//! clones, destructors) never runs while the map is borrowed.

use std::{
    any::Any,
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use crate::sys::fenced;

/// One word while nothing is in it.
pub(crate) struct Locals(OnceCell<Box<RefCell<Vec<Entry>>>>);

struct Entry {
    /// The address of the static that names it.
    key: usize,
    /// `None` once it has been dropped: a value is made at most once, so that clearing comes to an end.
    value: Option<Rc<dyn Any>>,
    heir: Option<Heir>,
}

/// Makes a child's value of its spawner's. What it returns is counted once, and may go to other threads.
pub(crate) type Heir = fn(&dyn Any) -> Rc<dyn Any>;

/// What the map knows of a key.
pub(crate) enum Local {
    Unmade,
    Value(Rc<dyn Any>),
    Dropped,
}

impl Locals {
    pub(crate) const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// Whether there never was a value.
    #[inline]
    pub(crate) fn is_unused(&self) -> bool {
        self.0.get().is_none()
    }

    pub(crate) fn find(&self, key: usize) -> Local {
        let Some(entries) = self.0.get() else {
            return Local::Unmade;
        };
        match entries.borrow().iter().find(|entry| entry.key == key) {
            None => Local::Unmade,
            Some(Entry { value: None, .. }) => Local::Dropped,
            Some(Entry {
                value: Some(value), ..
            }) => Local::Value(value.clone()),
        }
    }

    /// Adds a value whose key is not in the map.
    pub(crate) fn add(&self, key: usize, value: Rc<dyn Any>, heir: Option<Heir>) {
        let value = Some(value);
        let entries = self.0.get_or_init(Box::default);
        entries.borrow_mut().push(Entry { key, value, heir });
    }

    /// What a child of the owner begins with.
    pub(crate) fn bequeath(&self) -> Locals {
        let heirs = Locals::new();
        let Some(entries) = self.0.get() else {
            return heirs;
        };
        let bequeathed = |entry: &Entry| Some((entry.key, entry.value.clone()?, entry.heir?));
        let bequeathed: Vec<_> = entries.borrow().iter().filter_map(bequeathed).collect();
        for (key, value, heir) in bequeathed {
            heirs.add(key, heir(&*value), Some(heir));
        }
        heirs
    }

    /// Drops the values, the youngest first, and those that their destructors make. A destructor's panic
    /// ends that destructor alone.
    #[inline]
    pub(crate) fn clear(&self) {
        if let Some(entries) = self.0.get() {
            Self::clear_all(entries);
        }
    }

    /// Out of line: most coroutines end without any.
    #[cold]
    fn clear_all(entries: &RefCell<Vec<Entry>>) {
        loop {
            let youngest = {
                let mut entries = entries.borrow_mut();
                entries
                    .iter_mut()
                    .rev()
                    .find_map(|entry| entry.value.take())
            };
            let Some(value) = youngest else { return };
            fenced::drop_value(value, "a coroutine's or thread's local");
        }
    }
}

impl Drop for Locals {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word_while_unused() {
        assert_eq!(size_of::<Locals>(), size_of::<usize>());
    }

    #[test]
    fn only_values_with_an_heir_are_bequeathed() {
        let locals = Locals::new();
        locals.add(1, Rc::new(10), None);
        locals.add(2, Rc::new(20), Some(|_| Rc::new(21)));
        let heirs = locals.bequeath();
        assert!(matches!(heirs.find(1), Local::Unmade));
        let Local::Value(value) = heirs.find(2) else {
            panic!("bequeathed")
        };
        assert_eq!(value.downcast_ref(), Some(&21));
    }

    #[test]
    fn a_dropped_value_is_not_made_again() {
        let locals = Locals::new();
        locals.add(1, Rc::new(()), None);
        locals.clear();
        assert!(matches!(locals.find(1), Local::Dropped));
    }
}
