//! What the pictures have in common: an area on white paper, drawn by plotters, and a few kinds of letters.

use crate::error::Error;
use plotters::coord::Shift;
use plotters::prelude::{
    DrawingArea, DrawingAreaErrorKind, DrawingBackend, FontStyle, IntoDrawingArea, IntoFont, RGBColor,
    SVGBackend, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawing =
    Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

/// Colours that differ in brightness too.
pub(crate) const COLOURS: [RGBColor; 3] =
    [RGBColor(31, 111, 139), RGBColor(217, 131, 36), RGBColor(92, 127, 59)];
pub(crate) const INK: RGBColor = RGBColor(34, 34, 34);
pub(crate) const GREY: RGBColor = RGBColor(102, 102, 102);
/// For lines that only guide the eye.
pub(crate) const PALE: RGBColor = RGBColor(221, 221, 221);

const MARGIN: u32 = 24;

/// Draws in an area of this size in pixels, with a margin around it.
pub(crate) fn svg(
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawing,
) -> Result<String, Error> {
    let mut svg = String::new();
    let paper =
        SVGBackend::with_string(&mut svg, (width + 2 * MARGIN, height + 2 * MARGIN)).into_drawing_area();
    let drawn = paper
        .fill(&WHITE)
        .and_then(|()| draw(&paper.margin(MARGIN, MARGIN, MARGIN, MARGIN)))
        .and_then(|()| paper.present());
    drop(paper);
    drawn.map(|()| svg).map_err(|source| Error::Picture { source: Box::new(source) })
}

pub(crate) fn heading() -> TextStyle<'static> {
    letters(22.0, FontStyle::Bold, INK)
}

pub(crate) fn bold() -> TextStyle<'static> {
    letters(15.0, FontStyle::Bold, INK)
}

pub(crate) fn plain() -> TextStyle<'static> {
    letters(15.0, FontStyle::Normal, INK)
}

pub(crate) fn pale() -> TextStyle<'static> {
    letters(15.0, FontStyle::Normal, GREY)
}

/// `size` in plotters' unit, which is 1.24 pixels less in what it writes.
fn letters(size: f64, style: FontStyle, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().style(style).color(&colour)
}

/// To the right of a point, and in the middle of its height.
pub(crate) fn beside(style: &TextStyle<'static>) -> TextStyle<'static> {
    style.pos(Pos::new(HPos::Left, VPos::Center))
}

/// Below a point, and in the middle of its width.
pub(crate) fn below(style: &TextStyle<'static>) -> TextStyle<'static> {
    style.pos(Pos::new(HPos::Center, VPos::Top))
}

/// As many letters as there is room for, in pixels.
pub(crate) fn shortened(words: &str, room: u32) -> String {
    /// What one takes at most, on average.
    const LETTER: f64 = 6.6;
    let mut kept = String::new();
    let mut taken = LETTER;
    for letter in words.chars() {
        taken += LETTER;
        if taken > f64::from(room) {
            return kept + "…";
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(shortened("four", 33), "four");
        assert_eq!(shortened("fourteen", 33), "four…");
    }

    #[test]
    fn letters_that_mean_something_to_svg_are_letters() {
        let svg = svg((200, 50), |area| area.draw_text("a <b> & c", &plain(), (0, 0))).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("a &lt;b&gt; &amp; c"), "{svg}");
    }
}
