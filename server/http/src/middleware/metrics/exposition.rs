//! Numbers as Prometheus reads them: its text format 0.0.4, and OpenMetrics 1.0.

use std::fmt::{Display, Write};

/// What a collector writes its numbers to; made by [`Metrics`](super::Metrics) for each time that they are asked for.
#[derive(Debug)]
pub struct Exposition {
    text: String,
    is_open: bool,
    /// The family that is being written, without the ending of its samples.
    family: String,
}

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Labels of a sample, in their order.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    pub(super) fn new(is_open: bool) -> Self {
        Self {
            text: String::new(),
            is_open,
            family: String::new(),
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.is_open {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// A number that only grows: how often something has happened. Its name ends in `_total`.
    ///
    /// # Panics
    /// If that is no name of a metric: letters, digits and `_`, without a digit in front.
    #[track_caller]
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.begin(name, help, Kind::Counter);
        self.sample("", &[], value);
    }

    /// A number that may fall.
    ///
    /// # Panics
    /// If that is no name of a metric: letters, digits and `_`, without a digit in front.
    #[track_caller]
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.begin(name, help, Kind::Gauge);
        self.sample("", &[], value);
    }

    /// Numbers that may fall, one for each value of a label. Values come from a closed set: each is a series that
    /// Prometheus keeps.
    ///
    /// # Panics
    /// If name or label is no name of a metric.
    #[track_caller]
    pub fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        check(label);
        self.begin(name, help, Kind::Gauge);
        for (of, value) in values {
            self.sample("", &[(label, of)], value);
        }
    }

    /// Begins a family: what follows are samples of it.
    #[track_caller]
    pub(super) fn begin(&mut self, name: &str, help: &str, kind: Kind) {
        check(name);
        // OpenMetrics has the family of a counter without the ending of its sample.
        let family = match self.is_open && kind == Kind::Counter {
            true => name.strip_suffix("_total").unwrap_or(name),
            false => name,
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let text = &mut self.text;
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
        self.family.clear();
        self.family.push_str(name);
    }

    /// A sample of the family, with an ending to its name.
    pub(super) fn sample(&mut self, ending: &str, labels: Labels<'_>, value: impl Display) {
        let text = &mut self.text;
        text.push_str(&self.family);
        text.push_str(ending);
        let mut between = '{';
        for (name, of) in labels {
            text.push(between);
            between = ',';
            text.push_str(name);
            text.push_str("=\"");
            for character in of.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

#[track_caller]
fn check(name: &str) {
    let is_name = name.bytes().enumerate().all(|(at, byte)| {
        byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit()
    });
    assert!(is_name && !name.is_empty(), "no name of a metric: {name:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_have_their_names_and_ends() {
        let write = |is_open| {
            let mut out = Exposition::new(is_open);
            out.counter("mails_total", "Mails that were sent.", 7);
            out.gauges(
                "depth",
                "How \\ deep.\nAnd more.",
                "of",
                [("a\"b\n", 0.5), ("c", 2.0)],
            );
            out.finish()
        };
        let numbers = "mails_total 7\n# HELP depth How \\\\ deep.\\nAnd more.\n# TYPE depth gauge\n\
                       depth{of=\"a\\\"b\\n\"} 0.5\ndepth{of=\"c\"} 2\n";
        let text = write(false);
        let head = "# HELP mails_total Mails that were sent.\n# TYPE mails_total counter\n";
        assert_eq!(text, format!("{head}{numbers}"));
        let open = write(true);
        let head = "# HELP mails Mails that were sent.\n# TYPE mails counter\n";
        assert_eq!(open, format!("{head}{numbers}# EOF\n"));
    }

    #[test]
    #[should_panic(expected = "no name of a metric: \"2nd\"")]
    fn a_name_that_prometheus_would_refuse_is_refused() {
        Exposition::new(false).gauge("2nd", "", 1.0);
    }
}
