//! The wall: who is bound to which org, and the policies that keep every row to its org.

pub mod binding;
pub mod door;
pub mod event;
pub mod grants;
pub mod guard;
pub mod load_view;
pub mod org;
pub mod search;
pub mod signing_keys;
pub mod token;
pub mod wall;
pub mod watch;
