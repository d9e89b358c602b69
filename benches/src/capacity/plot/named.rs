//! Points that bear their own names, over two logarithmic axes: single ones, or the ends of lines.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Area, Drawn, GREY, colour, lines::span, short, style};

/// Lines with their names at their right ends; a line of one point is a dot.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) lines: Vec<NamedLine>,
    /// Points that have a place, too, though they are not drawn: so that panels can be compared.
    pub(crate) room_for: Vec<(f64, f64)>,
}

/// A name, its series and its points; what is not positive has no place on such axes.
pub(crate) type NamedLine = (String, usize, Vec<(f64, f64)>);

impl Named {
    pub(super) fn height(&self) -> u32 {
        let room = ROW * u32::try_from(self.lines.len()).unwrap_or(0);
        (80 + room).max(260)
    }

    pub(super) fn draw(&self, area: &Area<'_>, series: &[String]) -> Drawn {
        let points = self.lines.iter().flat_map(|(.., points)| points.iter());
        let points = points.chain(&self.room_for);
        let points: Vec<(f64, f64)> = points.copied().filter(has_place).collect();
        let x = span(points.iter().map(|point| point.0), false);
        let y = span(points.iter().map(|point| point.1), false);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(180)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d(
                (x.0 / 1.1..x.1 * 1.1).log_scale(),
                (y.0 / 1.3..y.1 * 1.3).log_scale(),
            )?;
        chart
            .configure_mesh()
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.3))
            .light_line_style(TRANSPARENT)
            .x_desc(self.x.as_str())
            .y_desc(self.y.as_str())
            .x_label_formatter(&|number| short(*number))
            .y_label_formatter(&|number| short(*number))
            .label_style(style(12))
            .axis_desc_style(style(13))
            .draw()?;
        let (left, top) = area.get_base_pixel();
        let mut labels = Vec::new();
        for (name, of, points) in &self.lines {
            let Some(category) = series.get(*of) else {
                continue;
            };
            let colour = colour(category, *of);
            let points: Vec<(f64, f64)> = points.iter().copied().filter(has_place).collect();
            let Some(&last) = points.last() else { continue };
            if points.len() > 1 {
                chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            }
            let dots = points.into_iter();
            chart.draw_series(dots.map(|point| Circle::new(point, 4, colour.filled())))?;
            let (x, y) = chart.backend_coord(&last);
            labels.push(Label {
                name,
                at: (x - left, y - top),
                text: (x - left + 12, y - top),
            });
        }
        spread(&mut labels);
        for Label { name, at, text } in labels {
            let beside = style(11).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(name.to_owned(), text, beside))?;
            if at.1 != text.1 {
                let hint = [(at.0 + 5, at.1), (text.0 - 2, text.1)];
                area.draw(&PathElement::new(hint, GREY.mix(0.6)))?;
            }
        }
        Ok(())
    }
}

struct Label<'a> {
    name: &'a str,
    /// Its point.
    at: (i32, i32),
    text: (i32, i32),
}

/// Moves labels down until none covers another.
fn spread(labels: &mut [Label<'_>]) {
    labels.sort_by_key(|label| label.text.1);
    for index in 1..labels.len() {
        let (before, rest) = labels.split_at_mut(index);
        let label = &mut rest[0];
        for other in before {
            let width = 12 + 6 * other.name.chars().count() as i32;
            let own = 12 + 6 * label.name.chars().count() as i32;
            let beside = label.text.0 > other.text.0 + width || label.text.0 + own < other.text.0;
            if !beside && label.text.1 < other.text.1 + LABEL {
                label.text.1 = other.text.1 + LABEL;
            }
        }
    }
}

fn has_place(&(x, y): &(f64, f64)) -> bool {
    x > 0.0 && y > 0.0
}

const ROW: u32 = 16;
/// The height of a label.
const LABEL: i32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_cover_each_other_are_moved_apart() {
        let label = |name, x, y| Label {
            name,
            at: (x, y),
            text: (x, y),
        };
        let mut labels = [
            label("one", 10, 50),
            label("two", 12, 52),
            label("far", 400, 51),
            label("three", 10, 55),
        ];
        spread(&mut labels);
        let places: Vec<_> = labels
            .iter()
            .map(|label| (label.name, label.text.1))
            .collect();
        assert_eq!(
            places,
            [("one", 50), ("far", 51), ("two", 62), ("three", 74)]
        );
    }
}
