//! In the place of the export of spans, in a program without it.

use crate::settings::Config;
use hyper::HeaderMap;
pub(crate) use std::convert::Infallible as ExportError;
use tracing::Span;
use tracing_subscriber::layer::Identity;

/// No span has it.
pub(crate) const TARGET: &str = "skep_server::requests";

/// What there would be to keep.
pub(crate) struct Export(());

#[expect(clippy::unnecessary_wraps, reason = "as it is with the export")]
/// A layer that is there would hear of each span of the libraries, whatever the log leaves out.
pub(crate) fn layer(_: &Config) -> Result<(Option<Identity>, Option<Export>), ExportError> {
    Ok((None, None))
}

pub(crate) fn span(_: &HeaderMap, _: &str, _: &str) -> Span {
    Span::none()
}

pub(crate) fn ended(_: &Span, _: u16) {}
