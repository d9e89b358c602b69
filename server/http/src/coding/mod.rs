//! The codings of bodies that are built in.

mod client;
pub(crate) mod decoder;

use crate::http1::accepted::{self, Accepted};

/// A coding that is built in, by the features `gzip`, `brotli` and `zstd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    #[cfg(feature = "zstd")]
    Zstd,
    #[cfg(feature = "gzip")]
    Gzip,
    #[cfg(feature = "brotli")]
    Brotli,
}

/// All that are built in, the best for a tie first.
pub(crate) const CODINGS: &[Coding] = &[
    #[cfg(feature = "zstd")]
    Coding::Zstd,
    #[cfg(feature = "gzip")]
    Coding::Gzip,
    #[cfg(feature = "brotli")]
    Coding::Brotli,
];

/// Their names, as a field of an answer lists them.
pub(crate) const NAMES: &str = match () {
    #[cfg(all(feature = "zstd", feature = "brotli", feature = "gzip"))]
    () => "zstd, gzip, br",
    #[cfg(all(feature = "zstd", feature = "brotli", not(feature = "gzip")))]
    () => "zstd, br",
    #[cfg(all(feature = "zstd", not(feature = "brotli"), feature = "gzip"))]
    () => "zstd, gzip",
    #[cfg(all(not(feature = "zstd"), feature = "brotli", feature = "gzip"))]
    () => "gzip, br",
    #[cfg(all(feature = "zstd", not(feature = "brotli"), not(feature = "gzip")))]
    () => "zstd",
    #[cfg(all(not(feature = "zstd"), feature = "brotli", not(feature = "gzip")))]
    () => "br",
    #[cfg(all(not(feature = "zstd"), not(feature = "brotli"), feature = "gzip"))]
    () => "gzip",
};

impl Coding {
    /// Its registered name.
    pub(crate) fn name(self) -> &'static str {
        self.known().name()
    }

    /// By name, in any case.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let known = accepted::Coding::named(name)?;
        let mut all = CODINGS.iter().copied();
        all.find(|coding| coding.known() == known)
    }

    /// What it is to who asks which codings a client takes.
    fn known(self) -> accepted::Coding {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => accepted::Coding::Zstd,
            #[cfg(feature = "brotli")]
            Self::Brotli => accepted::Coding::Brotli,
            #[cfg(feature = "gzip")]
            Self::Gzip => accepted::Coding::Gzip,
        }
    }
}

/// The coding that the client prefers among those that are offered; `None` for the bytes as they are. `offered` has the
/// server's preference first, which decides between equals.
pub(crate) fn preferred<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    offered: &[Coding],
) -> Option<Coding> {
    let taken = Accepted::of(fields).taken(offered, Coding::known);
    taken.first().copied()
}

/// How a body travels, by the fields `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Travels {
    Plain,
    In(Coding),
    /// In a coding that is not built in.
    Unknown,
    InSeveral,
}

impl Travels {
    pub(crate) fn of<'v>(fields: impl Iterator<Item = &'v [u8]>) -> Self {
        let names = fields.flat_map(|value| value.split(|&byte| byte == b','));
        let mut named = names
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
        let (first, second) = (named.next(), named.next());
        match (first.map(Coding::named), second) {
            (None, _) => Self::Plain,
            (Some(Some(coding)), None) => Self::In(coding),
            (Some(None), None) => Self::Unknown,
            _ => Self::InSeveral,
        }
    }
}
