//! Tokens to tensors, and the block's output to numbers.
//!
//! Texts are handed in as long as they are. Where they are to share batches with others the pool pads:
//! [`Model::padding`](crate::Model::padding).

use crate::description::Kind;
use crate::text::ask::Ask;
use crate::text::error::{Result, TextError};
use crate::text::model::TextModel;
use crate::text::tokens::Encoded;
use skep_runtime_core::{HostTensor, Request, TensorOps, Ticket};

/// A text that was handed in.
pub(super) struct Handed<T> {
    ticket: Ticket<T>,
    encoded: Encoded,
}

impl<O: TensorOps> TextModel<O> {
    /// Hands texts in, one after the other, before any is answered.
    pub(super) async fn hand_in_all<S: AsRef<str>>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<Handed<O::Tensor>>> {
        let mut handed = Vec::with_capacity(texts.len());
        for text in texts {
            let (encoded, unpooled) = self.encoded(text.as_ref(), ask)?;
            handed.push(self.hand_in(encoded, unpooled, ask).await?);
        }
        Ok(handed)
    }

    /// Hands a text in, of whose tokens the first `unpooled` have no part in its vector.
    pub(super) async fn hand_in(
        &self,
        encoded: Encoded,
        unpooled: usize,
        ask: &Ask,
    ) -> Result<Handed<O::Tensor>> {
        let count = encoded.ids.len();
        let row = |values: &[u32]| {
            let host = HostTensor::from_u32(&[1, count], values).map_err(|error| TextError::Output {
                got: error.to_string(),
                expected: "as many ids as there are tokens".to_owned(),
            })?;
            self.ops.from_host(&host).map_err(TextError::Device)
        };
        let description = self.model().description();
        let mut inputs = Vec::with_capacity(4);
        inputs.push(row(&encoded.ids)?);
        inputs.push(row(&vec![1; count])?);
        if description.token_types {
            inputs.push(row(&encoded.types)?);
        }
        if description.pooling_mask {
            let mut pooled = vec![1; count];
            pooled.iter_mut().take(unpooled).for_each(|place| *place = 0);
            inputs.push(row(&pooled)?);
        }
        let mut request = Request::new(inputs).priority(ask.priority).deadline(ask.deadline);
        request.flow = ask.flow;
        let ticket =
            self.door.submit_async(request).await.map_err(|refused| TextError::Refused(refused.error))?;
        Ok(Handed { ticket, encoded })
    }

    /// Waits for what came of a text: all numbers of its tokens, or those of its one vector.
    pub(super) async fn numbers(&self, handed: Handed<O::Tensor>) -> Result<(Vec<f32>, Encoded)> {
        let description = self.model().description();
        let expected = match description.kind {
            Kind::Token => vec![1, handed.encoded.ids.len(), description.output],
            _ => vec![1, description.output],
        };
        self.output(handed, 0, &expected).await
    }

    /// Waits for the vectors of a text's tokens.
    pub(super) async fn token_vectors(&self, handed: Handed<O::Tensor>) -> Result<(Vec<f32>, Encoded)> {
        let expected = [1, handed.encoded.ids.len(), self.model().description().encoder.hidden];
        self.output(handed, 1, &expected).await
    }

    /// One of the outputs.
    async fn output(
        &self,
        handed: Handed<O::Tensor>,
        place: usize,
        expected: &[usize],
    ) -> Result<(Vec<f32>, Encoded)> {
        let Handed { ticket, encoded } = handed;
        let outputs = ticket.await.map_err(TextError::Failed)?;
        let wrong = |got: String| TextError::Output { got, expected: format!("f32 of dims {expected:?}") };
        let output = outputs.get(place).ok_or_else(|| wrong("not there".to_owned()))?;
        let host = self.ops.to_host(output).map_err(TextError::Device)?;
        let numbers = host.to_f32().filter(|_| host.dims() == expected);
        let numbers = numbers.ok_or_else(|| wrong(format!("{} of dims {:?}", host.dtype(), host.dims())))?;
        Ok((numbers, encoded))
    }
}
