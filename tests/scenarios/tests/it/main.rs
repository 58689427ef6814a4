//! The scenarios, in one program: each would link half of the workspace again. What must have the machine for itself is beside it.

mod anchors_s3;
#[cfg(target_os = "linux")]
mod approvals;
mod audit;
mod children;
mod command_line;
#[cfg(target_os = "linux")]
mod crash;
mod disconnect;
mod documents;
mod drain;
#[cfg(target_os = "linux")]
mod faults;
mod guardrail;
mod hosts;
mod huge;
mod injection;
mod inspect;
mod issuers;
mod ledger;
mod limits;
mod live_swap;
mod metrics;
mod postgres;
mod refusals;
#[cfg(target_os = "linux")]
mod replay;
mod restart;
#[cfg(target_os = "linux")]
mod retention_gap;
mod routes;
mod sessions;
mod shipped;
mod taken_over;
mod telemetry;
mod tokens;
mod tools;
mod up;
