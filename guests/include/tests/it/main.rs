//! The resolver called as the host calls it: again with more files until it is done or has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chaos;
mod includes;
mod limits;
mod support;
mod yaml;
