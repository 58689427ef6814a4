//! Anchors in an S3 bucket, best under Object Lock: what was put there nobody replaces, and nobody removes before its time.
//!
//! [`Bucket`] is a [`Place`](ambit_anchor::Place). A crate of its own, as the AWS SDK is slow to compile.

mod bucket;

pub use bucket::{Bucket, BucketConfig, Lock, LockMode, Login};
