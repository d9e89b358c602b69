//! How long a backend takes to answer: a distribution, written `exp:20ms`, and samples of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// A distribution of answer times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Latency {
    /// `fixed:20ms`: always the same.
    Fixed(Duration),
    /// `uniform:10ms:30ms`: anything between the two, all equally likely.
    Uniform { from: Duration, to: Duration },
    /// `normal:20ms:5ms`: around a mean, with a standard deviation; never below zero.
    Normal { mean: Duration, deviation: Duration },
    /// `exp:20ms`: mostly short with a long tail, around a mean.
    Exponential { mean: Duration },
}

impl Latency {
    /// Draws one answer time, at most [`duration::LONGEST`].
    pub fn sample(&self, rng: &mut fastrand::Rng) -> Duration {
        let seconds = match *self {
            Latency::Fixed(time) => return time,
            Latency::Uniform { from, to } => {
                from.as_secs_f64() + rng.f64() * (to - from).as_secs_f64()
            }
            Latency::Normal { mean, deviation } => {
                mean.as_secs_f64() + deviation.as_secs_f64() * standard_normal(rng)
            }
            // 1 - f64() lies in (0, 1], where the logarithm is finite.
            Latency::Exponential { mean } => -mean.as_secs_f64() * (1.0 - rng.f64()).ln(),
        };
        Duration::from_secs_f64(seconds.clamp(0.0, duration::LONGEST.as_secs_f64()))
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let shape = parts.next().unwrap_or_default();
        let times = parts.map(duration::parse).collect::<Result<Vec<_>, _>>()?;
        match (shape, times.as_slice()) {
            ("fixed", &[time]) => Ok(Latency::Fixed(time)),
            ("uniform", &[from, to]) if from <= to => Ok(Latency::Uniform { from, to }),
            ("uniform", &[_, _]) => Err(format!("\"{text}\" ends before it begins")),
            ("normal", &[mean, deviation]) => Ok(Latency::Normal { mean, deviation }),
            ("exp", &[mean]) => Ok(Latency::Exponential { mean }),
            _ => Err(format!(
                "\"{text}\" is no latency: write fixed:20ms, uniform:10ms:30ms, normal:20ms:5ms or exp:20ms"
            )),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = duration::show;
        match *self {
            Latency::Fixed(time) => write!(f, "fixed:{}", show(time)),
            Latency::Uniform { from, to } => write!(f, "uniform:{}:{}", show(from), show(to)),
            Latency::Normal { mean, deviation } => {
                write!(f, "normal:{}:{}", show(mean), show(deviation))
            }
            Latency::Exponential { mean } => write!(f, "exp:{}", show(mean)),
        }
    }
}

impl From<Latency> for String {
    fn from(latency: Latency) -> String {
        latency.to_string()
    }
}

impl TryFrom<String> for Latency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// One sample of the normal distribution with mean 0 and deviation 1 (Box and Muller, 1958).
fn standard_normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn samples(spec: &str) -> Vec<Duration> {
        let latency: Latency = spec.parse().unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        (0..10_000).map(|_| latency.sample(&mut rng)).collect()
    }

    fn mean_ms(samples: &[Duration]) -> f64 {
        samples.iter().sum::<Duration>().as_secs_f64() * 1e3 / samples.len() as f64
    }

    #[test]
    fn reads_each_shape_and_writes_it_back() {
        for text in [
            "fixed:20ms",
            "uniform:10ms:30ms",
            "normal:20ms:5ms",
            "exp:1.5s",
            "fixed:0ms",
        ] {
            let latency: Latency = text.parse().unwrap();
            assert_eq!(latency.to_string(), text);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, reason) in [
            ("", "is no latency"),
            ("exp", "is no latency"),
            ("exp:20ms:5ms", "is no latency"),
            ("normal:20ms", "is no latency"),
            ("gamma:20ms", "is no latency"),
            ("fixed:20", "no unit"),
            ("uniform:30ms:10ms", "ends before it begins"),
        ] {
            let error = text.parse::<Latency>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn fixed_never_varies() {
        assert!(samples("fixed:20ms").iter().all(|&time| time == 20 * MS));
    }

    #[test]
    fn uniform_stays_within_its_bounds_and_fills_them() {
        let samples = samples("uniform:10ms:30ms");
        assert!(
            samples
                .iter()
                .all(|time| (10 * MS..=30 * MS).contains(time))
        );
        assert!(samples.iter().any(|&time| time < 11 * MS));
        assert!(samples.iter().any(|&time| time > 29 * MS));
    }

    #[test]
    fn normal_keeps_its_mean_and_never_turns_negative() {
        let samples = samples("normal:20ms:5ms");
        assert!((mean_ms(&samples) - 20.0).abs() < 0.5);
        let wide = self::samples("normal:1ms:50ms");
        assert!(wide.contains(&Duration::ZERO));
    }

    #[test]
    fn exponential_keeps_its_mean_and_has_a_tail() {
        let samples = samples("exp:20ms");
        assert!((mean_ms(&samples) - 20.0).abs() < 1.0);
        assert!(samples.iter().any(|&time| time > 100 * MS));
    }

    #[test]
    fn a_seed_gives_the_same_samples_again() {
        assert_eq!(samples("exp:20ms"), samples("exp:20ms"));
    }
}
