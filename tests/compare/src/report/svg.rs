//! The picture: for each workload, bars of rows per second relative to the baseline.

use crate::Result;
use crate::row::Row;
use plotters::prelude::{
    Color, FontStyle, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, TextStyle,
    WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

// In pixels.
const WIDTH: u32 = 900;
/// Where bars begin.
const LABEL: i32 = 330;
const BAR: i32 = 16;
/// For the name of a workload.
const TITLE: i32 = 24;
/// For a value behind its bar.
const VALUE: i32 = 40;
/// How long a bar of 1 is.
const ONE: i32 = 230;
/// From one dash of a line to the next.
const DASH: usize = 4;
/// Where the scale ends. Longer bars are cut off and say so.
const LARGEST: f64 = 2.0;

const INK: RGBColor = RGBColor(34, 34, 34);
const OURS: RGBColor = RGBColor(217, 142, 4);
const THEIRS: RGBColor = RGBColor(138, 143, 152);

pub(crate) fn draw(rows: &[Row]) -> Result<String> {
    let titles = rows.iter().filter(|row| row.is_baseline()).count();
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let height = 40 + BAR * count(rows.len()) + TITLE * count(titles);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height.unsigned_abs())).into_drawing_area();
        area.fill(&WHITE)?;
        let what = "Rows per second, relative to the first system of each workload (more is better)";
        area.draw_text(what, &letters(FontStyle::Normal, HPos::Left), (10, 15))?;
        let mut top = 30;
        for row in rows {
            if row.is_baseline() {
                let title =
                    format!("{}, {} outstanding (1 = {})", row.workload, row.outstanding, row.baseline);
                area.draw_text(&title, &letters(FontStyle::Bold, HPos::Left), (10, top + TITLE / 2))?;
                top += TITLE;
            }
            let middle = top + BAR / 2;
            let (end, value) = bar(row.throughput_ratio);
            let colour = if row.system.starts_with("skep") { OURS } else { THEIRS };
            area.draw_text(&row.system, &letters(FontStyle::Normal, HPos::Right), (LABEL - 8, middle))?;
            area.draw(&Rectangle::new([(LABEL, top + 1), (end, top + BAR - 2)], colour.filled()))?;
            // The line at 1, which leaves out the names of workloads.
            for from in (top..top + BAR).step_by(DASH) {
                area.draw(&PathElement::new([(LABEL + ONE, from), (LABEL + ONE, from + 2)], INK))?;
            }
            area.draw_text(&value, &letters(FontStyle::Normal, HPos::Left), (behind(end), middle))?;
            top += BAR;
        }
        area.present()?;
    }
    Ok(svg)
}

/// Where a bar ends, and what is written behind it. Without a measurement there is no bar, and the value is a dash.
fn bar(ratio: f64) -> (i32, String) {
    if !ratio.is_finite() {
        return (LABEL, "-".to_owned());
    }
    #[allow(clippy::cast_possible_truncation, reason = "the scale ends at a few hundred pixels")]
    let length = (ratio.clamp(0.0, LARGEST) * f64::from(ONE)).round() as i32;
    (LABEL + length, format!("{ratio:.2}{}", if ratio > LARGEST { " →" } else { "" }))
}

/// Where the value of a bar begins, which the line at 1 is not to cross.
fn behind(end: i32) -> i32 {
    let one = LABEL + ONE;
    6 + if (one - VALUE..one).contains(&end) { one } else { end }
}

fn letters(style: FontStyle, side: HPos) -> TextStyle<'static> {
    ("sans-serif", 15).into_font().style(style).color(&INK).pos(Pos::new(side, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_ends_with_the_scale_and_says_so() {
        assert_eq!(bar(1.0), (LABEL + ONE, "1.00".to_owned()));
        assert_eq!(bar(0.5), (LABEL + ONE / 2, "0.50".to_owned()));
        assert_eq!(bar(7.0), (LABEL + 2 * ONE, "7.00 →".to_owned()));
        assert_eq!(bar(f64::NAN), (LABEL, "-".to_owned()));
    }

    #[test]
    fn no_value_lies_on_the_line() {
        let one = LABEL + ONE;
        for end in LABEL..LABEL + 2 * ONE {
            assert!(behind(end) > end && !(behind(end)..behind(end) + VALUE - 6).contains(&one), "{end}");
        }
    }
}
