//! Fields that travel with a call: text, and bytes under names that end in `-bin`.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base64;

/// Fields that travel with a call, in either direction.
///
/// Names are in lower case. Values are printable ASCII; under names that end in `-bin`, any bytes. Those that begin with
/// `grpc-`, and those of HTTP itself, are not among them.
///
/// # Examples
/// ```
/// let mut metadata = maniple_grpc::Metadata::new();
/// assert!(metadata.insert("x-tenant", "seven"));
/// assert!(metadata.insert_bytes("x-trace-bin", &[0, 255]));
/// assert_eq!(metadata.get("x-tenant"), Some("seven"));
/// assert_eq!(metadata.get_bytes("x-trace-bin"), Some(vec![0, 255]));
/// assert!(!metadata.insert("x-tenant", "line\nend"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metadata(HeaderMap);

impl Metadata {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of that name that is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// All values of that name that are text.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.0.get_all(name).into_iter();
        let values = values.filter(|_| !is_reserved(name));
        values.filter_map(|value| value.to_str().ok())
    }

    /// The first value of that name, which ends in `-bin`, as bytes.
    pub fn get_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let first = self
            .0
            .get(name)
            .filter(|_| !is_reserved(name))?
            .as_bytes()
            .split(|&byte| byte == b',')
            .next()?;
        base64::decode(first.trim_ascii())
    }

    /// Adds a value; false, and nothing is added, if name or value cannot be.
    #[must_use]
    pub fn insert(&mut self, name: &str, value: &str) -> bool {
        let is_text = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        is_text && !name.ends_with("-bin") && self.append(name, HeaderValue::from_str(value).ok())
    }

    /// Adds bytes, under a name that ends in `-bin`; false, and nothing is added, if it does not.
    #[must_use]
    pub fn insert_bytes(&mut self, name: &str, bytes: &[u8]) -> bool {
        let text = base64::encode(bytes);
        name.ends_with("-bin") && self.append(name, HeaderValue::from_str(&text).ok())
    }

    /// Names and values as they travel.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let fields = self
            .0
            .iter()
            .filter(|(name, _)| !is_reserved(name.as_str()));
        fields.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn append(&mut self, name: &str, value: Option<HeaderValue>) -> bool {
        match (HeaderName::from_lowercase(name.as_bytes()), value) {
            (Ok(name), Some(value)) if !is_reserved(name.as_str()) => {
                self.0.try_append(name, value).is_ok()
            }
            _ => false,
        }
    }

    /// All fields of a head, of which those that are reserved are not shown.
    pub(crate) fn of(fields: HeaderMap) -> Self {
        Self(fields)
    }

    /// Adds them to those that are sent.
    pub(crate) fn write(&self, fields: &mut HeaderMap) {
        for (name, value) in &self.0 {
            // Fields that came may go on with their own, and without what was said of their way.
            if !is_reserved(name.as_str()) {
                fields.append(name.clone(), value.clone());
            }
        }
    }
}

/// Whether a field is gRPC's own, or HTTP's.
fn is_reserved(name: &str) -> bool {
    const OWN: [&str; 13] = [
        "connection",
        "content-length",
        "content-type",
        "date",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "content-encoding",
        "accept-encoding",
    ];
    name.starts_with("grpc-") || OWN.contains(&name)
}
