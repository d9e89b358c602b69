//! What both ends set: limits, and how long they wait.

use std::time::Duration;

use crate::{
    frame::{Hello, LEAST_FRAME, VERSION},
    record::Recorder,
};

/// What both ends set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) max_frame: u32,
    pub(crate) max_calls: u32,
    pub(crate) window: u32,
    pub(crate) checksums: bool,
    /// Silence after which the peer is asked whether it lives.
    pub(crate) heartbeat: Duration,
    /// How long it may take nothing while something is to be written.
    pub(crate) stall: Duration,
    /// Bytes that wait to be written, beyond which who has more waits.
    pub(crate) max_unsent: usize,
    /// How long the beginning of a connection may take.
    pub(crate) patience: Duration,
    pub(crate) recorder: Option<Recorder>,
}

impl Default for Settings {
    fn default() -> Self {
        let name = std::env::args_os().next();
        let name = name.as_deref().map(std::path::Path::new);
        let name = name.and_then(|path| path.file_name());
        Self {
            name: name.unwrap_or_default().to_string_lossy().into_owned(),
            max_frame: 4 * 1024 * 1024 + 64 * 1024,
            max_calls: 1024,
            window: 256 * 1024,
            checksums: false,
            heartbeat: Duration::from_secs(2),
            stall: Duration::from_secs(30),
            max_unsent: 1024 * 1024,
            patience: Duration::from_secs(10),
            recorder: None,
        }
    }
}

impl Settings {
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            checksums: self.checksums,
            max_frame: self.max_frame.max(LEAST_FRAME),
            max_calls: self.max_calls,
            window: self.window.max(1),
            name: self.name.clone(),
        }
    }
}

/// What is set of a connection, alike in both builders, whose `settings` they are.
macro_rules! settings {
    () => {
        /// Its name, which the peer puts into its logs and numbers. Default: that of the program.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.settings.name = name.into();
            self
        }

        /// Bytes of a frame that is taken: a message, its attachment and a few more. Default: 4 MiB and 64 KiB; 1 KiB at
        /// least.
        pub fn max_frame_bytes(mut self, bytes: u32) -> Self {
            self.settings.max_frame = bytes.max($crate::frame::LEAST_FRAME);
            self
        }

        /// Bytes of a stream that may come before they are taken. Default: 256 KiB.
        pub fn window_bytes(mut self, bytes: u32) -> Self {
            self.settings.window = bytes.max(1);
            self
        }

        /// Whether the peer is to send a checksum with each frame. Default: no; TCP has one of its own, which is weaker.
        pub fn checksums(mut self, checksums: bool) -> Self {
            self.settings.checksums = checksums;
            self
        }

        /// Silence after which the peer is asked whether it lives. One that does not say so in the same time again is
        /// given up, so a dead host is noticed within three of these. Default: 2 s.
        ///
        /// # Panics
        /// If it is zero.
        pub fn heartbeat(mut self, time: Duration) -> Self {
            assert!(!time.is_zero(), "a heartbeat without a pause");
            self.settings.heartbeat = time;
            self
        }

        /// How long a peer that lives may take nothing of what is to be sent, before its connection is ended.
        /// Default: 30 s.
        pub fn stall_timeout(mut self, time: Duration) -> Self {
            self.settings.stall = time;
            self
        }

        /// Has all frames of its connections recorded: see [`Recorder`]($crate::record::Recorder). Default: none are.
        pub fn record(mut self, recorder: $crate::record::Recorder) -> Self {
            self.settings.recorder = Some(recorder);
            self
        }

        /// Bytes that wait to be sent, beyond which those who have more wait. Default: 1 MiB.
        pub fn max_unsent_bytes(mut self, bytes: usize) -> Self {
            self.settings.max_unsent = bytes;
            self
        }
    };
}

pub(crate) use settings;
