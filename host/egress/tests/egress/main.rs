//! Outbound HTTP against a network the tests control; nothing but loopback is touched.

#![allow(
    clippy::disallowed_methods,
    reason = "servers of a test end with its runtime"
)]

mod destinations;
mod look_ups;
mod messages;
mod support;
mod tls;
