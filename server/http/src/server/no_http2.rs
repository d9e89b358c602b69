//! In place of HTTP/2 where the feature `http2` is off.

/// Settings of HTTP/2: it is not spoken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http2(());

impl Http2 {
    pub(crate) fn complaint(&self) -> Option<String> {
        None
    }
}

/// What came of HTTP/2: nothing.
pub(crate) enum Opening {}

impl Opening {
    pub(crate) fn of(_: &Http2, _: &[u8]) -> Option<Self> {
        None
    }
}

pub(super) fn serve<S, C, P>(_: S, _: C, _: P, opening: Opening) {
    match opening {}
}
