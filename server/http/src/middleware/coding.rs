//! Codings of bodies, and which of them a client takes: `Accept-Encoding` (RFC 9110, 12.5.3).

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
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
            #[cfg(feature = "brotli")]
            Self::Brotli => "br",
            #[cfg(feature = "gzip")]
            Self::Gzip => "gzip",
        }
    }

    /// By name, in any case.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let name = match name.eq_ignore_ascii_case(b"x-gzip") {
            true => b"gzip",
            false => name,
        };
        let mut all = CODINGS.iter().copied();
        all.find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

/// What one may be sent with, and how dear it is to the client: 1000 is the most, 0 a refusal.
type Weight = u16;

/// The coding that the client prefers among those that are offered; `None` for the bytes as they are. `offered` has the
/// server's preference first, which decides between equals.
///
/// Without any such field a client takes all, and gets the bytes as they are: many that send none know no coding. A client
/// that refuses all that there is gets them as they are, too, rather than a 406.
pub(crate) fn preferred<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    offered: &[Coding],
) -> Option<Coding> {
    let mut named = [None; CODINGS.len()];
    let (mut identity, mut others) = (None, None);
    for item in fields.flat_map(|field| field.split(|&byte| byte == b',')) {
        let mut parts = item.split(|&byte| byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let weight = parts.next().map_or(Some(MOST), weight).unwrap_or(0);
        if name == b"*" {
            others = Some(weight);
        } else if name.eq_ignore_ascii_case(b"identity") {
            identity = Some(weight);
        } else if let Some(coding) = Coding::named(name) {
            named[at(coding)] = Some(weight);
        }
    }
    let mut best: Option<(Coding, Weight)> = None;
    for &coding in offered {
        let weight = named[at(coding)].or(others).unwrap_or(0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((coding, weight));
        }
    }
    let (coding, weight) = best?;
    (identity.unwrap_or(0) <= weight).then_some(coding)
}

const MOST: Weight = 1000;

fn at(coding: Coding) -> usize {
    let mut all = CODINGS.iter();
    all.position(|&one| one == coding).unwrap_or(0)
}

/// `q=0.5`, in any case and with blanks around it; `None` for what is none (RFC 9110, 12.4.2).
fn weight(parameter: &[u8]) -> Option<Weight> {
    let value = parameter.trim_ascii();
    let value = value
        .strip_prefix(b"q=")
        .or_else(|| value.strip_prefix(b"Q="))?;
    let (whole, fraction) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = match fraction.get(place) {
            Some(digit @ b'0'..=b'9') => digit - b'0',
            Some(_) => return None,
            None => 0,
        };
        thousandths = thousandths * 10 + Weight::from(digit);
    }
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(MOST),
        _ => None,
    }
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "zstd"))]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> Option<&'static str> {
        let fields = fields.iter().map(|field| field.as_bytes());
        preferred(fields, CODINGS).map(Coding::name)
    }

    #[test]
    fn the_client_decides_by_weight_and_the_server_between_equals() {
        for (fields, chosen) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some("gzip")),
            (&["GZip"], Some("gzip")),
            (&["x-gzip"], Some("gzip")),
            (&["gzip, deflate, br"], Some("gzip")),
            (&["gzip, deflate, br, zstd"], Some("zstd")),
            (&["br", "gzip"], Some("gzip")),
            (&["gzip;q=0.9, br"], Some("br")),
            (&["br;q=0.1, gzip"], Some("gzip")),
            (&["br;q=0.100 , gzip;q=0.101"], Some("gzip")),
            (&["gzip ; Q=0.5, br;q=0.4"], Some("gzip")),
            (&["deflate"], None),
            (&["*"], Some("zstd")),
            (&["zstd;q=0, *"], Some("gzip")),
            (&["*;q=0.2, gzip;q=0.3"], Some("gzip")),
            (&[", ,gzip,"], Some("gzip")),
        ] {
            assert_eq!(of(fields), chosen, "{fields:?}");
        }
    }

    #[test]
    fn what_is_refused_is_not_sent() {
        for refusal in [
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip; q=0",
            "*;q=0",
            "gzip;q=0, identity;q=0",
            "identity, gzip;q=0.5",
            "identity;q=1.0, *;q=0.5",
        ] {
            assert_eq!(of(&[refusal]), None, "{refusal}");
        }
        assert_eq!(of(&["identity;q=0, gzip;q=0.1"]), Some("gzip"));
    }

    #[test]
    fn a_weight_that_is_none_refuses() {
        for wrong in [
            "1.5", "2", "0.1234", "-1", "", ".5", "1.001", "0,5", "x", "0.5x", "01",
        ] {
            assert_eq!(of(&[&format!("gzip;q={wrong}")]), None, "{wrong}");
        }
        assert_eq!(of(&["gzip;level=9"]), None);
        assert_eq!(of(&["gzip;q=1.000"]), Some("gzip"));
        assert_eq!(of(&["gzip;q=0."]), None);
        assert_eq!(of(&["gzip;q=1."]), Some("gzip"));
    }
}
