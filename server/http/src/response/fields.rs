//! Header fields of a response beside its type, in a box that a thread keeps.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

use http::HeaderMap;

use crate::id::Id;

/// Header fields beside the type.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) map: HeaderMap,
    /// The request's, if it is not in the map.
    pub(super) id: Option<Id>,
    pub(super) trailers: Option<Box<HeaderMap>>,
    pub(super) is_late: bool,
}

/// Fields, if there are any, in a box. A thread keeps one that had no map, such as that of an answer with nothing but an id,
/// for the next: memory that comes and goes with each answer.
#[derive(Debug)]
pub(super) struct Boxed(Option<Box<Fields>>);

thread_local! {
    static SPARE: Cell<Option<Box<Fields>>> = const { Cell::new(None) };
}

impl Boxed {
    pub(super) const NONE: Self = Self(None);

    /// Fields, which are there from now on.
    #[inline]
    pub(super) fn made(&mut self) -> &mut Fields {
        self.0.get_or_insert_with(|| {
            // Not where the thread ends.
            let spare = SPARE.try_with(Cell::take).ok().flatten();
            spare.unwrap_or_default()
        })
    }
}

impl Deref for Boxed {
    type Target = Option<Box<Fields>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Boxed {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for Boxed {
    #[inline]
    fn drop(&mut self) {
        let Some(mut fields) = self.0.take() else {
            return;
        };
        if fields.map.capacity() == 0 && fields.trailers.is_none() {
            (fields.id, fields.is_late) = (None, false);
            _ = SPARE.try_with(|spare| spare.set(Some(fields)));
        }
    }
}
