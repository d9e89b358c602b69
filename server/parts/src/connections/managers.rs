//! Managers that are there for the crate `r2d2`.

use std::{error::Error, fmt};

use super::Manage;

/// A manager for the crate `r2d2`, as one for [`Connections`](super::Connections). Drivers have one of their own, or
/// another crate has it for them.
///
/// Its calls have to suspend: by the crate `maniple-hook`, or sockets of maniple's.
#[derive(Clone, Debug)]
pub struct R2d2<M>(M);

impl<M: r2d2::ManageConnection> R2d2<M> {
    /// Takes the manager over.
    pub fn new(manager: M) -> Self {
        Self(manager)
    }
}

impl<M: r2d2::ManageConnection> Manage for R2d2<M> {
    type Connection = M::Connection;
    type Error = Told;

    fn connect(&self) -> Result<M::Connection, Told> {
        self.0.connect().map_err(|error| Told::of(&error))
    }

    fn check(&self, connection: &mut M::Connection) -> Result<(), Told> {
        self.0
            .is_valid(connection)
            .map_err(|error| Told::of(&error))
    }

    fn is_broken(&self, connection: &mut M::Connection) -> bool {
        self.0.has_broken(connection)
    }
}

/// What a manager's error said, which may not leave its thread itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told(String);

impl Told {
    fn of(error: &dyn Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Told {}
