//! Settings and limits of the director itself.
