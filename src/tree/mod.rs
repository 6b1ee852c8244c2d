//! Trees: paths kept right by triggers, whatever order the rows come in and whoever else writes.

pub mod attach;
mod by_links;
pub mod check;
pub mod deferred;
mod faults;
mod functions;
pub mod history;
pub mod history_read;
pub mod history_table;
pub mod judge;
pub mod links;
pub mod load;
pub mod locks;
pub mod maintain;
pub mod merge;
pub mod moves;
pub mod path;
pub mod preview;
pub mod read;
mod read_links;
pub mod shape;

/// Called once, when the library is loaded.
pub fn init() {
    locks::init();
    deferred::init();
    maintain::init();
    history::init();
    judge::init();
}
