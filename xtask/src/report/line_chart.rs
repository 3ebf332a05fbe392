//! A line chart over time as an SVG: one line for each series, a mark for each time at which there is a figure, and
//! days along the bottom. The scale begins at 0, so that a small change looks small.

use crate::error::Error;
use crate::report::picture::{Area, COLOURS, Drawing, PALE, below, bold, heading, pale, plain, svg};
use crate::report::units::thousands;
use plotters::prelude::{
    ChartBuilder, Circle, Color, EmptyElement, LineSeries, Rectangle, TRANSPARENT, Text,
};

pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) about: String,
    pub(crate) series: Vec<Series>,
    /// The times at which there are figures, in their order.
    pub(crate) times: Vec<Time>,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// What stands behind the name.
    pub(crate) remark: String,
    /// One for each time, where there is a figure.
    pub(crate) values: Vec<Option<f64>>,
}

pub(crate) struct Time {
    /// Seconds since some moment.
    pub(crate) at: f64,
    pub(crate) day: String,
}

// In pixels.
const WIDTH: u32 = 860;
const HEIGHT: u32 = 400;
/// Above the lines.
const HEAD: u32 = 96;
/// For the figures on the left.
const LEFT: u32 = 56;
/// For the days below.
const FOOT: u32 = 28;
/// What a day takes, and some room beside it.
const DAY: f64 = 96.0;
/// What a series takes above the lines.
const NAME: i32 = 280;

impl Chart {
    pub(crate) fn to_svg(&self) -> Result<String, Error> {
        svg((WIDTH, HEIGHT), |area| {
            area.draw_text(self.title, &heading(), (0, 0))?;
            area.draw_text(&self.about, &pale(), (0, 28))?;
            self.draw_names(area)?;
            self.draw_lines(area)
        })
    }

    fn draw_names(&self, area: &Area<'_>) -> Drawing {
        for ((series, colour), at) in self.series.iter().zip(COLOURS.iter().cycle()).zip(0..) {
            let left = NAME * at;
            area.draw(&Rectangle::new([(left, 58), (left + 16, 70)], colour.filled()))?;
            area.draw_text(&series.name, &bold(), (left + 24, 57))?;
            area.draw_text(&series.remark, &plain(), (left + 90, 57))?;
        }
        Ok(())
    }

    fn draw_lines(&self, area: &Area<'_>) -> Drawing {
        let (Some(first), Some(last)) = (self.times.first(), self.times.last()) else { return Ok(()) };
        // A single time is not at the edge.
        let span = (last.at - first.at).max(1.0);
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten());
        let largest = values.copied().fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin_top(HEAD)
            .margin_right(8)
            .y_label_area_size(LEFT)
            .margin_bottom(FOOT)
            .build_cartesian_2d(first.at..first.at + span, 0.0..1.1 * largest)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(PALE)
            .y_labels(8)
            .y_label_style(plain())
            .y_label_formatter(&|value| thousands(*value))
            .draw()?;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let times = self.times.iter().zip(&series.values);
            let points: Vec<_> = times.filter_map(|(time, value)| Some((time.at, (*value)?))).collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        // What is close to the day before it has no day of its own.
        let apart = DAY / f64::from(WIDTH - LEFT) * span;
        let (mut free, mut before) = (f64::NEG_INFINITY, "");
        for time in &self.times {
            if time.at < free || time.day == before {
                continue;
            }
            (free, before) = (time.at + apart, &time.day);
            let day = Text::new(time.day.clone(), (0, 10), below(&plain()));
            chart.draw_series([EmptyElement::at((time.at, 0.0)) + day])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_are_too_close_share_a_label() {
        let time = |at: u32, day: &str| Time { at: f64::from(at), day: day.to_owned() };
        let chart = Chart {
            title: "title",
            about: "about".to_owned(),
            series: vec![Series {
                name: "lone".to_owned(),
                remark: "9 → 8".to_owned(),
                values: vec![Some(9000.0), None, Some(8000.0)],
            }],
            times: vec![time(0, "2026-01-01"), time(5, "2026-01-02"), time(100, "2026-02-03")],
        };
        let svg = chart.to_svg().unwrap();
        assert!(svg.contains("2026-01-01") && svg.contains("2026-02-03"), "{svg}");
        assert!(!svg.contains("2026-01-02"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("8,000") && svg.contains("9 → 8"), "{svg}");
    }

    #[test]
    fn one_time_is_a_chart_too() {
        let series = Series { name: "lone".to_owned(), remark: String::new(), values: vec![Some(0.0)] };
        let times = vec![Time { at: 7.0, day: "2026-01-01".to_owned() }];
        let chart = Chart { title: "title", about: String::new(), series: vec![series], times };
        assert!(chart.to_svg().unwrap().contains("<circle"));
    }
}
