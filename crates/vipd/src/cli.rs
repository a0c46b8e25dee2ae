//! What can be typed: the command lines of both programs, apart from what they do, so that help,
//! completions and manual pages say the same.

pub mod realserver;
pub mod vipctl;
pub mod vipd;
