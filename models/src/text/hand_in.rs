//! Tokens to tensors, and the block's output to numbers.
//!
//! All that is known about padding is here: unless the pool pads, texts are padded to a multiple of a bucket before they are
//! handed in, because only tensors of equal dims share a batch.

use crate::description::Kind;
use crate::text::ask::Ask;
use crate::text::error::{Result, TextError};
use crate::text::model::TextModel;
use crate::text::tokens::{Encoded, Tokens};
use skep_runtime_core::{HostTensor, Request, TensorOps, Ticket};

/// A text that was handed in.
pub(super) struct Handed<T> {
    ticket: Ticket<T>,
    encoded: Encoded,
    padded: usize,
}

impl<O: TensorOps> TextModel<O> {
    /// Returns with how many tokens and places of padding a text of so many tokens is handed in.
    pub fn padded(&self, tokens: usize) -> usize {
        if self.pool_pads {
            return tokens;
        }
        let limit = self.model().tokens().map_or(tokens, Tokens::limit);
        tokens.next_multiple_of(self.bucket).min(limit).max(tokens)
    }

    /// Hands a text in, of whose tokens the first `unpooled` have no part in its vector.
    pub(super) async fn hand_in(
        &self,
        encoded: Encoded,
        unpooled: usize,
        ask: &Ask,
    ) -> Result<Handed<O::Tensor>> {
        let tokens = self.tokens()?;
        let count = encoded.ids.len();
        let padded = self.padded(count);
        let row = |values: &mut dyn Iterator<Item = u32>, padding: u32| {
            let values: Vec<u32> = values.chain(std::iter::repeat_n(padding, padded - count)).collect();
            let host = HostTensor::from_u32(&[1, padded], &values).map_err(|error| TextError::Output {
                got: error.to_string(),
                expected: "as many ids as there are tokens".to_owned(),
            })?;
            self.ops.from_host(&host).map_err(TextError::Device)
        };
        let description = self.model().description();
        let mut inputs = Vec::with_capacity(4);
        inputs.push(row(&mut encoded.ids.iter().copied(), tokens.padding())?);
        if !self.pool_pads {
            inputs.push(row(&mut std::iter::repeat_n(1, count), 0)?);
        }
        if description.token_types {
            inputs.push(row(&mut encoded.types.iter().copied(), 0)?);
        }
        if description.pooling_mask {
            let unpooled = unpooled.min(count);
            let pooled = std::iter::repeat_n(1, count - unpooled);
            inputs.push(row(&mut std::iter::repeat_n(0, unpooled).chain(pooled), 0)?);
        }
        let request = Request::new(inputs).priority(ask.priority).deadline(ask.deadline);
        let ticket =
            self.door.submit_async(request).await.map_err(|refused| TextError::Refused(refused.error))?;
        Ok(Handed { ticket, encoded, padded })
    }

    /// Waits for what came of a text: all numbers of its tokens, or those of its one vector.
    pub(super) async fn numbers(&self, handed: Handed<O::Tensor>) -> Result<(Vec<f32>, Encoded)> {
        let Handed { ticket, encoded, padded } = handed;
        let outputs = ticket.await.map_err(TextError::Failed)?;
        let description = self.model().description();
        let expected: &[usize] = match description.kind {
            Kind::Token => &[1, padded, description.output],
            _ => &[1, description.output],
        };
        let wrong = |got: String| TextError::Output { got, expected: format!("f32 of dims {expected:?}") };
        let output = outputs.first().ok_or_else(|| wrong("not there".to_owned()))?;
        let host = self.ops.to_host(output).map_err(TextError::Device)?;
        let numbers = host.to_f32().filter(|_| host.dims() == expected);
        let numbers = numbers.ok_or_else(|| wrong(format!("{} of dims {:?}", host.dtype(), host.dims())))?;
        Ok((numbers, encoded))
    }
}
