//! Outbound HTTP against a network the tests control; nothing but loopback is touched.

mod destinations;
mod messages;
mod support;
mod tls;
