//! Lines over two logarithmic axes.

use plotters::prelude::*;

use super::{Area, Drawn, GREY, colour, short, style};

/// A line for each series.
#[derive(Debug)]
pub(crate) struct Lines {
    /// What the horizontal axis counts.
    pub(crate) x: String,
    pub(crate) y: String,
    /// For each series; figures that are not positive have no place on such axes.
    pub(crate) points: Vec<Vec<(f64, f64)>>,
}

impl Lines {
    pub(super) fn draw(&self, area: &Area<'_>, series: &[String]) -> Drawn {
        let has_place = |&(x, y): &(f64, f64)| x > 0.0 && y > 0.0;
        let all = || self.points.iter().flatten().copied().filter(has_place);
        let (x, y) = (
            span(all().map(|point| point.0), false),
            span(all().map(|point| point.1), true),
        );
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(25)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
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
        for (index, (points, name)) in self.points.iter().zip(series).enumerate() {
            let colour = colour(name, index);
            let points: Vec<(f64, f64)> = points.iter().copied().filter(has_place).collect();
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            let dots = points
                .into_iter()
                .map(|point| Circle::new(point, 4, colour.filled()));
            chart.draw_series(dots)?;
        }
        Ok(())
    }
}

/// What an axis has to show; `whole` decades have labels at both ends.
pub(super) fn span(figures: impl Iterator<Item = f64>, whole: bool) -> (f64, f64) {
    let (low, high) = figures.fold((f64::INFINITY, 0.0_f64), |(low, high), figure| {
        (low.min(figure), high.max(figure))
    });
    let decade = |figure: f64| 10_f64.powf(figure);
    match (whole, low < high) {
        (true, _) if low.is_finite() => {
            let (from, to) = (low.log10().floor(), high.log10().ceil());
            (decade(from), decade(to.max(from + 1.0)))
        }
        (_, true) => (low, high),
        (_, false) if low.is_finite() => (low / 3.0, low * 3.0),
        _ => (1.0, 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_spans_what_there_is() {
        assert_eq!(span([10.0, 5000.0].into_iter(), false), (10.0, 5000.0));
        assert_eq!(span([30.0, 5000.0].into_iter(), true), (10.0, 10_000.0));
        assert_eq!(span([100.0].into_iter(), true), (100.0, 1000.0));
        assert_eq!(span([9.0].into_iter(), false), (3.0, 27.0));
        assert_eq!(span([].into_iter(), true), (1.0, 10.0));
    }
}
