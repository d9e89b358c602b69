//! Sizes and times as the command line has them: `64K`, `1M`, `50ms`.

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

/// A number of bytes; suffixes are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("'{text}' is no size: a number, then K, M, G or T if need be");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(refused());
        }
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix("ib").unwrap_or(&unit);
        let shift = match unit {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(refused()),
        };
        let too_large = || format!("'{text}' is more than can be counted");
        let number: u64 = number.parse().map_err(|_| too_large())?;
        number
            .checked_mul(1 << shift)
            .map(Bytes)
            .ok_or_else(too_large)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let Some((shift, unit)) = units.into_iter().find(|&(shift, _)| self.0 >> shift > 0) else {
            return write!(f, "{} B", self.0);
        };
        match self.0.trailing_zeros() >= shift {
            true => write!(f, "{} {unit}", self.0 >> shift),
            false => write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64),
        }
    }
}

/// Parses a size that is not 0.
pub(crate) fn size(text: &str) -> Result<Bytes, String> {
    match text.parse()? {
        Bytes(0) => Err("must be more than 0".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Parses `250us`, `50ms`, `1.5s` or `2m`, up to a day.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let refused = || format!("'{text}' is no time: a number with us, ms, s or m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(refused()),
    };
    let number: f64 = digits.parse().map_err(|_| refused())?;
    let seconds = number * unit;
    match seconds > 0.0 && seconds <= 86_400.0 {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(format!("'{text}' must be more than 0 and at most a day")),
    }
}

/// A count with its thousands apart: `1,000,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("1M", 1 << 20),
            ("2GiB", 2 << 30),
            ("3t", 3 << 40),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for text in ["", "K", "-4K", "1.5M", "4 K", "4KB", "4P", "four", "4é"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains(text), "{text}: {error}");
        }
        assert!(size("0").unwrap_err().contains("more than 0"));
        for text in ["99999999999999999999", "99999999999T"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains("more than can be counted"), "{error}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (64 << 10, "64 KiB"),
            (1536, "1.5 KiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(time("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(time("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        for text in [
            "", "5", "ms", "5h", "-1s", "0ms", "1e9s", "nans", "infs", "5é",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (32_750_123, "32,750,123"),
        ] {
            assert_eq!(count(number), text);
        }
    }
}
