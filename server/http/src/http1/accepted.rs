//! Which codings of a body a client takes: `Accept-Encoding` (RFC 9110, 12.5.3).

/// A coding that is spoken of here, whether it is built in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// All of them, the best for what is kept compressed first.
    pub(crate) const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its registered name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// By name, in any case; `x-gzip` is another for gzip (RFC 9110, 8.4.1.3).
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        let is = |coding: &Self| name.eq_ignore_ascii_case(coding.name().as_bytes());
        Self::ALL.into_iter().find(is)
    }
}

/// How dear a coding is to the client: 1000 is the most, 0 a refusal.
type Weight = u16;

const MOST: Weight = 1000;

/// What a client says of codings, in all its fields of that name.
///
/// Without any such field a client takes all, and gets the bytes as they are: many that send none know no coding. A client
/// that refuses all that there is gets them as they are, too, rather than a 406.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    named: [Option<Weight>; Coding::ALL.len()],
    identity: Option<Weight>,
    others: Option<Weight>,
}

impl Accepted {
    pub(crate) fn of<'v>(fields: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut accepted = Self::default();
        for item in fields.flat_map(|field| field.split(|&byte| byte == b',')) {
            let mut parts = item.split(|&byte| byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let weight = parts.next().map_or(Some(MOST), weight).unwrap_or(0);
            if name == b"*" {
                accepted.others = Some(weight);
            } else if name.eq_ignore_ascii_case(b"identity") {
                accepted.identity = Some(weight);
            } else if let Some(coding) = Coding::named(name) {
                accepted.named[coding as usize] = Some(weight);
            }
        }
        accepted
    }

    /// Those of the offered that the client likes no less than the bytes as they are: the dearest first, and of those that are
    /// as dear the first of the offer.
    pub(crate) fn taken<C: Copy>(&self, offered: &[C], coding: impl Fn(C) -> Coding) -> Vec<C> {
        let mut taken = offered.to_vec();
        taken.retain(|&one| self.takes(coding(one)).is_some());
        // It keeps the order of those that are as dear.
        taken.sort_by_key(|&one| std::cmp::Reverse(self.takes(coding(one))));
        taken
    }

    /// Its weight, if the client likes it no less than the bytes as they are.
    fn takes(&self, coding: Coding) -> Option<Weight> {
        let weight = self.named[coding as usize].or(self.others).unwrap_or(0);
        (weight >= self.identity.unwrap_or(0).max(1)).then_some(weight)
    }
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

#[cfg(test)]
mod tests {
    use super::{Coding::*, *};

    fn of(fields: &[&str]) -> Option<&'static str> {
        let fields = fields.iter().map(|field| field.as_bytes());
        let offered = [Zstd, Gzip, Brotli];
        let taken = Accepted::of(fields).taken(&offered, |coding| coding);
        taken.first().map(|coding| coding.name())
    }

    fn taken<'v>(fields: impl Iterator<Item = &'v [u8]>) -> Vec<Coding> {
        Accepted::of(fields).taken(&Coding::ALL, |coding| coding)
    }

    #[test]
    fn what_is_taken_is_in_the_order_of_the_weights() {
        for (accepted, expected) in [
            ("", vec![]),
            ("gzip", vec![Gzip]),
            ("gzip, deflate, br, zstd", vec![Brotli, Zstd, Gzip]),
            ("gzip;q=1.0, br;q=0.5", vec![Gzip, Brotli]),
            ("br;q=0.001, gzip ; q=0.8", vec![Gzip, Brotli]),
            ("br;q=0, *", vec![Zstd, Gzip]),
            ("*;q=0", vec![]),
            ("gzip;q=0", vec![]),
            ("identity, gzip;q=0.5", vec![]),
            ("identity;q=0.5, gzip", vec![Gzip]),
            ("GZIP;Q=1", vec![Gzip]),
            ("x-gzip", vec![Gzip]),
            ("gzip;q=2", vec![]),
            ("gzip;q=0.1234", vec![]),
            ("gzip;q=x", vec![]),
            ("gzip;level=1", vec![]),
            (",,;q=1,gzip;", vec![]),
        ] {
            let taken = taken([accepted.as_bytes()].into_iter());
            assert_eq!(taken, expected, "{accepted}");
        }
        let fields: [&[u8]; 2] = [b"br;q=0.5", b"gzip"];
        assert_eq!(taken(fields.into_iter()), [Gzip, Brotli]);
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
