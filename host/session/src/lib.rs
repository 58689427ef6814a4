//! Sessions: the agent loop, plain pass-through, and the live tenants both work for.
//!
//! Reads in the order of a request: [`Tenants`] (who is bound to what), [`Sessions::chat`] (an agent's request: step, policy check,
//! effect, guardrail, journal, until the agent finishes) or [`Sessions::pass_through`] (one model call, governed).
//!
//! Rules kept here:
//!
//! - An effect starts only with a permit of the agent's ambit and with its intent durable.
//! - The finish of an answer leaves only when its outcome is durable; whatever ends a request, its end is journalled: by the request,
//!   before the store closes, or by the next process that starts on the same data.
//! - Text that nobody vouches for reaches a model only inside the session's delimiters, and only after the guardrail.
//! - A tool is called only if the model's last reply asked for exactly that call.

mod ahead;
mod approvals;
mod bind;
mod bodies;
mod caller;
mod calls;
mod chat;
mod children;
mod conversation;
mod definition;
mod durable;
mod effects;
mod ending;
mod erasure;
mod event;
mod follow;
mod guard;
mod intake;
mod key_sets;
mod library;
mod observer;
mod pass_through;
mod passing;
mod past;
mod platform;
mod progress;
mod record;
mod recovery;
mod replay;
mod reply;
mod retrieve;
mod spending;
mod tenants;
mod tokens;
mod tools;
mod turn;
mod untrusted;

pub use approvals::{ApprovalRule, ApprovalView, Approvals, Decision, Pattern, session_of};
pub use bind::{PASS_THROUGH, default_rules};
pub use bodies::Key;
pub use chat::Sessions;
pub use definition::{AgentDefinition, AgentLimits, ModelName};
pub use durable::View;
pub use ending::stopping;
pub use erasure::{Erased, erase, erase_principal};
pub use event::{ChatEvents, ChatMessage, ChatTurn, Citation, ClientTool, SessionEvent};
pub use key_sets::key_sets;
pub use library::{Installed, Library};
pub use observer::{ModelCall, Observer, Unobserved};
pub use pass_through::{PassReply, PassThrough, agent as agent_of_pass_through};
pub use platform::{Platform, Settings};
pub use recovery::{close_abandoned, finish_idle};
pub use replay::{Compared, Difference, Replayed, Trial, Tried};
pub use tenants::{BoundTool, Budgeted, LiveAgent, Problem, Tenant, Tenants};
pub use tokens::{Issued, LONGEST, NewToken, Tokens, revoke_token};
