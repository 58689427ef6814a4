//! OpenAI's dialect of the data plane.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod chat_request;
pub(crate) mod codepoints;
pub(crate) mod events;
pub(crate) mod json;
pub(crate) mod models;
pub(crate) mod moderation;
pub(crate) mod search;
