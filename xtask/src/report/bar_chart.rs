//! A bar chart as an SVG: panels side by side, one for each quantity, and a line across all of them for each
//! subject. A subject without any bar has a remark instead.

use crate::error::Error;
use crate::report::picture::{
    Area, COLOURS, Drawing, PALE, beside, bold, heading, pale, plain, shortened, svg,
};
use plotters::prelude::{ChartBuilder, Color, EmptyElement, PathElement, Rectangle, Text};

pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// In small letters under the title.
    pub(crate) about: String,
    pub(crate) panels: Vec<Panel>,
    pub(crate) lines: Vec<Line>,
}

/// One quantity, with a scale of its own that begins at 0.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) hint: &'static str,
}

/// One subject.
pub(crate) struct Line {
    pub(crate) label: String,
    /// One for each panel, where there is a value.
    pub(crate) bars: Vec<Option<Bar>>,
    pub(crate) remark: String,
}

pub(crate) struct Bar {
    pub(crate) value: f64,
    /// The value in letters, with its unit.
    pub(crate) label: String,
}

// In pixels.
const LABELS: u32 = 110;
const PANEL: u32 = 270;
/// Above the first line.
const HEAD: u32 = 100;
const LINE: u32 = 36;

/// How much of a panel the longest bar leaves for its value.
const ROOM: f64 = 1.5;

impl Chart {
    pub(crate) fn to_svg(&self) -> Result<String, Error> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let width = LABELS + PANEL * count(self.panels.len());
        svg((width, HEAD + LINE * count(self.lines.len())), |area| {
            area.draw_text(self.title, &heading(), (0, 0))?;
            area.draw_text(&shortened(&self.about, width), &pale(), (0, 28))?;
            let (labels, panels) = area.split_horizontally(LABELS);
            self.draw_labels(&labels)?;
            let panels = panels.split_evenly((1, self.panels.len()));
            panels.iter().enumerate().try_for_each(|(at, panel)| self.draw_panel(panel, at))
        })
    }

    fn draw_labels(&self, area: &Area<'_>) -> Drawing {
        let mut chart =
            ChartBuilder::on(area).margin_top(HEAD).build_cartesian_2d(0.0..1.0, self.height()..0.0)?;
        let labels = (0..).zip(&self.lines);
        chart.draw_series(
            labels.map(|(at, line)| Text::new(line.label.clone(), (0.0, middle(at)), beside(&bold()))),
        )?;
        Ok(())
    }

    fn draw_panel(&self, area: &Area<'_>, panel: usize) -> Drawing {
        let Panel { title, hint } = self.panels[panel];
        area.draw_text(title, &bold(), (0, 62))?;
        area.draw_text(hint, &pale(), (0, 80))?;
        let values = self.lines.iter().filter_map(|line| line.bars.get(panel)?.as_ref());
        let largest = values.map(|bar| bar.value).fold(0.0, f64::max);
        let end = if largest > 0.0 { ROOM * largest } else { 1.0 };
        let mut chart =
            ChartBuilder::on(area).margin_top(HEAD).build_cartesian_2d(0.0..end, self.height()..0.0)?;
        let rules = (0..self.lines.len()).map(f64_of).map(|y| PathElement::new([(0.0, y), (end, y)], PALE));
        chart.draw_series(rules)?;
        for (at, line) in (0..).zip(&self.lines) {
            let mut write = |x: f64, gap: i32, words: &str, style| {
                let words = Text::new(words.to_owned(), (gap, 0), beside(&style));
                chart.draw_series([EmptyElement::at((x, middle(at))) + words]).map(|_| ())
            };
            match line.bars.get(panel).and_then(Option::as_ref) {
                Some(bar) => write(bar.value, 6, &bar.label, plain())?,
                None if line.bars.iter().any(Option::is_some) => write(0.0, 0, "no figure", pale())?,
                None if panel == 0 => {
                    let room = PANEL * u32::try_from(self.panels.len()).unwrap_or(u32::MAX);
                    write(0.0, 0, &shortened(&line.remark, room), pale())?;
                }
                None => {}
            }
        }
        let bars = (0..).zip(&self.lines).filter_map(|(at, line)| {
            let value = line.bars.get(panel)?.as_ref()?.value;
            let (top, bottom) = (middle(at) - 0.25, middle(at) + 0.25);
            Some(Rectangle::new([(0.0, top), (value, bottom)], COLOURS[panel % COLOURS.len()].filled()))
        });
        chart.draw_series(bars)?;
        Ok(())
    }

    /// Each line is 1 high.
    fn height(&self) -> f64 {
        f64_of(self.lines.len())
    }
}

fn middle(line: usize) -> f64 {
    f64_of(line) + 0.5
}

fn f64_of(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(bars: Vec<Vec<Option<(f64, &str)>>>) -> Chart {
        let bar = |bar: Option<(f64, &str)>| bar.map(|(value, label)| Bar { value, label: label.to_owned() });
        let lines = bars.into_iter().map(|bars| Line {
            label: "a subject".to_owned(),
            bars: bars.into_iter().map(bar).collect(),
            remark: "no <figures> & why".to_owned(),
        });
        let panel = |title| Panel { title, hint: "less is more" };
        Chart {
            title: "title",
            about: "about".to_owned(),
            panels: vec![panel("first"), panel("second")],
            lines: lines.collect(),
        }
    }

    /// The widths of all bars, panel by panel.
    fn bars(svg: &str) -> Vec<&str> {
        let bars = svg.lines().filter(|line| line.starts_with("<rect ") && !line.contains("#FFFFFF"));
        bars.filter_map(|bar| bar.split_once(" width=\"")?.1.split_once('"').map(|(width, _)| width))
            .collect()
    }

    #[test]
    fn each_panel_has_a_scale_of_its_own() {
        let chart = chart(vec![
            vec![Some((10.0, "10 s")), Some((0.5, "50 %"))],
            vec![Some((5.0, "5 s")), Some((0.25, "25 %"))],
            vec![Some((2.5, "2.5 s")), None],
        ]);
        let svg = chart.to_svg().unwrap();
        assert_eq!(bars(&svg), ["179", "89", "44", "179", "89"]);
        assert!(svg.contains("2.5 s") && svg.contains("no figure"), "{svg}");
        assert!(!svg.contains("why"), "{svg}");
    }

    #[test]
    fn a_subject_without_figures_has_its_remark() {
        let svg = chart(vec![vec![None, None], vec![Some((0.0, "0 s")), None]]).to_svg().unwrap();
        assert!(svg.contains("no &lt;figures&gt; &amp; why"), "{svg}");
        assert_eq!(bars(&svg), ["0"]);
    }
}
