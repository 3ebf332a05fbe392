//! Bodies of requests: read whole, unpacked, and never larger than allowed.

use crate::problem::{Problem, ProblemKind};
use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Body;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use std::fmt::Display;
use std::io::{Read, Write};
use std::time::Duration;

/// Bodies of more bytes are packed and unpacked on another thread, so that the network is not held up.
const HEAVY: usize = 256 << 10;
/// Smaller answers are not worth packing.
const WORTH: usize = 1 << 10;
/// Room that is made before a body has come.
const FIRST_ROOM: u64 = 1 << 20;

/// The bounds of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    /// Between two pieces.
    pub(crate) pause: Duration,
}

/// A way to pack bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Deflate,
}

impl Packing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// Reads a body and unpacks it.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B, bounds: Bounds) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let packing = packing(headers)?;
    let body = collect(body, bounds).await?;
    let Some(packing) = packing else { return Ok(body) };
    if body.len() < HEAVY {
        // Small bodies can be bombs; they grow no further than what is allowed.
        return unpack(packing, &body, bounds.bytes);
    }
    let unpacked = tokio::task::spawn_blocking(move || unpack(packing, &body, bounds.bytes));
    unpacked
        .await
        .unwrap_or_else(|_| Err(Problem::new(ProblemKind::Failed, "the body could not be unpacked")))
}

fn packing(headers: &HeaderMap) -> Result<Option<Packing>, Problem> {
    let mut packing = None;
    for value in headers.get_all(CONTENT_ENCODING) {
        packing = match value.to_str().unwrap_or_default().trim() {
            "" | "identity" => packing,
            "gzip" | "x-gzip" if packing.is_none() => Some(Packing::Gzip),
            "deflate" if packing.is_none() => Some(Packing::Deflate),
            other => {
                let message = format!("content encoding is `{other}`, expected gzip, deflate or none");
                return Err(Problem::invalid(message));
            }
        };
    }
    Ok(packing)
}

async fn collect<B>(mut body: B, bounds: Bounds) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let too_large = || {
        Problem::new(
            ProblemKind::TooLarge,
            format!("body is larger than the {} bytes that are taken", bounds.bytes),
        )
    };
    let announced = body.size_hint().lower();
    if announced > bounds.bytes as u64 {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let next = tokio::time::timeout(bounds.pause, body.frame()).await.map_err(|_| {
            let message = format!("no more of the body came for {:?}", bounds.pause);
            Problem::new(ProblemKind::TooSlow, message)
        })?;
        let Some(frame) = next else { break };
        let frame = frame.map_err(|error| Problem::invalid(format!("body cannot be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > bounds.bytes {
            return Err(too_large());
        }
        match first.take() {
            // What comes in one piece is not copied.
            None if whole.is_empty() => first = Some(data),
            before => {
                if let Some(before) = before {
                    let first = usize::try_from(announced.min(FIRST_ROOM)).unwrap_or(0);
                    whole.reserve(first.max(before.len() + data.len()));
                    whole.extend_from_slice(&before);
                } else if whole.len() + data.len() > whole.capacity() {
                    // Whoever has sent that much is believed to send the rest.
                    let left = usize::try_from(announced).unwrap_or(0).saturating_sub(whole.len());
                    whole.reserve(left.max(data.len()));
                }
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn unpack(packing: Packing, packed: &[u8], most: usize) -> Result<Bytes, Problem> {
    let mut out = Vec::new();
    let limit = most as u64 + 1;
    let read = match packing {
        Packing::Gzip => MultiGzDecoder::new(packed).take(limit).read_to_end(&mut out),
        Packing::Deflate => ZlibDecoder::new(packed).take(limit).read_to_end(&mut out),
    };
    read.map_err(|error| Problem::invalid(format!("body is not {}: {error}", packing.name())))?;
    if out.len() > most {
        let message = format!("body is larger than the {most} bytes that are taken once it is unpacked");
        return Err(Problem::new(ProblemKind::TooLarge, message));
    }
    Ok(out.into())
}

/// The packing that a client takes for an answer of so many bytes.
pub(crate) fn accepted(headers: &HeaderMap, bytes: usize) -> Option<Packing> {
    if bytes < WORTH {
        return None;
    }
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(',')).filter_map(|part| {
        let (name, quality) = part.split_once(';').unwrap_or((part, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        (!refused).then(|| name.trim().to_ascii_lowercase())
    });
    names.find_map(|name| match name.as_str() {
        "gzip" => Some(Packing::Gzip),
        "deflate" => Some(Packing::Deflate),
        _ => None,
    })
}

/// Packs an answer.
pub(crate) async fn pack(packing: Packing, body: Bytes) -> Result<Bytes, Problem> {
    let failed = |_| Problem::new(ProblemKind::Failed, "the answer could not be packed");
    if body.len() < HEAVY {
        return packed(packing, &body).map_err(failed);
    }
    let packed = tokio::task::spawn_blocking(move || packed(packing, &body));
    match packed.await {
        Ok(packed) => packed.map_err(failed),
        Err(_) => Err(Problem::new(ProblemKind::Failed, "the answer could not be packed")),
    }
}

fn packed(packing: Packing, body: &[u8]) -> std::io::Result<Bytes> {
    let out = Vec::with_capacity(body.len() / 2);
    let level = flate2::Compression::fast();
    Ok(match packing {
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(out, level);
            encoder.write_all(body)?;
            encoder.finish()?.into()
        }
        Packing::Deflate => {
            let mut encoder = ZlibEncoder::new(out, level);
            encoder.write_all(body)?;
            encoder.finish()?.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: hyper::header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, hyper::header::HeaderValue::from_static(value))])
    }

    #[test]
    fn bombs_are_refused_before_they_have_grown() {
        let bomb = packed(Packing::Gzip, &vec![0; 10 << 20]).unwrap();
        assert!(bomb.len() < 64 << 10);
        let problem = unpack(Packing::Gzip, &bomb, 1 << 20).unwrap_err();
        assert_eq!(
            (problem.status(), problem.message.as_str()),
            (413, "body is larger than the 1048576 bytes that are taken once it is unpacked")
        );
        assert_eq!(unpack(Packing::Gzip, &bomb, 10 << 20).unwrap().len(), 10 << 20);
        assert_eq!(unpack(Packing::Deflate, b"no", 10).unwrap_err().status(), 400);
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for packing in [Packing::Gzip, Packing::Deflate] {
            let packed = packed(packing, b"some bytes").unwrap();
            assert_eq!(unpack(packing, &packed, 100).unwrap(), &b"some bytes"[..]);
        }
    }

    #[test]
    fn packings_are_chosen_by_the_client() {
        let accepts = |value| accepted(&headers(ACCEPT_ENCODING, value), 10_000);
        assert_eq!(accepts("gzip, deflate"), Some(Packing::Gzip));
        assert_eq!(accepts("br;q=1.0, gzip;q=0, deflate;q=0.5"), Some(Packing::Deflate));
        assert_eq!(accepts("identity"), None);
        assert_eq!(accepted(&headers(ACCEPT_ENCODING, "gzip"), 10), None);
        assert_eq!(
            packing(&headers(CONTENT_ENCODING, "br")).unwrap_err().message,
            "content encoding is `br`, expected gzip, deflate or none"
        );
        assert_eq!(packing(&headers(CONTENT_ENCODING, "gzip")).unwrap(), Some(Packing::Gzip));
    }
}
