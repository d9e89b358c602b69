//! One figure for each of many names, the least on top, over a logarithmic axis.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Area, Drawn, GREY, colour, lines::span, short, style};

/// A dot for each name.
#[derive(Debug)]
pub(crate) struct Ranks {
    /// What is counted.
    pub(crate) unit: String,
    /// A name, its series and its figure; figures that are not positive have no place on such an axis.
    pub(crate) rows: Vec<(String, usize, f64)>,
}

impl Ranks {
    pub(super) fn height(&self) -> u32 {
        60 + ROW * u32::try_from(self.rows.len()).unwrap_or(0)
    }

    pub(super) fn draw(&self, area: &Area<'_>, series: &[String]) -> Drawn {
        let mut rows: Vec<_> = self.rows.iter().filter(|row| row.2 > 0.0).collect();
        rows.sort_by(|one, other| one.2.total_cmp(&other.2));
        let (low, high) = span(rows.iter().map(|row| row.2), false);
        // Room for the first dot, and for the figure beside the last.
        let (low, high) = (low / 1.3, high * 1.5);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(25)
            .x_label_area_size(45)
            .y_label_area_size(180)
            .build_cartesian_2d((low..high).log_scale(), rows.len().max(1) as f64..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.3))
            .light_line_style(TRANSPARENT)
            .x_desc(self.unit.as_str())
            .x_label_formatter(&|number| short(*number))
            .label_style(style(12))
            .axis_desc_style(style(13))
            .draw()?;
        let (left, top) = area.get_base_pixel();
        for (place, (name, of, figure)) in rows.into_iter().enumerate() {
            let Some(category) = series.get(*of) else {
                continue;
            };
            let (colour, y) = (colour(category, *of), place as f64 + 0.5);
            let stem = [(low, y), (*figure, y)];
            chart.draw_series([PathElement::new(stem, colour.mix(0.4).stroke_width(2))])?;
            chart.draw_series([Circle::new((*figure, y), 4, colour.filled())])?;
            let (x, row) = chart.backend_coord(&(*figure, y));
            let beside = style(11).pos(Pos::new(HPos::Left, VPos::Center));
            let text = Text::new(short(*figure), (x - left + 8, row - top), beside);
            area.draw(&text)?;
            let before = style(12).pos(Pos::new(HPos::Right, VPos::Center));
            let (start, _) = chart.backend_coord(&(low, y));
            area.draw(&Text::new(
                name.clone(),
                (start - left - 8, row - top),
                before,
            ))?;
        }
        Ok(())
    }
}

const ROW: u32 = 17;
