//! From places to SVG, in the style of the book's other drawings: light or dark as the reader prefers.

use std::fmt::Write;

use super::{
    Drawing, Kind, Node, Style,
    place::{MARGIN, Places, Rect, Route, SLOTS, lines},
};

pub(super) fn svg(drawing: &Drawing, places: &Places) -> String {
    let mut out = String::new();
    let (width, height) = (places.width.ceil(), places.height.ceil());
    let title = escaped(&drawing.title);
    write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n{STYLE}{MARKERS}\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"34\">{title}</text>\n",
        width - 1.0,
        height - 1.0,
    )
    .expect("writing to a String does not fail");
    for (name, x) in drawing.lanes.iter().zip(&places.lanes) {
        let name = escaped(&name.replace('_', " "));
        text(&mut out, "soft small", (*x, 64.0), "middle", &name);
    }
    for (frame, rect) in drawing.frames.iter().zip(&places.frames) {
        rectangle(&mut out, "frame", rect, 9);
        text(
            &mut out,
            "soft small",
            (rect.x + 8.0, rect.y + 14.0),
            "start",
            &escaped(&frame.label),
        );
    }
    for (arrow, route) in drawing.arrows.iter().zip(&places.arrows) {
        line(&mut out, arrow.style, route);
    }
    for (node, rect) in drawing.nodes.iter().zip(&places.nodes) {
        shape(&mut out, node, rect);
    }
    // Last, so that no line crosses a word.
    for (arrow, route) in drawing.arrows.iter().zip(&places.arrows) {
        if !arrow.label.is_empty() {
            rectangle(&mut out, "under", &route.label, 3);
            let (x, y) = route.label.middle();
            text(
                &mut out,
                "soft small",
                (x, y + 4.0),
                "middle",
                &escaped(&arrow.label),
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, style: Style, route: &Route) {
    let class = match style {
        Style::Call => "arrow",
        Style::Event => "arrow event",
        Style::Spawn => "arrow spawn",
    };
    let marker = if style == Style::Spawn {
        "open"
    } else {
        "head"
    };
    let mut path = String::new();
    for (index, (x, y)) in route.points.iter().enumerate() {
        let step = if index == 0 { "M" } else { "L" };
        write!(path, "{step}{x:.1} {y:.1}").expect("writing to a String does not fail");
    }
    writeln!(
        out,
        "<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#{marker})\"/>"
    )
    .expect("writing to a String does not fail");
}

fn shape(out: &mut String, node: &Node, rect: &Rect) {
    let (class, radius) = match node.kind {
        Kind::Client | Kind::Backend => ("box", 16),
        Kind::Process => ("box strongedge", 4),
        Kind::Thread => ("accent", 4),
        Kind::Coroutine => ("warm", 12),
        Kind::Loop => ("accent", 14),
        Kind::Queue => ("queue", 2),
        Kind::Socket => ("box", 8),
        Kind::Kernel => ("empty", 4),
        Kind::State => ("state", 4),
    };
    rectangle(out, class, rect, radius);
    if node.kind == Kind::Queue {
        // Slots at the end from which things are taken.
        for slot in 1..=3 {
            let x = rect.right() - 6.0 * f64::from(slot);
            writeln!(
                out,
                "<path class=\"slots\" d=\"M{x:.1} {:.1}V{:.1}\"/>",
                rect.y,
                rect.bottom()
            )
            .expect("writing to a String does not fail");
        }
    }
    if node.kind == Kind::Loop {
        text(
            out,
            "turn",
            (rect.right() - 12.0, rect.y + 15.0),
            "middle",
            "↻",
        );
    }
    let label = lines(&node.label);
    let count = label.len() + usize::from(node.mark.is_some());
    let (mut x, middle) = rect.middle();
    if node.kind == Kind::Queue {
        x -= SLOTS / 2.0;
    }
    let mut y = middle - (count as f64 - 1.0) * 8.5 + 4.5;
    let class = if node.kind == Kind::State {
        "mono"
    } else {
        "label"
    };
    for line in label {
        text(out, class, (x, y), "middle", &escaped(&line));
        y += 17.0;
    }
    if let Some(mark) = &node.mark {
        text(out, "mark", (x, y), "middle", &escaped(mark));
    }
}

fn rectangle(out: &mut String, class: &str, rect: &Rect, radius: u32) {
    let Rect {
        x,
        y,
        width,
        height,
    } = rect;
    writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\"/>"
    )
    .expect("writing to a String does not fail");
}

fn text(out: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, words: &str) {
    writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    )
    .expect("writing to a String does not fail");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = "<style>
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1c2530 }
  .title { font-size: 16px; font-weight: 600 } .soft { fill: #56636f } .small { font-size: 12px }
  .mono { font-family: ui-monospace, Consolas, monospace; font-size: 12px }
  .mark { font-size: 12px; font-style: italic; fill: #a4560a } .turn { font-size: 14px; fill: #1b5fb4 }
  .ground { fill: #ffffff; stroke: #d5dce3 } .under { fill: #ffffff }
  .box { fill: #f3f6f9; stroke: #b9c4ce } .strongedge { stroke: #56636f; stroke-width: 2 }
  .warm { fill: #dff3f0; stroke: #0d8a7d } .accent { fill: #e4eefb; stroke: #1b5fb4 }
  .queue { fill: #fff5e0; stroke: #c07a12 } .slots { stroke: #c07a12 } .state { fill: #f4ecfb; stroke: #8a4fc0 }
  .empty { fill: none; stroke: #b9c4ce; stroke-dasharray: 4 3 }
  .frame { fill: none; stroke: #8a95a0; stroke-dasharray: 7 4 }
  .arrow { fill: none; stroke: #56636f; stroke-width: 1.4 } .event { stroke-dasharray: 5 3 } .spawn { stroke-width: 2.2 }
  .head { fill: #56636f } .open { fill: none; stroke: #56636f; stroke-width: 1.4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8edf2 } .soft { fill: #9eabb7 } .mark { fill: #f0a95c } .turn { fill: #6fb0ff }
    .ground { fill: #151b22; stroke: #2f3943 } .under { fill: #151b22 }
    .box { fill: #1e2730; stroke: #4a5763 } .strongedge { stroke: #9eabb7 }
    .warm { fill: #12332f; stroke: #2fb9a8 } .accent { fill: #17283d; stroke: #6fb0ff }
    .queue { fill: #33270f; stroke: #e0a23c } .slots { stroke: #e0a23c } .state { fill: #2a1d38; stroke: #b98be6 }
    .empty { stroke: #4a5763 } .frame { stroke: #6b7783 }
    .arrow { stroke: #9eabb7 } .head { fill: #9eabb7 } .open { stroke: #9eabb7 }
  }
</style>
";

const MARKERS: &str = "<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
markerHeight=\"7\" orient=\"auto-start-reverse\"><path class=\"head\" d=\"M0 0 8 4 0 8z\"/></marker>\
<marker id=\"open\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" markerHeight=\"6\" \
orient=\"auto-start-reverse\"><path class=\"open\" d=\"M1 1 7 4 1 7\"/></marker></defs>
";
