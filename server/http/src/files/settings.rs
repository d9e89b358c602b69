//! What is served of files, and how.

use std::{collections::HashMap, ffi::OsString, path::PathBuf};

use http::HeaderValue;

/// What is served, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The directory, or the one file.
    pub(super) root: PathBuf,
    pub(super) is_file: bool,
    pub(super) index: Option<OsString>,
    pub(super) hidden: bool,
    pub(super) siblings: bool,
    pub(super) cache_control: Option<HeaderValue>,
    pub(super) types: HashMap<String, HeaderValue>,
}
