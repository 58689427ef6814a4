//! The providers of an installation, and the one way to call them: with a permit.

use ambit_policy::{ModelUse, Permit};
use ambit_types::{CallContext, ProviderName};
use futures::future::BoxFuture;
use std::{collections::BTreeMap, sync::Arc};

use crate::{ChatRequest, ChatStream, ProviderError, RawChat, RawReply};

/// A model a provider serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub id: String,
}

/// Where models are served. `model` is the provider's own name of the model, without the provider's.
pub trait Provider: Send + Sync + 'static {
    /// Answers a prompt. Resolves when the provider began to answer, so an error here means that no token was made.
    fn complete<'a>(
        &'a self,
        ctx: &'a CallContext,
        model: &'a str,
        request: ChatRequest,
    ) -> BoxFuture<'a, Result<ChatStream, ProviderError>>;

    /// Passes a client's own request on.
    fn forward<'a>(
        &'a self,
        ctx: &'a CallContext,
        model: &'a str,
        request: RawChat,
    ) -> BoxFuture<'a, Result<RawReply, ProviderError>>;

    /// The models on offer, in the provider's order. May be some minutes old.
    fn models(&self) -> BoxFuture<'_, Result<Arc<[Model]>, ProviderError>>;
}

/// Providers by name.
#[derive(Clone, Default)]
pub struct Providers(BTreeMap<ProviderName, Arc<dyn Provider>>);

impl Providers {
    #[must_use]
    pub fn with(mut self, name: ProviderName, provider: Arc<dyn Provider>) -> Self {
        self.0.insert(name, provider);
        self
    }

    pub fn names(&self) -> impl Iterator<Item = &ProviderName> {
        self.0.keys()
    }

    /// [`Provider::complete`] with the provider and model the permit names.
    ///
    /// # Errors
    /// No answer was begun.
    pub async fn complete(
        &self,
        ctx: &CallContext,
        permit: &Permit<ModelUse<'_>>,
        request: ChatRequest,
    ) -> Result<ChatStream, ProviderError> {
        self.get(permit.provider)?
            .complete(ctx, permit.model, request)
            .await
    }

    /// [`Provider::forward`] to the provider and model the permit names; the model named in the request is replaced.
    ///
    /// # Errors
    /// No answer was begun.
    pub async fn forward(
        &self,
        ctx: &CallContext,
        permit: &Permit<ModelUse<'_>>,
        request: RawChat,
    ) -> Result<RawReply, ProviderError> {
        self.get(permit.provider)?
            .forward(ctx, permit.model, request)
            .await
    }

    /// The models of one provider.
    ///
    /// # Errors
    /// No such provider, or it does not answer.
    pub async fn models(&self, provider: &str) -> Result<Arc<[Model]>, ProviderError> {
        self.get(provider)?.models().await
    }

    fn get(&self, name: &str) -> Result<&Arc<dyn Provider>, ProviderError> {
        self.0
            .get(name)
            .ok_or_else(|| ProviderError::UnknownProvider(name.to_owned()))
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
