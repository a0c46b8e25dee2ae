//! The vipd daemon and its client, vipctl.

pub mod config;
