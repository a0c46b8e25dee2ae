//! The control API: HTTP and JSON on a unix socket, and its client.

pub mod checks;
pub mod client;
pub mod real_servers;
pub mod server;
pub mod wait;
