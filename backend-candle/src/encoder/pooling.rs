//! The vectors of a text's tokens as one.

use super::parts::unknown;
use candle_core::{D, DType, Result, Tensor};
use skep_models::description::Pool;

pub(super) struct Pooling {
    pub(super) pools: Vec<Pool>,
    /// Whether a mask of its own says what is pooled.
    pub(super) masked: bool,
}

impl Pooling {
    /// `[batch, tokens, hidden]` to `[batch, pools · hidden]`, of the tokens whose mask is 1.
    pub(super) fn forward(&self, x: &Tensor, ids: &Tensor, mask: &Tensor, pooled: &Tensor) -> Result<Tensor> {
        let pooled = if self.masked { pooled } else { mask };
        let (kept, all) = (pooled.to_dtype(x.dtype())?, mask.to_dtype(x.dtype())?);
        let parts =
            self.pools.iter().map(|pool| pool_one(*pool, x, ids, &kept, &all)).collect::<Result<Vec<_>>>()?;
        match &*parts {
            [part] => Ok(part.clone()),
            parts => Tensor::cat(parts, D::Minus1),
        }
    }
}

fn pool_one(pool: Pool, x: &Tensor, ids: &Tensor, kept: &Tensor, all: &Tensor) -> Result<Tensor> {
    let count = || kept.sum_keepdim(1)?.maximum(1e-9);
    let weights = match pool {
        Pool::Max => {
            let hidden = ((kept - 1.0)? * 1e30)?.unsqueeze(2)?;
            return x.broadcast_add(&hidden)?.max(1);
        }
        Pool::Mean => kept.broadcast_div(&count()?)?,
        Pool::MeanSqrt => kept.broadcast_div(&count()?.sqrt()?)?,
        Pool::WeightedMean => {
            // Counted from the text's first token, whether it is pooled or not.
            let weights = (kept * all.cumsum(1)?)?;
            weights.broadcast_div(&weights.sum_keepdim(1)?.maximum(1e-9)?)?
        }
        Pool::First => one_hot(kept, &kept.argmax_keepdim(1)?)?,
        Pool::Last => (one_hot(kept, &last_place(kept)?)? * kept)?,
        Pool::LastBut(id) => {
            let others = (ids.ne(id)?.to_dtype(kept.dtype())? * kept)?;
            one_hot(kept, &last_place(&others)?)?
        }
        other => return Err(unknown(&other)),
    };
    weights.unsqueeze(1)?.matmul(&x.contiguous()?)?.squeeze(1)
}

/// The last place of each row that is kept; the first if none is.
fn last_place(kept: &Tensor) -> Result<Tensor> {
    kept.broadcast_mul(&(place_numbers(kept)? + 1.0)?)?.argmax_keepdim(1)
}

/// 0, 1, 2 … for each place of a row.
fn place_numbers(mask: &Tensor) -> Result<Tensor> {
    let tokens = mask.dim(1)? as f64;
    Tensor::arange(0.0, tokens, mask.device())?.to_dtype(mask.dtype())
}

/// 1 at the place of each row, 0 elsewhere.
fn one_hot(kept: &Tensor, place: &Tensor) -> Result<Tensor> {
    let places = place_numbers(kept)?.to_dtype(DType::U32)?;
    places.broadcast_as(kept.dims())?.eq(&place.broadcast_as(kept.dims())?)?.to_dtype(kept.dtype())
}
