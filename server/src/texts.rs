//! Questions about texts, over the models of any backend.

use async_trait::async_trait;
use skep_models::{Ask, Classes, Embedding, LabelledText, Model, Ranked, TextError, TextModel, TokenVectors};
use skep_runtime_core::TensorOps;

/// What a text model answers, whatever its tensors are. Dropping a future cancels what has not run.
#[async_trait]
pub(crate) trait Texts: Send + Sync {
    fn model(&self) -> &Model;

    async fn embed(&self, texts: &[String], ask: &Ask) -> Result<Vec<Embedding>, TextError>;

    async fn embed_tokens(&self, texts: &[String], ask: &Ask) -> Result<Vec<TokenVectors>, TextError>;

    async fn classify(&self, texts: &[String], ask: &Ask) -> Result<Vec<Classes>, TextError>;

    async fn compare(&self, pairs: &[(String, String)], ask: &Ask) -> Result<Vec<Classes>, TextError>;

    async fn rerank(&self, query: &str, texts: &[String], ask: &Ask) -> Result<Vec<Ranked>, TextError>;

    async fn label(&self, texts: &[String], ask: &Ask) -> Result<Vec<LabelledText>, TextError>;
}

#[async_trait]
impl<O: TensorOps> Texts for TextModel<O> {
    fn model(&self) -> &Model {
        TextModel::model(self)
    }

    async fn embed(&self, texts: &[String], ask: &Ask) -> Result<Vec<Embedding>, TextError> {
        self.embed_all_async(texts, ask).await
    }

    async fn embed_tokens(&self, texts: &[String], ask: &Ask) -> Result<Vec<TokenVectors>, TextError> {
        self.embed_tokens_all_async(texts, ask).await
    }

    async fn classify(&self, texts: &[String], ask: &Ask) -> Result<Vec<Classes>, TextError> {
        self.classify_all_async(texts, ask).await
    }

    async fn compare(&self, pairs: &[(String, String)], ask: &Ask) -> Result<Vec<Classes>, TextError> {
        self.compare_all_async(pairs, ask).await
    }

    async fn rerank(&self, query: &str, texts: &[String], ask: &Ask) -> Result<Vec<Ranked>, TextError> {
        self.rerank_async(query, texts, ask).await
    }

    async fn label(&self, texts: &[String], ask: &Ask) -> Result<Vec<LabelledText>, TextError> {
        self.label_all_async(texts, ask).await
    }
}
