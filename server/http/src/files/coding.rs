//! Compressed siblings of a file, and which of them a client takes (RFC 9110, 12.5.3).

/// How a sibling is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// The best first.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in fields.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the sibling's name ends with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// Those that a client takes and likes no less than what is not compressed, in the order in which they are looked for.
pub(super) fn taken<'v>(accept_encoding: impl Iterator<Item = &'v [u8]>) -> Vec<Coding> {
    let mut weights = [None; 3];
    let (mut any, mut identity) = (None, None);
    for value in accept_encoding {
        for item in value.split(|&byte| byte == b',') {
            let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or(b"");
            let weight = weight(parts);
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            if is("*") {
                any = Some(weight);
            } else if is("identity") {
                identity = Some(weight);
            } else if is("x-gzip") {
                weights[2] = Some(weight);
            } else if let Some(index) = Coding::ALL.iter().position(|one| is(one.name())) {
                weights[index] = Some(weight);
            }
        }
    }
    let least = identity.unwrap_or(0).max(1);
    let weight_of = |index: usize| weights[index].or(any).unwrap_or(0);
    let mut indices: Vec<_> = (0..3).filter(|&index| weight_of(index) >= least).collect();
    // It keeps the order of those that are liked as much.
    indices.sort_by_key(|&index| std::cmp::Reverse(weight_of(index)));
    indices
        .into_iter()
        .map(|index| Coding::ALL[index])
        .collect()
}

/// In thousandths; what is malformed is not taken.
fn weight<'p>(mut parameters: impl Iterator<Item = &'p [u8]>) -> u16 {
    let Some(parameter) = parameters.next() else {
        return 1000;
    };
    let Some((b"q" | b"Q", value)) = parameter.iter().position(|&byte| byte == b'=').map(|at| {
        (
            parameter[..at].trim_ascii(),
            parameter[at + 1..].trim_ascii(),
        )
    }) else {
        return 0;
    };
    let (whole, fraction) = match value {
        [whole @ (b'0' | b'1')] => (*whole, &b""[..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return 0,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digit = |index: usize| {
        fraction
            .get(index)
            .map_or(0, |digit| u16::from(digit - b'0'))
    };
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    (u16::from(whole - b'0') * 1000 + thousandths).min(1000)
}

#[cfg(test)]
mod tests {
    use super::{Coding::*, *};

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
}
