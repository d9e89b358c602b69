//! The tables of `capacity depth`, and its figure.

use super::{
    Measured, Place,
    forecast::{FACTOR, recommended},
    name,
    service::Spread,
};
use crate::{
    capacity::{
        plot::{Bars, Figure, Panel},
        quantity::{Bytes, count},
    },
    stats::Table,
};

/// How deep coroutines came, by route and by where they were spawned.
pub(super) fn depths(routes: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "route",
        "spawned at",
        "ended",
        "waits p50",
        "p99",
        "max",
        "pages p50",
        "max",
        "painted p50",
        "max",
        "slot",
    ]);
    for route in routes {
        for place in &route.places {
            table.row(depths_row(&name(route.route), place));
        }
        if let Some(cause) = &route.failure {
            table.row(vec![name(route.route), "failed".to_owned()]);
            table.note(format!("{}: {cause}", name(route.route)));
        }
    }
    let beyond = |place: &Place| place.depths.beyond_paint > 0;
    if routes.iter().flat_map(|route| &route.places).any(beyond) {
        table.note("*: some came deeper than paint reaches; their pages count.".to_owned());
    }
    table.note(format!(
        "waits: at each suspension. slot: the deepest, times {FACTOR}, with the guard page, rounded up to a size that \
         there is, 16 KiB at the least."
    ));
    table
}

fn depths_row(route: &str, place: &Place) -> Vec<String> {
    let shown = |spread: Option<Spread>, figure: fn(Spread) -> u64| {
        spread.map_or_else(|| "-".to_owned(), |spread| count(figure(spread)))
    };
    let of = &place.depths;
    let star = if of.beyond_paint > 0 { "*" } else { "" };
    vec![
        route.to_owned(),
        of.place.clone(),
        count(of.ended),
        shown(of.suspended, |spread| spread.p50),
        shown(of.suspended, |spread| spread.p99),
        shown(of.suspended, |spread| spread.max),
        shown(of.resident, |spread| spread.p50),
        shown(of.resident, |spread| spread.max),
        shown(of.painted, |spread| spread.p50),
        shown(of.painted, |spread| spread.max) + star,
        match of.ended {
            0 => "-".to_owned(),
            _ => recommended(of.deepest).to_string(),
        },
    ]
}

/// What many of them take: forecast and measured.
pub(super) fn many(routes: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "route",
        "spawned at",
        "pages",
        "slot",
        "memory forecast",
        "measured",
        "page tables forecast",
        "measured",
        "error %",
    ]);
    for route in routes {
        for place in &route.places {
            let Some(many) = &place.many else { continue };
            let forecast = many.forecast;
            let measured = many.taken();
            let bytes = |bytes: Option<u64>| {
                bytes.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string())
            };
            let error = many.error();
            table.row(vec![
                name(route.route),
                place.depths.place.clone(),
                forecast.pages.to_string(),
                forecast.slot.to_string(),
                forecast.resident.to_string(),
                bytes(measured.map(|(resident, ..)| resident)),
                forecast.page_tables.to_string(),
                bytes(measured.map(|(_, tables, _)| tables)),
                error.map_or_else(|| "-".to_owned(), |error| format!("{error:+.1}")),
            ]);
            if let Some(cause) = many.outcome.cause() {
                table.note(format!(
                    "{} pages of {}: {cause}",
                    forecast.pages, forecast.slot
                ));
            }
        }
    }
    table.note(
        "error: of both together; where it is positive, they took less than was forecast."
            .to_owned(),
    );
    table
}

/// The deepest place of each route that there may be many of.
pub(super) fn figure(routes: &[Measured]) -> Figure {
    let series = ["waits p50", "waits max", "pages", "painted", "slot"];
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let bars = |route: &Measured| {
        let several = route.places.iter().filter(|place| place.many.is_some());
        let deepest = several.max_by_key(|place| place.depths.deepest)?;
        let of = &deepest.depths;
        let figures = [
            of.suspended.map(|spread| spread.p50),
            of.suspended.map(|spread| spread.max),
            of.resident.map(|spread| spread.max),
            of.painted.map(|spread| spread.max),
            Some(recommended(of.deepest).0),
        ];
        Some((
            name(route.route),
            figures.map(|figure| figure.map(kib)).to_vec(),
        ))
    };
    Figure {
        title: "How deep handlers use their stacks".to_owned(),
        series: series.map(str::to_owned).to_vec(),
        panels: vec![Panel::Bars(Bars {
            unit: "KiB".to_owned(),
            groups: routes.iter().filter_map(bars).collect(),
        })],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::{
        depth::{Many, forecast::Forecast, routes::Route, service::Depths},
        stacks::Outcome,
    };

    fn measured(beyond_paint: u64) -> Measured {
        let spread = |max| {
            Some(Spread {
                count: 10,
                p50: max / 2,
                p99: max,
                max,
            })
        };
        Measured {
            route: Route::Json,
            requests: 1000,
            places: vec![Place {
                depths: Depths {
                    place: "server.rs:17".to_owned(),
                    ended: 64,
                    suspended: spread(2000),
                    resident: spread(8192),
                    unknown: 0,
                    painted: spread(5000),
                    beyond_paint,
                    deepest: 5000,
                },
                many: Some(Many {
                    forecast: Forecast::of(5000, 1000, Bytes(512)),
                    outcome: Outcome::failed("no memory".to_owned()),
                }),
            }],
            failure: None,
        }
    }

    #[test]
    fn a_row_has_what_was_measured_and_the_slot_that_follows() {
        let table = depths(&[measured(0)]).to_string();
        let row = table.lines().nth(2).unwrap();
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let expected = [
            "json",
            "server.rs:17",
            "64",
            "1,000",
            "2,000",
            "2,000",
            "4,096",
            "8,192",
            "2,500",
            "5,000",
        ];
        assert_eq!(cells[..10], expected);
        assert_eq!(cells[10], recommended(5000).to_string());
        assert!(!table.contains('*'), "{table}");
        assert!(depths(&[measured(3)]).to_string().contains("5,000*"));
    }

    #[test]
    fn what_failed_has_its_cause() {
        let table = many(&[measured(0)]).to_string();
        assert!(table.contains("no memory"), "{table}");
        let failed = Measured {
            places: Vec::new(),
            failure: Some("no server".to_owned()),
            ..measured(0)
        };
        assert!(depths(&[failed]).to_string().contains("json: no server"));
    }

    #[test]
    fn the_figure_has_a_group_for_each_route() {
        let figure = figure(&[measured(0), measured(0)]);
        let Panel::Bars(bars) = &figure.panels[0] else {
            panic!("no bars");
        };
        assert_eq!(bars.groups.len(), 2);
        assert_eq!(bars.groups[0].1.len(), figure.series.len());
        assert!(figure.svg().unwrap().contains("json"));
    }
}
