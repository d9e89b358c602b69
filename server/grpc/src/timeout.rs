//! `grpc-timeout`: how long a call may take, as it travels.

use std::time::Duration;

/// Reads it: up to eight digits and a unit.
pub(crate) fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes it in the finest unit that has room for it, and not shorter than it is.
pub(crate) fn format(time: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let nanos = time.as_nanos();
    let units = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    for (length, unit) in units {
        let number = nanos.div_ceil(length);
        if number <= MOST {
            return format!("{number}{unit}");
        }
    }
    format!("{MOST}H")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_units_are_read() {
        let cases = [
            ("1510m", Duration::from_millis(1510)),
            ("10100m", Duration::from_millis(10_100)),
            ("101S", Duration::from_secs(101)),
            ("1670M", Duration::from_secs(100_200)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ];
        for (text, time) in cases {
            assert_eq!(parse(text.as_bytes()), Some(time), "{text}");
        }
        for text in ["", "1", "S", "123456789S", "-1S", "1 S", "1s"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_no_less() {
        for nanos in [0, 1, 99_999_999, 100_000_001, u64::MAX] {
            let time = Duration::from_nanos(nanos);
            let read = parse(format(time).as_bytes()).unwrap();
            assert!(read >= time && read.as_secs_f64() <= time.as_secs_f64() * 1.001 + 1e-9);
        }
        assert_eq!(format(Duration::MAX), "99999999H");
    }
}
