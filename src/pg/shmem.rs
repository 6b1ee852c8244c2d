//! The counters in shared memory, and the log hook that counts what PostgreSQL itself refuses. There
//! only where the postmaster loads the library: memory is set aside before the first session.

use crate::telemetry::counts::{Counts, Kind};
use pgrx::lwlock::PgLwLock;
use pgrx::prelude::*;
use pgrx::shmem::AssertPGRXSharedMemory;
use pgrx::{pg_shmem_init, pg_sys};
use std::ffi::CStr;

type Shared = AssertPGRXSharedMemory<(Counts, i64)>;

// SAFETY: initialized once, below, under a name of ours.
static COUNTS: PgLwLock<Shared> = unsafe { PgLwLock::new(c"crm_tree_counters") };
/// Written by the postmaster; its children inherit it.
static mut THERE: bool = false;
static mut NEXT: pg_sys::emit_log_hook_type = None;
static mut DENIED: Option<fn()> = None;

/// Called once, when the library is loaded. `denied` is told of a row that a policy refused.
#[expect(unexpected_cfgs, reason = "pgrx's macro asks for versions that we do not build for")]
pub fn init(denied: fn()) {
    // SAFETY: the postmaster's only thread; the hook has the signature that PostgreSQL expects.
    unsafe {
        if !pg_sys::process_shared_preload_libraries_in_progress {
            return;
        }
        THERE = true;
        DENIED = Some(denied);
        pg_shmem_init!(COUNTS = fresh());
        NEXT = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(on_log);
    }
}

fn fresh() -> Shared {
    // SAFETY: plain data, and every access is under the lock.
    unsafe { AssertPGRXSharedMemory::new((Counts::new(), now())) }
}

fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

pub fn is_there() -> bool {
    // SAFETY: see THERE.
    unsafe { THERE }
}

/// Counts one, with the org given, of this database. It stays counted when the transaction rolls back.
pub fn add(kind: Kind, org: Option<&str>) {
    if is_there() {
        // SAFETY: reads backend state.
        let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
        COUNTS.exclusive().0.add(kind, org.map(|org| (database, org)));
    }
}

/// The counters and the moment they began, as PostgreSQL counts time.
pub fn read() -> Option<(Counts, i64)> {
    is_there().then(|| **COUNTS.share())
}

pub fn reset() {
    if is_there() {
        *COUNTS.exclusive() = fresh();
    }
}

unsafe extern "C-unwind" fn on_log(report: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL's report; its message id is a C string or null.
    unsafe {
        if let Some(next) = NEXT {
            next(report);
        }
        let denied = (*report).elevel == PgLogLevel::ERROR as i32
            && (*report).sqlerrcode == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as i32
            && !(*report).message_id.is_null()
            && CStr::from_ptr((*report).message_id)
                .to_bytes()
                .starts_with(b"new row violates row-level security policy");
        if denied {
            count_denied();
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn count_denied() {
    // SAFETY: written once, before the hook was set.
    if let Some(denied) = unsafe { DENIED } {
        denied();
    }
}
