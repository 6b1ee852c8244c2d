//! Settings for the time of one piece of work, as a function's SET clause does it.

use pgrx::pg_sys;
use std::ffi::CStr;

struct Level(i32);

impl Drop for Level {
    fn drop(&mut self) {
        // SAFETY: closes the level opened in `with`. After an error the (sub)transaction's end has
        // nothing left to close.
        unsafe { pg_sys::AtEOXact_GUC(true, self.0) }
    }
}

/// Does the work with these settings, and puts the old values back, also when it unwinds.
pub fn with<R>(values: &[(&CStr, &CStr)], work: impl FnOnce() -> R) -> R {
    // SAFETY: the level is closed when the guard drops.
    let _level = Level(unsafe { pg_sys::NewGUCNestLevel() });
    for (name, value) in values {
        // SAFETY: both strings live through the call; the settings named are any user's to set.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
    work()
}

struct JitAgain(bool);

impl Drop for JitAgain {
    fn drop(&mut self) {
        // SAFETY: sets a static to a value read from it.
        unsafe { pg_sys::jit_enabled = self.0 }
    }
}

/// Does work whose statements are not compiled when they are planned. Kept plans of small statements
/// cost more to compile, anew each time, than to run; a recursive one is taken to be large, and so is
/// what comes out of a check that finds nothing. Not by the setting's own machinery: this is done for each row.
pub fn without_jit<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: reads and sets a static of this process.
    let _again =
        unsafe { JitAgain(std::mem::replace(&mut *std::ptr::addr_of_mut!(pg_sys::jit_enabled), false)) };
    work()
}
