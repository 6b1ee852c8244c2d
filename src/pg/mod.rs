//! The only unsafe code: PostgreSQL's C interfaces, each behind a safe face.
//!
//! Every entry point into PostgreSQL that can raise goes through pgrx's guarded bindings, so a
//! PostgreSQL error unwinds Rust frames before it reaches the server again.

/// Defines `$info`, which tells PostgreSQL that the function of that name is called by version 1.
macro_rules! finfo {
    ($info:ident) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            &pgrx::pg_sys::Pg_finfo_record { api_version: 1 }
        }
    };
}

pub mod activity;
pub mod binding_functions;
pub mod caller;
mod cascade;
pub mod cursor;
mod distance;
pub mod door;
mod enforced;
pub mod entry;
pub mod frames;
pub mod guard;
pub mod load;
pub mod lock;
pub mod node;
pub mod orgs;
mod planned;
pub mod protected;
pub mod relation;
pub mod role;
mod rollup_functions;
pub mod rows;
pub mod scan;
mod search;
pub mod session;
pub mod settings;
pub mod shmem;
mod sought;
pub mod spi;
pub mod stale;
pub mod subxact;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
pub mod trigger;
pub mod upsert;
mod witness;
pub mod worker;
pub mod xact;
