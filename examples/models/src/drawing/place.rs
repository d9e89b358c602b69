//! Where everything goes: boxes in their columns, arrows around boxes, labels where there is room.

use super::{Arrow, Drawing, Kind, Node};

/// The places of a drawing's parts, in pixels.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The middle of each column.
    pub(super) lanes: Vec<f64>,
    pub(super) nodes: Vec<Rect>,
    pub(super) arrows: Vec<Route>,
    pub(super) frames: Vec<Rect>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An arrow's corners, and where its label is.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) points: Vec<Point>,
    pub(super) label: Rect,
}

pub(super) type Point = (f64, f64);

pub(super) const MARGIN: f64 = 26.0;
/// Title and the names of columns.
const HEADER: f64 = 88.0;
const BOX_GAP: f64 = 34.0;
const LINE: f64 = 17.0;
/// Of letters at 13 and at 12 pixels, generously.
const LETTER: f64 = 7.0;
const SMALL_LETTER: f64 = 6.3;
/// At the end of a queue.
pub(super) const SLOTS: f64 = 20.0;
/// Between a frame and its boxes; its label is above them.
const FRAME: f64 = 11.0;
const FRAME_TOP: f64 = 22.0;
const CHANNEL: f64 = 22.0;

pub(super) fn place(drawing: &Drawing) -> Places {
    let nodes = place_nodes(drawing);
    let bottom = nodes.iter().map(Rect::bottom).fold(HEADER, f64::max);
    let frames: Vec<Rect> = drawing
        .frames
        .iter()
        .map(|frame| around(&frame.nodes, &nodes).at_least(label_width(&frame.label) + 8.0))
        .collect();
    let (arrows, channels) = route(drawing, &nodes, bottom + 20.0);
    let right = nodes.iter().map(Rect::right).fold(0.0, f64::max);
    Places {
        width: right + MARGIN + FRAME,
        height: bottom + MARGIN + f64::from(u32::from(channels > 0.0)) * 8.0 + channels,
        lanes: (0..drawing.lanes.len())
            .map(|lane| middle_of_lane(drawing, &nodes, lane))
            .collect(),
        nodes,
        arrows,
        frames,
    }
}

/// The lines of a box's label.
pub(super) fn lines(label: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in label.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= 22 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn size_of(node: &Node) -> (f64, f64) {
    let letters = |line: &str| line.chars().count() as f64;
    let label = lines(&node.label);
    let widest = label
        .iter()
        .map(|line| letters(line) * LETTER)
        .fold(0.0, f64::max);
    let mark = node
        .mark
        .as_deref()
        .map_or(0.0, |mark| letters(mark) * SMALL_LETTER);
    let count = label.len() + usize::from(node.mark.is_some());
    let slots = if node.kind == Kind::Queue { SLOTS } else { 0.0 };
    (
        widest.max(mark).max(60.0) + 26.0 + slots,
        count as f64 * LINE + 20.0,
    )
}

fn place_nodes(drawing: &Drawing) -> Vec<Rect> {
    let count = drawing.lanes.len();
    let sizes: Vec<_> = drawing.nodes.iter().map(size_of).collect();
    let in_lane = |lane: usize| {
        let all = drawing.nodes.iter().enumerate();
        all.filter(move |(_, node)| node.lane == lane)
            .map(|(index, _)| index)
    };
    let width = |lane: usize| {
        in_lane(lane)
            .map(|index| sizes[index].0)
            .fold(70.0, f64::max)
    };
    let height = |lane: usize| {
        let boxes: Vec<f64> = in_lane(lane).map(|index| sizes[index].1).collect();
        boxes.iter().sum::<f64>() + BOX_GAP * boxes.len().saturating_sub(1) as f64
    };
    let tallest = (0..count).map(height).fold(0.0, f64::max);
    let mut places = vec![Rect::default(); drawing.nodes.len()];
    let mut x = MARGIN + FRAME;
    for lane in 0..count {
        let boxes = in_lane(lane).count() as f64;
        let spare = tallest - height(lane);
        // Spread over the height, so that boxes of neighbouring columns that belong together are level.
        let gap = BOX_GAP + spare / (boxes + 1.0);
        let mut y = HEADER + FRAME_TOP + spare / (boxes + 1.0);
        for index in in_lane(lane) {
            let (_, height) = sizes[index];
            places[index] = Rect {
                x,
                y,
                width: width(lane),
                height,
            };
            y += height + gap;
        }
        x += width(lane) + gap_after(drawing, lane);
    }
    places
}

/// Room between a column and the next for the labels of arrows that cross it.
fn gap_after(drawing: &Drawing, lane: usize) -> f64 {
    let crossing = drawing.arrows.iter().filter(|arrow| {
        let (from, to) = ends(drawing, arrow);
        (from <= lane && lane < to) || (from == to && from == lane)
    });
    let widest = crossing
        .map(|arrow| label_width(&arrow.label))
        .fold(0.0, f64::max);
    (widest + 40.0).max(64.0)
}

/// The columns that an arrow joins, the left one first.
fn ends(drawing: &Drawing, arrow: &Arrow) -> (usize, usize) {
    let (from, to) = (drawing.nodes[arrow.from].lane, drawing.nodes[arrow.to].lane);
    (from.min(to), from.max(to))
}

fn label_width(label: &str) -> f64 {
    if label.is_empty() {
        0.0
    } else {
        label.chars().count() as f64 * SMALL_LETTER + 8.0
    }
}

fn middle_of_lane(drawing: &Drawing, nodes: &[Rect], lane: usize) -> f64 {
    let first = drawing.nodes.iter().position(|node| node.lane == lane);
    first.map_or(0.0, |index| nodes[index].x + nodes[index].width / 2.0)
}

fn around(members: &[usize], nodes: &[Rect]) -> Rect {
    let of = |value: fn(&Rect) -> f64, pick: fn(f64, f64) -> f64, start: f64| {
        members
            .iter()
            .map(|&member| value(&nodes[member]))
            .fold(start, pick)
    };
    let (left, top) = (
        of(|r| r.x, f64::min, f64::MAX),
        of(|r| r.y, f64::min, f64::MAX),
    );
    let (right, bottom) = (
        of(Rect::right, f64::max, 0.0),
        of(Rect::bottom, f64::max, 0.0),
    );
    Rect {
        x: left - FRAME,
        y: top - FRAME_TOP,
        width: right - left + 2.0 * FRAME,
        height: bottom - top + FRAME_TOP + FRAME,
    }
}

/// The side of a box that an arrow leaves or enters.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

/// Routes each arrow straight where no box is in its way, otherwise through channels below all boxes; also how high
/// the channels are together.
fn route(drawing: &Drawing, nodes: &[Rect], below: f64) -> (Vec<Route>, f64) {
    let sides: Vec<(Side, Side)> = drawing
        .arrows
        .iter()
        .map(|arrow| sides(drawing, nodes, arrow))
        .collect();
    let mut routes = Vec::new();
    let mut taken: Vec<Rect> = nodes.to_vec();
    let mut channels = 0.0;
    for (index, arrow) in drawing.arrows.iter().enumerate() {
        let start = port(drawing, nodes, &sides, index, true);
        let end = port(drawing, nodes, &sides, index, false);
        let mut points = vec![start, end];
        let others = nodes
            .iter()
            .enumerate()
            .filter(|(node, _)| *node != arrow.from && *node != arrow.to);
        let blocked = others
            .into_iter()
            .any(|(_, rect)| rect.grown(4.0).meets(start, end));
        if sides[index].0 == sides[index].1 {
            // From a box to one further down in its column: around what is between.
            let away = 18.0 + 6.0 * (index % 3) as f64;
            let x = start.0
                + if sides[index].0 == Side::Right {
                    away
                } else {
                    -away
                };
            points = vec![start, (x, start.1), (x, end.1), end];
        } else if blocked {
            let level = below + channels + 6.0;
            channels += CHANNEL;
            let out = if sides[index].0 == Side::Right {
                14.0
            } else {
                -14.0
            } + (index % 4) as f64 * 3.0;
            let (leave, enter) = (start.0 + out, end.0 - out);
            points = vec![
                start,
                (leave, start.1),
                (leave, level),
                (enter, level),
                (enter, end.1),
                end,
            ];
        }
        let label = label_place(&points, label_width(&arrow.label), &taken);
        if !arrow.label.is_empty() {
            taken.push(label);
        }
        routes.push(Route { points, label });
    }
    (routes, channels)
}

fn sides(drawing: &Drawing, nodes: &[Rect], arrow: &Arrow) -> (Side, Side) {
    let (from, to) = (&drawing.nodes[arrow.from], &drawing.nodes[arrow.to]);
    match from.lane.cmp(&to.lane) {
        std::cmp::Ordering::Less => (Side::Right, Side::Left),
        std::cmp::Ordering::Greater => (Side::Left, Side::Right),
        std::cmp::Ordering::Equal => {
            let (upper, lower) = (
                nodes[arrow.from].y.min(nodes[arrow.to].y),
                nodes[arrow.from].y.max(nodes[arrow.to].y),
            );
            let between = nodes.iter().zip(&drawing.nodes);
            let apart = between
                .into_iter()
                .any(|(rect, node)| node.lane == from.lane && rect.y > upper && rect.y < lower);
            if apart || arrow.from == arrow.to {
                // On the side where less is drawn.
                let crossing = |before: usize| {
                    let all = drawing.arrows.iter().map(|arrow| ends(drawing, arrow));
                    all.filter(|(left, right)| *left <= before && before < *right)
                        .count()
                };
                let side = if from.lane > 0 && crossing(from.lane - 1) < crossing(from.lane) {
                    Side::Left
                } else {
                    Side::Right
                };
                (side, side)
            } else if nodes[arrow.from].y < nodes[arrow.to].y {
                (Side::Bottom, Side::Top)
            } else {
                (Side::Top, Side::Bottom)
            }
        }
    }
}

/// Where an arrow meets its box: those of one side are spread along it, in the order of where they lead.
fn port(
    drawing: &Drawing,
    nodes: &[Rect],
    sides: &[(Side, Side)],
    index: usize,
    leaving: bool,
) -> Point {
    let arrow = &drawing.arrows[index];
    let (node, far, side) = match leaving {
        true => (arrow.from, arrow.to, sides[index].0),
        false => (arrow.to, arrow.from, sides[index].1),
    };
    let mut users: Vec<(f64, usize, bool)> = Vec::new();
    for (other, (of, (out, into))) in drawing.arrows.iter().zip(sides).enumerate() {
        if of.from == node && *out == side {
            users.push((nodes[of.to].middle().1, other, true));
        }
        if of.to == node && *into == side {
            users.push((nodes[of.from].middle().1, other, false));
        }
    }
    users.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mine = (nodes[far].middle().1, index, leaving);
    let place = users.iter().position(|user| *user == mine).unwrap_or(0);
    let share = (place as f64 + 1.0) / (users.len() as f64 + 1.0);
    let rect = &nodes[node];
    match side {
        Side::Left => (rect.x, rect.y + rect.height * share),
        Side::Right => (rect.right(), rect.y + rect.height * share),
        Side::Top => (rect.x + rect.width * share, rect.y),
        Side::Bottom => (rect.x + rect.width * share, rect.bottom()),
    }
}

/// On the longest stretch of an arrow, as near to its middle as nothing else is in the way.
fn label_place(points: &[Point], width: f64, taken: &[Rect]) -> Rect {
    let length = |pair: &[Point]| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1);
    let stretches = points.windows(2);
    let longest = stretches
        .max_by(|a, b| length(a).total_cmp(&length(b)))
        .unwrap_or(points);
    let at = |share: f64, aside: f64| {
        let x = longest[0].0 + (longest[1].0 - longest[0].0) * share;
        let y = longest[0].1 + (longest[1].1 - longest[0].1) * share;
        // Beside an upright stretch, on any other.
        let upright = (longest[1].0 - longest[0].0).abs() < 30.0;
        Rect {
            x: if upright { x + 7.0 } else { x - width / 2.0 },
            y: y - 8.0 + aside,
            width,
            height: 16.0,
        }
    };
    let tries = [0.0, -13.0, 13.0, -24.0, 24.0]
        .into_iter()
        .flat_map(|aside| [0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73].map(|share| (share, aside)));
    let mut places = tries.map(|(share, aside)| at(share, aside));
    let free = |rect: &Rect| !taken.iter().any(|other| other.overlaps(rect));
    places.find(free).unwrap_or_else(|| at(0.5, 0.0))
}

impl Default for Rect {
    fn default() -> Self {
        Self {
            x: 0.0,
            y: 0.0,
            width: 0.0,
            height: 0.0,
        }
    }
}

impl Rect {
    pub(super) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(&self) -> f64 {
        self.y + self.height
    }

    pub(super) fn middle(&self) -> Point {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    fn at_least(self, width: f64) -> Self {
        Self {
            width: self.width.max(width),
            ..self
        }
    }

    fn grown(&self, by: f64) -> Self {
        Self {
            x: self.x - by,
            y: self.y - by,
            width: self.width + 2.0 * by,
            height: self.height + 2.0 * by,
        }
    }

    pub(super) fn overlaps(&self, other: &Rect) -> bool {
        self.x < other.right()
            && other.x < self.right()
            && self.y < other.bottom()
            && other.y < self.bottom()
    }

    /// Whether a straight line passes through it.
    fn meets(&self, from: Point, to: Point) -> bool {
        (0..=100).any(|step| {
            let share = f64::from(step) / 100.0;
            let (x, y) = (
                from.0 + (to.0 - from.0) * share,
                from.1 + (to.1 - from.1) * share,
            );
            x > self.x && x < self.right() && y > self.y && y < self.bottom()
        })
    }
}
