//! The suite on candle.

use skep_tests::backends::Candle;
use skep_tests::{conformance, training};

conformance!(Candle);
training!(Candle);
