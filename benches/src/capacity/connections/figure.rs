//! What the servers showed, drawn: memory on the way up, and for an idle connection; latency.

use super::{
    attempt::Figures,
    rows::{Attempt, Outcome},
};
use crate::capacity::plot::{Bars, Figure, Lines, Panel};

/// Servers that did not survive at all have no figures and are left out.
pub(super) fn figure(attempts: &[Attempt]) -> Figure {
    let survived: Vec<(String, &Figures)> = attempts
        .iter()
        .filter_map(|attempt| match &attempt.tried.outcome {
            Outcome::Survived(figures) => Some((attempt.server.to_string(), &**figures)),
            Outcome::Failed(_) => None,
        })
        .collect();
    let all = |value: &dyn Fn(&Figures) -> f64| -> Vec<Option<f64>> {
        survived
            .iter()
            .map(|(_, figures)| Some(value(figures)))
            .collect()
    };
    let kib = |bytes: f64| bytes / 1024.0;
    Figure {
        title: "Keep-alive connections, held idle and then served".to_owned(),
        series: survived.iter().map(|(server, _)| server.clone()).collect(),
        panels: vec![
            Panel::Lines(Lines {
                x: "connections".to_owned(),
                y: "MiB, RSS and page tables of the server".to_owned(),
                points: survived
                    .iter()
                    .map(|(_, figures)| growth(figures))
                    .collect(),
            }),
            Panel::Bars(Bars {
                unit: "KiB for an idle connection".to_owned(),
                groups: vec![
                    ("RSS".to_owned(), all(&|figures| kib(figures.held().0))),
                    (
                        "page tables".to_owned(),
                        all(&|figures| kib(figures.held().1)),
                    ),
                    (
                        "kernel, both ends".to_owned(),
                        all(&|figures| kib(figures.kernel())),
                    ),
                ],
            }),
            Panel::Bars(Bars {
                unit: "ms from due to answered".to_owned(),
                groups: vec![
                    ("p50".to_owned(), all(&|figures| figures.p50_us / 1e3)),
                    ("p99".to_owned(), all(&|figures| figures.p99_us / 1e3)),
                    ("p99.9".to_owned(), all(&|figures| figures.p999_us / 1e3)),
                ],
            }),
        ],
    }
}

/// Memory of the server beyond what it had before the first connection.
fn growth(figures: &Figures) -> Vec<(f64, f64)> {
    let before = figures.memory_before.sum();
    let points = figures.curve.iter();
    points
        .map(|point| {
            let bytes = point.memory.sum().saturating_sub(before);
            (point.connections as f64, bytes as f64 / f64::from(1 << 20))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::{
        capacity::connections::{
            attempt::Point,
            meter::Kernel,
            rows::{halve_until_it_survives, tests::figures},
        },
        memory::Memory,
        servers::Name,
    };

    #[test]
    fn growth_is_above_what_was_there_before() {
        let mut figures = figures(1000);
        let resident = figures.memory_before.resident + (3 << 20);
        figures.curve = vec![Point {
            connections: 500,
            seconds: 1.0,
            memory: Memory {
                resident,
                ..figures.memory_before
            },
            kernel: Kernel::default(),
        }];
        assert_eq!(growth(&figures), [(500.0, 3.0)]);
    }

    #[test]
    fn who_failed_is_left_out() {
        let tried = |server, most: usize| {
            halve_until_it_survives(10, move |connections| match connections <= most {
                true => Ok(figures(connections).into()),
                false => bail!("too many"),
            })
            .into_iter()
            .map(move |tried| Attempt { server, tried })
        };
        let attempts: Vec<Attempt> = tried(Name::Maniple, 10)
            .chain(tried(Name::Threads, 0))
            .chain(tried(Name::Hyper, 5))
            .collect();
        let figure = figure(&attempts);
        assert_eq!(figure.series, ["maniple", "hyper"]);
        let svg = figure.svg().unwrap();
        for part in ["maniple", "hyper", "kernel, both ends", "p99.9"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("threads"), "{svg}");
    }
}
