//! Adverts: dropped, lost, of others.
