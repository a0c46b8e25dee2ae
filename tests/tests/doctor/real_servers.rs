//! Real servers and the way to them.
