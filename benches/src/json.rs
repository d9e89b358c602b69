//! The file that `--json` names.

use std::{fs::File, io::BufWriter, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

/// A file for a report, or none if nobody wants one.
pub(crate) struct JsonFile(Option<BufWriter<File>>);

impl JsonFile {
    /// To be called before the minutes of measuring, so that a bad path is told at once.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self> {
        let create = |path: &Path| {
            let file = File::create(path).with_context(|| format!("create {}", path.display()));
            anyhow::Ok(BufWriter::new(file?))
        };
        Ok(Self(path.map(create).transpose()?))
    }

    pub(crate) fn write(self, report: &impl Serialize) -> Result<()> {
        match self.0 {
            Some(file) => {
                serde_json::to_writer_pretty(file, report).context("writing the JSON file")
            }
            None => Ok(()),
        }
    }
}
