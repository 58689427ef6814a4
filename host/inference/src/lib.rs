//! Where models are served: providers, streaming, usage.
//!
//! Owns everything between "this model may be called" (a [`Permit`](ambit_policy::Permit)) and the model's answer. Two forms of one
//! request exist because two callers want opposite things:
//!
//! - [`ChatRequest`], typed: the session loop builds prompts, and reads an answer as a [`ChatStream`] of [`Delta`]s.
//! - [`RawChat`], the client's own bytes: a governed pass-through must keep fields this code has never heard of, so it *splices*
//!   (model name, masked texts) into the body instead of parsing and printing it again. The answer comes back the same way.
//!
//! Rules kept here, whatever the provider does:
//!
//! - A stream ends in a finish reason or in an error, never in a truncated success.
//! - A request is retried only before its first token, and only where the [`Retry`] policy says so.
//! - Dropping a stream, or the future that would give one, closes the upstream connection.
//! - What a [`ProviderError`] shows to a caller names no address and no key; the rest is its `source`, for the log.
//!
//! Only this crate speaks HTTP to model servers. `ambit-egress` is not used for it: there the *guest* chooses the address, which
//! therefore must be checked; here the operator does, and a model server on loopback is the normal case.

mod chat;
mod error;
mod extractive;
mod object;
mod openai;
mod provider;
mod raw;
mod sse;
mod wire;

pub use chat::{
    ChatRequest, ChatStream, Delta, FinishReason, Message, Passage, Role, Tool, ToolCall,
    ToolCallFragment, Usage,
};
pub use error::{ProviderError, TimeoutPhase};
pub use extractive::Extractive;
pub use openai::{Caps, OpenAi, OpenAiConfig, Retry, Timeouts};
pub use provider::{Model, Provider, Providers};
pub use raw::{RawChat, RawChunk, RawCompletion, RawReply, RawStream, RequestError};
pub use wire::{TextKind, TextSpan};
