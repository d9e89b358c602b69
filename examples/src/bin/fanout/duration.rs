//! Durations as people write them: `250us`, `20ms`, `1.5s`.

use std::time::Duration;

/// The longest duration the demo takes, so that no flag can make a request last for ever.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Reads a number with its unit; the error names what was wrong and what would have been right.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "" => return Err(format!("\"{text}\" has no unit: write 20ms, 1.5s or 250us")),
        _ => return Err(format!("\"{text}\" has an unknown unit: use us, ms or s")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("\"{text}\" is no duration: write 20ms, 1.5s or 250us"))?;
    let seconds = number * seconds_per_unit;
    if !(0.0..=LONGEST.as_secs_f64()).contains(&seconds) {
        return Err(format!(
            "\"{text}\" is out of range: 0 to {}",
            show(LONGEST)
        ));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Writes a duration in the unit that reads best; [`parse`] takes it back.
pub fn show(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0 => "0ms".to_owned(),
        1..1_000 => format!("{micros}us"),
        1_000..1_000_000 => format!("{}ms", micros as f64 / 1e3),
        _ => format!("{}s", micros as f64 / 1e6),
    }
}

/// Milliseconds with two decimals, as the reports carry them.
pub fn as_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        assert_eq!(parse("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("0ms"), Ok(Duration::ZERO));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, reason) in [
            ("20", "no unit"),
            ("", "no unit"),
            ("20m", "unknown unit"),
            ("ms", "no duration"),
            ("-5ms", "out of range"),
            ("61s", "out of range"),
            ("nans", "unknown unit"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for micros in [0, 250, 20_000, 1_500_000, 12_345, 60_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }

    #[test]
    fn milliseconds_keep_two_decimals() {
        assert_eq!(as_ms(Duration::from_nanos(12_345_678)), 12.35);
    }
}
