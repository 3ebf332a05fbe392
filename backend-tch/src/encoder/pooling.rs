//! The vectors of a text's tokens as one.

use super::parts::unknown;
use crate::layers::{number, whole};
use skep_models::description::Pool;
use tch::{Kind, TchError, Tensor};

pub(super) struct Pooling {
    pub(super) pools: Vec<Pool>,
    /// Whether a mask of its own says what is pooled.
    pub(super) masked: bool,
}

impl Pooling {
    /// `[batch, tokens, hidden]` to `[batch, pools · hidden]`, of the tokens whose mask is 1.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        ids: &Tensor,
        mask: &Tensor,
        pooled: &Tensor,
    ) -> Result<Tensor, TchError> {
        let pooled = if self.masked { pooled } else { mask };
        let (kept, all) = (pooled.f_to_kind(x.kind())?, mask.f_to_kind(x.kind())?);
        let parts = self.pools.iter().map(|pool| pool_one(*pool, x, ids, &kept, &all));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        match &*parts {
            [part] => Ok(part.shallow_clone()),
            parts => Tensor::f_cat(parts, -1),
        }
    }
}

fn pool_one(pool: Pool, x: &Tensor, ids: &Tensor, kept: &Tensor, all: &Tensor) -> Result<Tensor, TchError> {
    let kind = x.kind();
    let sum = |weights: &Tensor| {
        let rows: &[i64] = &[1];
        weights.f_sum_dim_intlist(rows, true, kind)?.f_maximum(&number(1e-9)?)
    };
    let weights = match pool {
        Pool::Max => {
            let hidden = kept.f_sub(&number(1.0)?)?.f_mul(&number(1e30)?)?.f_unsqueeze(2)?;
            return x.f_add(&hidden)?.f_amax([1], false);
        }
        Pool::Mean => kept.f_div(&sum(kept)?)?,
        Pool::MeanSqrt => kept.f_div(&sum(kept)?.f_sqrt()?)?,
        Pool::WeightedMean => {
            // Counted from the text's first token, whether it is pooled or not.
            let weights = kept.f_mul(&all.f_cumsum(1, kind)?)?;
            weights.f_div(&sum(&weights)?)?
        }
        Pool::First => one_hot(kept, &kept.f_argmax(1, true)?)?,
        Pool::Last => one_hot(kept, &last_place(kept)?)?.f_mul(kept)?,
        Pool::LastBut(id) => {
            let id = whole(i64::from(id))?.f_to(ids.device())?;
            let others = ids.f_ne_tensor(&id)?.f_to_kind(kind)?.f_mul(kept)?;
            one_hot(kept, &last_place(&others)?)?
        }
        other => return Err(unknown(&other)),
    };
    weights.f_unsqueeze(1)?.f_matmul(x)?.f_squeeze_dim(1)
}

/// The last place of each row that is kept; the first if none is.
fn last_place(kept: &Tensor) -> Result<Tensor, TchError> {
    kept.f_mul(&place_numbers(kept)?.f_add(&number(1.0)?)?)?.f_argmax(1, true)
}

/// 0, 1, 2 … for each place of a row.
fn place_numbers(mask: &Tensor) -> Result<Tensor, TchError> {
    let (_, tokens) = mask.size2()?;
    Tensor::f_arange(tokens, (Kind::Int64, mask.device()))
}

/// 1 at the place of each row, 0 elsewhere.
fn one_hot(kept: &Tensor, place: &Tensor) -> Result<Tensor, TchError> {
    place_numbers(kept)?.f_eq_tensor(place)?.f_to_kind(kept.kind())
}
