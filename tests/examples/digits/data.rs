//! 1,797 handwritten digits, and which of them are learnt.
//!
//! Every fifth image of the file is held out, whatever the seed, so that runs can be compared. The writers of
//! the held-out images also wrote training images: the accuracy is that on new images, not on new hands.

use crate::common::Result;
use crate::rows::Rows;
use std::io::Read;

/// Images are as high as they are wide.
const SIDE: usize = 8;
/// Pixels of an image.
pub(crate) const PIXELS: usize = SIDE * SIDE;
/// The digits 0 to 9.
pub(crate) const CLASSES: usize = 10;
/// The darkest pixel; 0 is white.
const BLACK: f32 = 16.0;
const HELD_OUT_EVERY: usize = 5;

/// In the program, so that it runs anywhere. See `tests/data/README.md` for the source and the licence.
static FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");

/// Images, and which digit each of them shows.
pub(crate) struct Digits {
    /// One image per row, 0 (white) to 1 (black).
    pub(crate) images: Rows,
    pub(crate) labels: Vec<usize>,
}

/// All images, in the two parts.
pub(crate) struct Split {
    pub(crate) training: Digits,
    pub(crate) held_out: Digits,
}

impl Split {
    pub(crate) fn load() -> Result<Self> {
        let mut text = String::new();
        flate2::read::GzDecoder::new(FILE).read_to_string(&mut text)?;
        let mut split = Self { training: Digits::none(), held_out: Digits::none() };
        for (i, line) in text.lines().enumerate() {
            let part = if i % HELD_OUT_EVERY == 0 { &mut split.held_out } else { &mut split.training };
            part.push(line).map_err(|error| format!("digits.csv.gz, line {}: {error}", i + 1))?;
        }
        Ok(split)
    }
}

impl Digits {
    fn none() -> Self {
        Self { images: Rows::zeros(0, PIXELS), labels: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Takes a line of 64 pixels and the digit.
    fn push(&mut self, line: &str) -> Result<()> {
        let numbers = line.split(',').map(str::parse).collect::<std::result::Result<Vec<u8>, _>>()?;
        match numbers.split_last() {
            Some((&label, pixels)) if pixels.len() == PIXELS && usize::from(label) < CLASSES => {
                self.images.values.extend(pixels.iter().map(|&pixel| f32::from(pixel) / BLACK));
                self.labels.push(label.into());
                Ok(())
            }
            _ => Err(format!("line has {} numbers, expected 64 pixels and a digit", numbers.len()).into()),
        }
    }
}

/// The image that shows at each place what stands `right` of it and `down` from it in this one; white from
/// beyond the edge.
pub(crate) fn moved(image: &[f32], (right, down): (isize, isize)) -> Vec<f32> {
    let pixel =
        |at: usize| match ((at % SIDE).checked_add_signed(right), (at / SIDE).checked_add_signed(down)) {
            (Some(x @ ..SIDE), Some(y @ ..SIDE)) => image[y * SIDE + x],
            _ => 0.0,
        };
    (0..PIXELS).map(pixel).collect()
}
