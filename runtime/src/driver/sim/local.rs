//! Addresses of Unix-domain sockets in a world: each host has its own, in files that sockets alone know and beside.
//!
//! The kernel knows each by an abstract name that says which it is, and does all the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use rustix::{io::Errno, net::SocketAddrUnix};

use super::{host::HostId, name::Names};

#[derive(Default)]
pub(crate) struct Locals {
    numbers: BTreeMap<(HostId, Vec<u8>), usize>,
    addresses: Vec<Vec<u8>>,
    /// Socket files that are there, be their sockets still open or not.
    files: BTreeSet<usize>,
}

impl Locals {
    /// What the kernel knows an address by that is bound now. An abstract one begins with a zero.
    pub(super) fn bind(
        &mut self,
        names: &Names,
        host: HostId,
        address: &[u8],
    ) -> io::Result<SocketAddrUnix> {
        let number = self.number(host, address);
        if address.first() != Some(&0) && !self.files.insert(number) {
            return Err(Errno::ADDRINUSE.into());
        }
        names.local(host, number)
    }

    /// What the kernel knows an address by that is to be reached.
    pub(super) fn reach(
        &mut self,
        names: &Names,
        host: HostId,
        address: &[u8],
    ) -> io::Result<SocketAddrUnix> {
        let number = self.number(host, address);
        if address.first() != Some(&0) && !self.files.contains(&number) {
            return Err(Errno::NOENT.into());
        }
        names.local(host, number)
    }

    /// Removes a socket file; false if there is none. Its socket stays, and nobody reaches it any more by its path.
    pub(super) fn remove(&mut self, host: HostId, path: &[u8]) -> bool {
        let number = self.number(host, path);
        let was_there = self.files.remove(&number);
        if was_there {
            self.numbers.remove(&(host, path.to_vec()));
        }
        was_there
    }

    /// The address that the kernel knows by a name of that number.
    pub(super) fn address(&self, number: usize) -> Option<&[u8]> {
        self.addresses.get(number).map(Vec::as_slice)
    }

    fn number(&mut self, host: HostId, address: &[u8]) -> usize {
        let addresses = &mut self.addresses;
        let made = self.numbers.entry((host, address.to_vec()));
        *made.or_insert_with(|| {
            addresses.push(address.to_vec());
            addresses.len() - 1
        })
    }
}
