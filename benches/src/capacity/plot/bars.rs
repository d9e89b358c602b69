//! Grouped bars from zero.

use plotters::prelude::*;

use super::{Area, Drawn, GREY, centred, colour, short, style};

/// A bar for each series in each group.
#[derive(Debug)]
pub(crate) struct Bars {
    /// What the bars count.
    pub(crate) unit: String,
    /// A label, and a figure for each series; `None` has no bar.
    pub(crate) groups: Vec<(String, Vec<Option<f64>>)>,
}

impl Bars {
    pub(super) fn draw(&self, area: &Area<'_>, series: &[String]) -> Drawn {
        let figures = self
            .groups
            .iter()
            .flat_map(|(_, figures)| figures.iter().flatten());
        let highest = figures.fold(0.0_f64, |highest, &figure| highest.max(figure));
        let top = if highest > 0.0 { highest * 1.15 } else { 1.0 };
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..self.groups.len().max(1) as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.3))
            .light_line_style(TRANSPARENT)
            .y_desc(self.unit.as_str())
            .y_label_formatter(&|number| short(*number))
            .label_style(style(12))
            .axis_desc_style(style(13))
            .draw()?;
        for (index, (label, figures)) in self.groups.iter().enumerate() {
            let left = index as f64;
            let width = 0.8 / figures.len().max(1) as f64;
            for (at, (figure, name)) in figures.iter().zip(series).enumerate() {
                let Some(figure) = *figure else { continue };
                let from = left + 0.1 + width * at as f64;
                let bar = [(from + width * 0.06, 0.0), (from + width * 0.94, figure)];
                chart.draw_series([Rectangle::new(bar, colour(name, at).filled())])?;
                let (x, y) = chart.backend_coord(&(from + width / 2.0, figure));
                let (x, y) = within(area, x, y);
                area.draw(&Text::new(short(figure), (x, y - 14), centred(11)))?;
            }
            let (x, y) = chart.backend_coord(&(left + 0.5, 0.0));
            let (x, y) = within(area, x, y);
            area.draw(&Text::new(label.clone(), (x, y + 6), centred(12)))?;
        }
        Ok(())
    }
}

/// From the drawing's coordinates to those of a part of it.
fn within(area: &Area<'_>, x: i32, y: i32) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}
