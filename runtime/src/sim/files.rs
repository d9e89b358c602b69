//! Files of hosts, as a scenario sets them up and looks at them.

use std::{io, path::Path};

use super::Host;

impl Host {
    /// Puts a file onto its disk, and the directories above it, whatever was there: what a service finds when it
    /// begins, or what something else has made of it. A loss of power does not take it away. Takes no time.
    ///
    /// # Errors
    /// If a file has the name of one of the directories, or a directory has its name.
    ///
    /// # Examples
    /// ```
    /// use maniple::{fs, sim};
    /// sim::check(0..5, |world| {
    ///     let host = world.host("service", || {
    ///         let limit = fs::read_to_string("/etc/limit").unwrap();
    ///         fs::write("/var/told", format!("{limit} at most")).unwrap_err();
    ///         fs::create_dir_all("/var").unwrap();
    ///         fs::write("/var/told", format!("{limit} at most")).unwrap();
    ///     });
    ///     host.place_file("/etc/limit", "12").unwrap();
    ///     world.eventually(std::time::Duration::from_secs(1), || {
    ///         host.file("/var/told").is_ok_and(|told| told == b"12 at most")
    ///     });
    /// });
    /// ```
    pub fn place_file(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let (path, bytes) = (path.as_ref(), bytes.as_ref());
        let world = &self.world.inner;
        Ok(world.on_disk(self.id, |disk, means| disk.place(path, bytes, means.now))?)
    }

    /// What its programs read in a file now, or, while it is down, what is left of that. Takes no time.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let whole = self
            .world
            .inner
            .on_disk(self.id, |disk, _| disk.whole(path.as_ref()));
        Ok(whole?)
    }

    /// How many bytes its files can have together: 1 GiB, unless it is said. They are in this process's memory.
    pub fn set_disk_size(&self, bytes: u64) {
        self.world
            .inner
            .on_disk(self.id, |disk, _| disk.set_size(bytes));
    }
}
