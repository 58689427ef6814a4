//! The index as its users see it: a store that is a map, the real tantivy, real files.
#![allow(
    clippy::disallowed_methods,
    reason = "each test waits for the tasks it starts"
)]
#![allow(
    clippy::float_cmp,
    reason = "scores of equal indexes are equal bit for bit"
)]

mod concurrency;
mod filters;
mod limits;
mod property;
mod recovery;
mod search;
mod support;
