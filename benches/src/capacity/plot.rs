//! Figures as SVG: grouped bars and log-log lines in one style, readable on light pages and on dark ones.

mod bars;
mod lines;
mod named;
mod ranks;

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

pub(crate) use self::{bars::Bars, lines::Lines, named::Named, ranks::Ranks};

/// One figure: panels below each other, whose series share their colours and a legend.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) title: String,
    /// The names in the legend; panels refer to them by index.
    pub(crate) series: Vec<String>,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Debug)]
pub(crate) enum Panel {
    Bars(Bars),
    Lines(Lines),
    Named(Named),
    Ranks(Ranks),
}

impl Panel {
    fn height(&self) -> u32 {
        match self {
            Self::Bars(_) | Self::Lines(_) => PANEL,
            Self::Named(named) => named.height(),
            Self::Ranks(ranks) => ranks.height(),
        }
    }
}

impl Figure {
    /// Writes it to `folder`, which is made if need be.
    pub(crate) fn write(&self, folder: &Path, file: &str) -> Result<()> {
        let path = folder.join(file);
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::write(&path, self.svg()?).with_context(|| format!("write {}", path.display()))
    }

    /// The figure as an SVG document.
    pub(crate) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let height = HEADER + self.panels.iter().map(Panel::height).sum::<u32>();
        {
            let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
            self.draw(&root)
                .map_err(|error| anyhow!("draw {}: {error}", self.title))?;
        }
        // What understands style sheets has better contrast; the rest keeps the middle grey.
        let body = text
            .find("<svg")
            .and_then(|at| Some(at + text[at..].find('>')? + 1));
        text.insert_str(body.context("the drawing has no root")?, STYLE);
        Ok(text)
    }

    fn draw(&self, root: &Area<'_>) -> Drawn {
        let (header, body) = root.split_vertically(HEADER);
        header.draw(&Text::new(self.title.clone(), (MARGIN, 10), style(17)))?;
        let mut x = MARGIN;
        for (index, name) in self.series.iter().enumerate() {
            let colour = colour(name, index);
            header.draw(&Rectangle::new([(x, 40), (x + 12, 52)], colour.filled()))?;
            header.draw(&Text::new(name.clone(), (x + 17, 39), style(13)))?;
            x += 40 + 7 * i32::try_from(name.chars().count()).unwrap_or(0);
        }
        let mut rest = body;
        for panel in &self.panels {
            let (area, below) = rest.split_vertically(panel.height());
            match panel {
                Panel::Bars(bars) => bars.draw(&area, &self.series)?,
                Panel::Lines(lines) => lines.draw(&area, &self.series)?,
                Panel::Named(named) => named.draw(&area, &self.series)?,
                Panel::Ranks(ranks) => ranks.draw(&area, &self.series)?,
            }
            rest = below;
        }
        root.present()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Engines have the same colour in every figure; the colours differ in lightness, too.
fn colour(name: &str, index: usize) -> RGBColor {
    const NAMED: [(&str, RGBColor); 5] = [
        ("maniple", RGBColor(224, 108, 24)),
        ("may", RGBColor(58, 130, 220)),
        ("tokio", RGBColor(60, 160, 105)),
        ("threads", RGBColor(150, 105, 205)),
        ("go", RGBColor(40, 175, 190)),
    ];
    const OTHERS: [RGBColor; 4] = [
        RGBColor(200, 80, 120),
        RGBColor(160, 140, 40),
        RGBColor(120, 120, 120),
        RGBColor(90, 110, 170),
    ];
    let named = NAMED.iter().find(|(engine, _)| *engine == name);
    named.map_or(OTHERS[index % OTHERS.len()], |&(_, colour)| colour)
}

fn style(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&GREY)
}

fn centred(size: i32) -> TextStyle<'static> {
    style(size).pos(Pos::new(HPos::Center, VPos::Top))
}

/// `12`, `3.4k`, `1M`: what an axis has room for.
fn short(number: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let unit = units
        .into_iter()
        .find(|(least, _)| number.abs() >= least * 0.9995);
    let (scaled, suffix) = unit.map_or((number, ""), |(least, suffix)| (number / least, suffix));
    let decimals = match scaled.abs() {
        0.0 => 0,
        size if size < 0.1 => 3,
        size if size < 10.0 => 1,
        _ => 0,
    };
    let text = format!("{scaled:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{suffix}")
}

/// As good on white as on black.
const GREY: RGBColor = RGBColor(125, 125, 125);
const STYLE: &str = "\n<style>text { fill: #333 } @media (prefers-color-scheme: dark) { text { fill: #ccc } }</style>";
const WIDTH: u32 = 900;
const HEADER: u32 = 65;
const PANEL: u32 = 300;
const MARGIN: i32 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(panels: Vec<Panel>) -> Figure {
        Figure {
            title: "Costs & <limits>".to_owned(),
            series: vec!["maniple".to_owned(), "may".to_owned()],
            panels,
        }
    }

    fn bars() -> Panel {
        Panel::Bars(Bars {
            unit: "bytes per stack".to_owned(),
            groups: vec![
                ("64 KiB".to_owned(), vec![Some(4096.0), Some(8192.0)]),
                ("1 MiB".to_owned(), vec![Some(5000.0), None]),
            ],
        })
    }

    fn lines() -> Panel {
        Panel::Lines(Lines {
            x: "coroutines".to_owned(),
            y: "ns per yield".to_owned(),
            points: vec![vec![(10.0, 50.0), (1e6, 180.0)], vec![]],
        })
    }

    #[test]
    fn every_series_is_in_the_legend_in_its_colour() {
        let svg = figure(vec![bars()]).svg().unwrap();
        for part in [
            "maniple",
            "may",
            "#E06C18",
            "#3A82DC",
            "64 KiB",
            "1 MiB",
            "bytes per stack",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_figure_suits_light_and_dark_and_is_well_formed() {
        let svg = figure(vec![bars(), lines()]).svg().unwrap();
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        assert!(svg.contains("prefers-color-scheme: dark"), "{svg}");
        assert!(svg.contains("Costs &amp; &lt;limits&gt;"), "{svg}");
        // No background: the page's own shows.
        assert!(!svg.contains("#FFFFFF"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn what_failed_has_no_bar() {
        let count = |svg: &str| svg.matches("#3A82DC").count();
        let both = figure(vec![bars()]).svg().unwrap();
        // The legend's and one bar's.
        assert_eq!(count(&both), 2);
    }

    #[test]
    fn a_figure_without_figures_can_be_drawn() {
        let empty = Lines {
            x: String::new(),
            y: String::new(),
            points: vec![vec![], vec![]],
        };
        let nothing = Bars {
            unit: String::new(),
            groups: Vec::new(),
        };
        figure(vec![Panel::Lines(empty), Panel::Bars(nothing)])
            .svg()
            .unwrap();
    }

    #[test]
    fn names_stand_beside_their_figures() {
        let ranks = Panel::Ranks(Ranks {
            unit: "ms".to_owned(),
            rows: vec![
                ("slow".to_owned(), 0, 900.0),
                ("quick".to_owned(), 1, 20.0),
                ("without".to_owned(), 1, 0.0),
            ],
        });
        let named = Panel::Named(Named {
            x: "connections".to_owned(),
            y: "answers/s".to_owned(),
            lines: vec![
                ("rising".to_owned(), 0, vec![(1.0, 30.0), (16.0, 400.0)]),
                ("dot".to_owned(), 1, vec![(16.0, 401.0)]),
                ("empty".to_owned(), 1, vec![]),
            ],
            room_for: vec![(2000.0, 9.0)],
        });
        let svg = figure(vec![ranks, named]).svg().unwrap();
        for part in ["slow", "quick", ">\n900", "rising", "dot", "answers/s"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("without") && !svg.contains("empty"), "{svg}");
        let place = |name: &str| svg.find(&format!("\n{name}\n"));
        assert!(place("quick") < place("slow"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.05, "0.05"),
            (0.5, "0.5"),
            (12.0, "12"),
            (999.9, "1k"),
            (3400.0, "3.4k"),
            (1e6, "1M"),
            (2.5e9, "2.5G"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }
}
