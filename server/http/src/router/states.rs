//! Values that a router's handlers share, by their types.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

/// A value of each type.
#[derive(Clone, Default)]
pub(crate) struct States {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl States {
    pub(super) fn set<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Those of a router that was taken in, and of the router around what is of another type.
    pub(super) fn below(own: Option<&Arc<Self>>, around: &Arc<Self>) -> Option<Arc<Self>> {
        match own {
            _ if around.values.is_empty() => own.cloned(),
            None => Some(Arc::clone(around)),
            Some(own) => {
                let mut all = Self::clone(around);
                let own = own.values.iter();
                all.values
                    .extend(own.map(|(of, value)| (*of, Arc::clone(value))));
                Some(Arc::new(all))
            }
        }
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({})", self.values.len())
    }
}

/// What handlers need of a router's states, and what of it is not there.
#[derive(Debug)]
pub struct Needs<'a> {
    there: &'a States,
    missing: Vec<&'static str>,
}

impl<'a> Needs<'a> {
    pub(crate) fn of(there: &'a States) -> Self {
        let missing = Vec::new();
        Self { there, missing }
    }

    /// Says that a [`State`](crate::extract::State) of that type is needed.
    pub fn state<T: 'static>(&mut self) {
        if self.there.get::<T>().is_none() {
            self.missing.push(std::any::type_name::<T>());
        }
    }

    pub(crate) fn missing(&self) -> &[&'static str] {
        &self.missing
    }
}
