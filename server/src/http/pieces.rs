//! Bodies of answers in pieces: large tensors go out from where they are.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Smaller bodies are put together: a piece of its own costs more than a copy.
const SMALL: usize = 64 << 10;

/// The pieces of a body, in order; none of them is empty.
#[derive(Debug, Default)]
pub(crate) struct Pieces(VecDeque<Bytes>);

impl<T: Into<Bytes>> From<T> for Pieces {
    fn from(whole: T) -> Self {
        Self(Some(whole.into()).into_iter().filter(|whole| !whole.is_empty()).collect())
    }
}

impl Pieces {
    /// What stands first and what follows.
    pub(crate) fn of(mut first: Vec<u8>, rest: Vec<Vec<u8>>) -> Self {
        if first.len() + rest.iter().map(Vec::len).sum::<usize>() <= SMALL {
            first.reserve_exact(rest.iter().map(Vec::len).sum());
            for piece in &rest {
                first.extend_from_slice(piece);
            }
            return first.into();
        }
        let all = std::iter::once(first).chain(rest).map(Bytes::from);
        Self(all.filter(|piece| !piece.is_empty()).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// All of it in one piece.
    pub(crate) fn whole(&self) -> Bytes {
        match self.0.len() {
            0 => Bytes::new(),
            1 => self.0[0].clone(),
            _ => self.0.iter().flatten().copied().collect::<Vec<u8>>().into(),
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    #[test]
    fn small_ones_are_put_together_and_large_ones_stay_where_they_are() {
        let small = Pieces::of(b"ab".to_vec(), vec![b"c".to_vec(), Vec::new()]);
        assert_eq!((small.0.len(), small.len(), small.whole()), (1, 3, Bytes::from_static(b"abc")));
        let tensor = vec![7; SMALL];
        let place = tensor.as_ptr();
        let large = Pieces::of(b"ab".to_vec(), vec![Vec::new(), tensor]);
        assert_eq!((large.0.len(), large.0[1].as_ptr()), (2, place));
        assert_eq!((large.size_hint().exact(), large.whole().len()), (Some(2 + SMALL as u64), 2 + SMALL));
        let all = large.collect().now_or_never().unwrap().unwrap().to_bytes();
        assert_eq!((&all[..3], all.len()), (&b"ab\x07"[..], 2 + SMALL));
        assert!(Pieces::from(Bytes::new()).is_end_stream());
    }
}
