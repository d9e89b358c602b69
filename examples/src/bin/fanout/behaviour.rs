//! What a backend does to a request: its latency, its error rate, its outage. Set by flag or by `POST /control`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::latency::Latency;

/// The behaviour of a backend at this moment, as `GET /control` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Behaviour {
    pub latency: Latency,
    /// The share of requests answered with 500, from 0 to 1.
    pub errors: f64,
    pub outage: Outage,
}

/// Whether the backend is out of service, and in which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// In service.
    Off,
    /// Answers 503 at once.
    Fail,
    /// Takes the request and stays silent until the outage ends.
    Hang,
}

/// What a flag or `POST /control` sets: a field that is absent stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Change {
    #[serde(default)]
    pub latency: Option<Latency>,
    #[serde(default, deserialize_with = "error_rate")]
    pub errors: Option<f64>,
    #[serde(default)]
    pub outage: Option<Outage>,
}

/// From a JSON object alone: by itself serde also takes an array, with the fields in order, and `[]` would change nothing.
impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Change;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with latency, errors or outage")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Change, M::Error> {
                Change::deserialize(MapAccessDeserializer::new(map))
            }
        }
        input.deserialize_map(Object)
    }
}

impl Behaviour {
    /// In service, and without errors.
    pub fn healthy(latency: Latency) -> Self {
        Behaviour {
            latency,
            errors: 0.0,
            outage: Outage::Off,
        }
    }

    pub fn with(self, change: Change) -> Self {
        Behaviour {
            latency: change.latency.unwrap_or(self.latency),
            errors: change.errors.unwrap_or(self.errors),
            outage: change.outage.unwrap_or(self.outage),
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "latency={},errors={},outage={}",
            self.latency, self.errors, self.outage
        )
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outage::Off => "off",
            Outage::Fail => "fail",
            Outage::Hang => "hang",
        })
    }
}

/// Reads `latency=exp:20ms,errors=0.05,outage=off`, in any order, each key at most once.
impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut change = Change::default();
        for pair in text.split(',') {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                format!("\"{pair}\" is no setting: write latency=..., errors=... or outage=...")
            })?;
            let repeated = match key {
                "latency" => change.latency.replace(value.parse()?).is_some(),
                "errors" => {
                    let rate = value.parse().map_err(|_| rate_out_of_range(value))?;
                    change.errors.replace(checked_rate(rate)?).is_some()
                }
                "outage" => {
                    let outage = Outage::from_str(value, false)
                        .map_err(|_| format!("\"{value}\" is no outage: use off, fail or hang"))?;
                    change.outage.replace(outage).is_some()
                }
                _ => {
                    return Err(format!(
                        "\"{key}\" is no setting: use latency, errors or outage"
                    ));
                }
            };
            if repeated {
                return Err(format!("\"{key}\" is given twice"));
            }
        }
        Ok(change)
    }
}

fn error_rate<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
    let rate = f64::deserialize(input)?;
    checked_rate(rate)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn checked_rate(rate: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&rate) {
        Ok(rate)
    } else {
        Err(rate_out_of_range(rate))
    }
}

fn rate_out_of_range(rate: impl fmt::Display) -> String {
    format!("\"{rate}\" is no error rate: give a share from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Behaviour {
        Behaviour::healthy("fixed:20ms".parse().unwrap())
    }

    #[test]
    fn a_flag_changes_only_what_it_names() {
        let changed = healthy().with("errors=0.05".parse().unwrap());
        assert_eq!(
            changed.to_string(),
            "latency=fixed:20ms,errors=0.05,outage=off"
        );
        let changed = changed.with("outage=hang,latency=exp:5ms".parse().unwrap());
        assert_eq!(
            changed.to_string(),
            "latency=exp:5ms,errors=0.05,outage=hang"
        );
    }

    #[test]
    fn a_bad_flag_says_what_is_wrong() {
        for (text, reason) in [
            ("", "is no setting"),
            ("latency", "is no setting"),
            ("speed=1", "\"speed\" is no setting"),
            ("errors=2", "share from 0 to 1"),
            ("errors=NaN", "share from 0 to 1"),
            ("errors=few", "share from 0 to 1"),
            ("outage=on", "use off, fail or hang"),
            ("errors=0,errors=1", "given twice"),
            ("latency=20ms", "is no latency"),
        ] {
            let error = text.parse::<Change>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn json_sets_the_same_fields() {
        let change: Change =
            serde_json::from_str(r#"{"latency":"exp:5ms","errors":0.5,"outage":"fail"}"#).unwrap();
        assert_eq!(
            change,
            "latency=exp:5ms,errors=0.5,outage=fail".parse().unwrap()
        );
        assert_eq!(
            serde_json::from_str::<Change>("{}").unwrap(),
            Change::default()
        );
    }

    #[test]
    fn bad_json_says_what_is_wrong() {
        for (text, reason) in [
            (r#"{"errors":7}"#, "share from 0 to 1"),
            (r#"{"latency":"soon"}"#, "is no latency"),
            (r#"{"outage":"on"}"#, "unknown variant"),
            (r#"{"speed":1}"#, "unknown field"),
            ("[]", "expected an object"),
            (r#"["exp:5ms"]"#, "expected an object"),
            ("null", "expected an object"),
        ] {
            let error = serde_json::from_str::<Change>(text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
