//! From text to a drawing.

use super::{Arrow, Drawing, Frame, Kind, Node, Style, Wrong};

pub(super) fn parse(text: &str) -> Result<Drawing, Wrong> {
    let mut drawing = Drawing::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            drawing.take(line).map_err(|what| Wrong {
                line: number + 1,
                what,
            })?;
        }
    }
    let missing = |what: &str| Wrong {
        line: text.lines().count(),
        what: format!("there is no {what}"),
    };
    if drawing.title.is_empty() {
        return Err(missing("title"));
    }
    if drawing.nodes.is_empty() {
        return Err(missing("box"));
    }
    Ok(drawing)
}

impl Drawing {
    fn take(&mut self, line: &str) -> Result<(), String> {
        if let Some(title) = line.strip_prefix("title:") {
            self.title = title.trim().to_owned();
            return Ok(());
        }
        let (bare, label) = labelled(line)?;
        let words: Vec<&str> = bare.split_whitespace().collect();
        match (words[..].split_first(), label) {
            (Some((&"lane", names)), None) => {
                self.lanes.extend(names.iter().map(|&name| name.to_owned()))
            }
            (Some((&"frame", nodes)), Some(label)) => {
                let nodes = nodes
                    .iter()
                    .map(|id| self.node(id))
                    .collect::<Result<_, _>>()?;
                self.frames.push(Frame { label, nodes });
            }
            (Some((&"mark", [id])), Some(label)) => {
                let node = self.node(id)?;
                self.nodes[node].mark = Some(label);
            }
            (Some((from, ["->" | "~>" | "=>", to])), label) => self.arrows.push(Arrow {
                from: self.node(from)?,
                to: self.node(to)?,
                style: match words[1] {
                    "->" => Style::Call,
                    "~>" => Style::Event,
                    _ => Style::Spawn,
                },
                label: label.unwrap_or_default(),
            }),
            (Some((lane, [kind, id])), Some(label)) => {
                let known = self.lanes.iter().position(|name| name == lane);
                let node = Node {
                    lane: known.ok_or_else(|| format!("there is no lane {lane:?}"))?,
                    kind: kind_of(kind)?,
                    id: (*id).to_owned(),
                    label,
                    mark: None,
                };
                if self.node(id).is_ok() {
                    return Err(format!("there are two boxes {id:?}"));
                }
                self.nodes.push(node);
            }
            _ => return Err(format!("not understood: {line}")),
        }
        Ok(())
    }

    fn node(&self, id: &str) -> Result<usize, String> {
        let known = self.nodes.iter().position(|node| node.id == id);
        known.ok_or_else(|| format!("there is no box {id:?}"))
    }
}

/// A line without its label, and the label.
fn labelled(line: &str) -> Result<(String, Option<String>), String> {
    let Some((before, rest)) = line.split_once('"') else {
        return Ok((line.to_owned(), None));
    };
    let (label, after) = rest.split_once('"').ok_or("a label without its end")?;
    Ok((format!("{before} {after}"), Some(label.to_owned())))
}

fn kind_of(word: &str) -> Result<Kind, String> {
    Ok(match word {
        "client" => Kind::Client,
        "process" => Kind::Process,
        "thread" => Kind::Thread,
        "coroutine" => Kind::Coroutine,
        "loop" => Kind::Loop,
        "queue" => Kind::Queue,
        "socket" => Kind::Socket,
        "kernel" => Kind::Kernel,
        "state" => Kind::State,
        "backend" => Kind::Backend,
        _ => return Err(format!("there is no kind {word:?} of box")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, what) in [
            ("", 0, "there is no title"),
            (
                "title: a\nlane x\ny client c \"c\"",
                3,
                "there is no lane \"y\"",
            ),
            (
                "title: a\nlane x\nx clown c \"c\"",
                3,
                "there is no kind \"clown\" of box",
            ),
            (
                "title: a\nlane x\nx client c \"c\"\nc -> d",
                4,
                "there is no box \"d\"",
            ),
            (
                "title: a\nlane x\nx client c \"c\"\nx client c \"c\"",
                4,
                "there are two boxes \"c\"",
            ),
            (
                "title: a\nlane x\nx client c \"c",
                3,
                "a label without its end",
            ),
            (
                "title: a\nsomething else",
                2,
                "not understood: something else",
            ),
        ] {
            let wrong = parse(text).unwrap_err();
            assert_eq!((wrong.line, wrong.what.as_str()), (line, what), "{text}");
        }
    }
}
