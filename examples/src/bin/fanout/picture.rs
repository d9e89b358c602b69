//! A waterfall as an SVG file: each report a panel, each call a bar, all on one time axis.

use std::fmt::Write as _;

use crate::report::{Call, Outcome, Report};

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 24.0;
const NAME_WIDTH: f64 = 44.0;
/// Room right of the longest bar for its label.
const LABEL_WIDTH: f64 = 150.0;
const ROW: f64 = 30.0;
const BAR: f64 = 18.0;
const PANEL_HEAD: f64 = 34.0;
const PANEL_GAP: f64 = 18.0;
const AXIS: f64 = 40.0;

/// Text and bars carry their own colours for a light and a dark page, on a ground of their own.
const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1c2530 }
  .ground { fill: #ffffff; stroke: #d5dce3 }
  .title { font-weight: 600; font-size: 15px }
  .soft { fill: #56636f }
  .grid { stroke: #e3e8ed }
  .ok { fill: #0d8a7d } .failed { fill: #cf3340 } .cancelled { fill: #8a95a0 } .late { fill: #b26a00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8edf2 } .ground { fill: #151b22; stroke: #2f3943 } .soft { fill: #9eabb7 }
    .grid { stroke: #28313a }
    .ok { fill: #2fb9a8 } .failed { fill: #ff6b76 } .cancelled { fill: #7b8894 } .late { fill: #f0ac3f }
  }";

/// Draws the reports below each other, so that lengths compare.
pub fn waterfall(reports: &[Report]) -> String {
    let longest_ms = reports
        .iter()
        .map(|report| report.total_ms)
        .fold(1.0, f64::max);
    let left = MARGIN + NAME_WIDTH;
    let scale = (WIDTH - left - LABEL_WIDTH - MARGIN) / longest_ms;

    let mut panels = String::new();
    let mut y = MARGIN;
    for report in reports {
        panel(&mut panels, report, left, y, scale);
        y += PANEL_HEAD + report.calls.len() as f64 * ROW + PANEL_GAP;
    }
    let mut grid = String::new();
    for ms in ticks(longest_ms) {
        let x = left + ms * scale;
        let _ = write!(
            grid,
            r#"<line class="grid" x1="{x:.1}" y1="{MARGIN}" x2="{x:.1}" y2="{y:.1}"/>
<text class="soft" x="{x:.1}" y="{:.1}" text-anchor="middle">{ms} ms</text>
"#,
            y + 18.0
        );
    }
    let height = y + AXIS;
    let summary = reports.iter().map(headline).collect::<Vec<_>>().join("; ");
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img" aria-label="{summary}">
<style>{STYLE}
</style>
<rect class="ground" x="0.5" y="0.5" width="{:.1}" height="{:.1}" rx="10"/>
{grid}{panels}</svg>
"#,
        WIDTH - 1.0,
        height - 1.0
    )
}

fn panel(svg: &mut String, report: &Report, left: f64, top: f64, scale: f64) {
    let _ = writeln!(
        svg,
        r#"<text class="title" x="{MARGIN}" y="{:.1}">{}</text>"#,
        top + 16.0,
        headline(report)
    );
    for (row, call) in report.calls.iter().enumerate() {
        let y = top + PANEL_HEAD + row as f64 * ROW;
        let x = left + call.start_ms * scale;
        let width = ((call.end_ms - call.start_ms) * scale).max(2.0);
        let outcome = outcome(call);
        let baseline = y + BAR - 4.0;
        let _ = writeln!(
            svg,
            r#"<text x="{MARGIN}" y="{baseline:.1}">{}</text>
<rect class="{outcome}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="3"/>
<text class="soft" x="{:.1}" y="{baseline:.1}">{outcome}, {:.1} ms</text>"#,
            call.backend,
            x + width + 8.0,
            call.end_ms - call.start_ms
        );
    }
}

fn headline(report: &Report) -> String {
    format!("{}: {:.1} ms", report.mode, report.total_ms)
}

fn outcome(call: &Call) -> &'static str {
    match call.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::Late => "late",
    }
}

/// Round numbers from zero up to `longest`, four to ten of them.
fn ticks(longest: f64) -> impl Iterator<Item = f64> {
    let power = 10f64.powf(longest.log10().floor());
    let step = [0.1, 0.2, 0.5, 1.0]
        .map(|part| part * power)
        .into_iter()
        .find(|step| longest / step <= 10.0)
        .unwrap_or(power);
    (0..)
        .map(move |n| f64::from(n) * step)
        .take_while(move |&ms| ms <= longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Mode;

    fn call(backend: &str, start_ms: f64, end_ms: f64, outcome: Outcome) -> Call {
        Call {
            backend: backend.to_owned(),
            start_ms,
            end_ms,
            status: None,
            outcome,
        }
    }

    fn report(calls: Vec<Call>) -> Report {
        let id = "7".to_owned();
        Report {
            id,
            mode: Mode::Serial,
            total_ms: 100.0,
            complete: true,
            calls,
        }
    }

    #[test]
    fn each_call_is_a_bar_of_its_length_with_its_outcome() {
        let calls = vec![
            call("A", 0.0, 25.0, Outcome::Ok),
            call("B", 25.0, 100.0, Outcome::Failed),
        ];
        let svg = waterfall(&[report(calls)]);
        let width = |class: &str| {
            let bar = svg
                .split(&format!(r#"<rect class="{class}""#))
                .nth(1)
                .unwrap();
            bar.split(r#"width=""#)
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        };
        assert!((width("failed") / width("ok") - 3.0).abs() < 0.01);
        assert!(svg.contains("failed, 75.0 ms"));
    }

    #[test]
    fn the_axis_has_a_readable_number_of_ticks() {
        for longest in [1.0, 3.7, 12.0, 99.0, 100.0, 250.0, 1_000.0, 60_000.0] {
            let ticks: Vec<f64> = ticks(longest).collect();
            assert!((4..=11).contains(&ticks.len()), "{longest}: {ticks:?}");
        }
    }
}
