//! The drawings of the models: a few lines of text each, drawn in one style.
//!
//! ```text
//! title: Thread per connection
//! lane clients server                           columns, from left to right
//! clients client c "client"                     LANE KIND ID "LABEL": a box
//! server thread t "thread of a client"
//! c -> t "asks"                                 a call or data; ~> an event; => spawns or hands over
//! frame "one process" t                         drawn around these boxes
//! mark t "waits here"                           a second line in the box
//! ```

mod parse;
mod place;
mod svg;

use std::fmt;

/// A drawing, as it is written down.
#[derive(Debug, Default)]
pub struct Drawing {
    title: String,
    lanes: Vec<String>,
    nodes: Vec<Node>,
    arrows: Vec<Arrow>,
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Node {
    lane: usize,
    kind: Kind,
    id: String,
    label: String,
    mark: Option<String>,
}

/// What a box stands for, hence how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Client,
    Process,
    Thread,
    Coroutine,
    Loop,
    Queue,
    Socket,
    Kernel,
    State,
    Backend,
}

#[derive(Debug)]
struct Arrow {
    from: usize,
    to: usize,
    style: Style,
    label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Call,
    Event,
    Spawn,
}

#[derive(Debug)]
struct Frame {
    label: String,
    nodes: Vec<usize>,
}

/// What is wrong with a drawing, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    line: usize,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Wrong {}

impl Drawing {
    /// Reads a drawing.
    ///
    /// # Errors
    ///
    /// If a line is not understood or names a box or column that does not exist.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        parse::parse(text)
    }

    /// The drawing as an SVG document.
    pub fn svg(&self) -> String {
        svg::svg(self, &place::place(self))
    }
}
