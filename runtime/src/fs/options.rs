//! How a file is opened.

use std::os::unix::fs::OpenOptionsExt;

/// How a file is opened; as [`std::fs::OpenOptions`].
///
/// # Examples
/// ```
/// use maniple::fs::OpenOptions;
/// let version = maniple::run(|| OpenOptions::new().read(true).open("/proc/version"))?;
/// assert!(version.metadata()?.is_file());
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) appends: bool,
    pub(super) truncates: bool,
    pub(super) creates: bool,
    pub(super) only_new: bool,
    pub(super) mode: u32,
    pub(super) flags: i32,
}

impl OpenOptions {
    /// Options of which none is set.
    #[expect(
        clippy::new_without_default,
        reason = "std's has none: a default would open nothing"
    )]
    pub fn new() -> Self {
        Self {
            reads: false,
            writes: false,
            appends: false,
            truncates: false,
            creates: false,
            only_new: false,
            mode: 0o666,
            flags: 0,
        }
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.reads = read;
        self
    }

    /// For writing.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.writes = write;
        self
    }

    /// For writing at the end, wherever that is by then.
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.appends = append;
        self
    }

    /// Empties it.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncates = truncate;
        self
    }

    /// Makes it, if it is not there.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.creates = create;
        self
    }

    /// Makes it, and fails if it is there.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.only_new = create_new;
        self
    }

    /// The permissions of a file that is made, less what the process's umask takes. Default: `0o666`.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Further flags for `open(2)`. In a simulated world `O_SYNC` and `O_DSYNC` have their meaning, and others none.
    pub fn custom_flags(&mut self, flags: i32) -> &mut Self {
        self.flags = flags;
        self
    }

    pub(super) fn std(&self) -> std::fs::OpenOptions {
        let mut options = std::fs::OpenOptions::new();
        options
            .read(self.reads)
            .write(self.writes)
            .append(self.appends)
            .truncate(self.truncates)
            .create(self.creates)
            .create_new(self.only_new)
            .mode(self.mode)
            .custom_flags(self.flags);
        options
    }
}
