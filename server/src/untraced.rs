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
pub(crate) fn layer(_: &Config) -> Result<(Identity, Option<Export>), ExportError> {
    Ok((Identity::new(), None))
}

pub(crate) fn span(_: &HeaderMap, _: &str, _: &str) -> Span {
    Span::none()
}

pub(crate) fn ended(_: &Span, _: u16) {}
