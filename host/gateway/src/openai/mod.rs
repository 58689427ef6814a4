//! OpenAI's dialect of the data plane.
pub(crate) mod chat_request;
pub(crate) mod codepoints;
pub(crate) mod json;
