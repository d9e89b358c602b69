//! Fields that travel with a call: names and bytes.

use std::fmt;

use bytes::Bytes;

/// Fields that travel with a call, in either direction: names, and bytes of any kind.
///
/// # Examples
/// ```
/// let mut metadata = maniple_rpc::Metadata::new();
/// assert!(metadata.insert("tenant", "seven"));
/// assert_eq!(metadata.get("tenant"), Some(&b"seven"[..]));
/// assert_eq!(metadata.iter().count(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Metadata(Encoded);

/// As it travels: each a byte for the length of the name, the name, two bytes for the length of the value, the value.
#[derive(Clone)]
enum Encoded {
    Own(Vec<u8>),
    Come(Bytes),
}

impl Default for Encoded {
    fn default() -> Self {
        Encoded::Own(Vec::new())
    }
}

impl Metadata {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field; false, and nothing is added, if its name is empty or has more than 255 bytes, or all fields together
    /// would have more than 65,535.
    #[must_use]
    pub fn insert(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let value = value.as_ref();
        let (Ok(name_length), Ok(length)) = (u8::try_from(name.len()), u16::try_from(value.len()))
        else {
            return false;
        };
        let whole = self.as_bytes().len() + 3 + name.len() + value.len();
        if name.is_empty() || whole > usize::from(u16::MAX) {
            return false;
        }
        let bytes = self.own();
        bytes.push(name_length);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
        true
    }

    fn own(&mut self) -> &mut Vec<u8> {
        if let Encoded::Come(bytes) = &self.0 {
            self.0 = Encoded::Own(bytes.to_vec());
        }
        match &mut self.0 {
            Encoded::Own(bytes) => bytes,
            Encoded::Come(_) => unreachable!("made one's own above"),
        }
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(each, _)| *each == name)
            .map(|(_, value)| value)
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.as_bytes();
        std::iter::from_fn(move || {
            let (name, value, behind) = first(rest)?;
            rest = behind;
            Some((name, value))
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Encoded::Own(bytes) => bytes,
            Encoded::Come(bytes) => bytes,
        }
    }

    /// Those that came; none at all if they are cut or have names that are no text.
    pub(crate) fn read(bytes: Bytes) -> Option<Self> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            (_, _, rest) = first(rest)?;
        }
        Some(Self(Encoded::Come(bytes)))
    }
}

fn first(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let (length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(name).ok()?, value, rest))
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.iter();
        f.debug_map()
            .entries(fields.map(|(name, value)| (name, value.escape_ascii().to_string())))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_out_as_they_went_in_and_cut_ones_not_at_all() {
        let mut metadata = Metadata::new();
        assert!(metadata.insert("a", [0, 255]));
        assert!(metadata.insert("b", ""));
        assert!(!metadata.insert("", "x"));
        assert!(!metadata.insert("c", vec![0; 65_535]));
        let bytes = Bytes::copy_from_slice(metadata.as_bytes());
        let mut read = Metadata::read(bytes.clone()).unwrap();
        assert_eq!(read.get("a"), Some(&[0, 255][..]));
        assert_eq!(read.get("b"), Some(&[][..]));
        assert!(read.insert("c", "x") && read.iter().count() == 3);
        for cut in [1, 2, 4, 7, 9] {
            assert!(Metadata::read(bytes.slice(..cut)).is_none(), "{cut}");
        }
    }
}
