//! Settings for the time of one piece of work, as a function's SET clause does it.

use pgrx::pg_sys;
use std::ffi::CStr;

struct Level {
    number: i32,
    /// Does what others set in the meantime stay?
    keeps: bool,
}

impl Level {
    fn open(keeps: bool) -> Level {
        // SAFETY: the level is closed when the guard drops.
        Level { number: unsafe { pg_sys::NewGUCNestLevel() }, keeps }
    }

    fn set(&self, values: &[(&CStr, &CStr)]) {
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
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        // SAFETY: closes the level opened in `open`. After an error the (sub)transaction's end has
        // nothing left to close.
        unsafe { pg_sys::AtEOXact_GUC(self.keeps, self.number) }
    }
}

/// Does the work with these settings, and puts the old values back, also when it unwinds. What a
/// trigger of the user's sets meanwhile stays set.
pub fn with<R>(values: &[(&CStr, &CStr)], work: impl FnOnce() -> R) -> R {
    let level = Level::open(true);
    level.set(values);
    work()
}

/// Does work in which names that are not qualified are the server's own. For statements that fire no
/// trigger of the user's, which would not find what is his.
pub fn on_safe_path<R>(work: impl FnOnce() -> R) -> R {
    let level = Level::open(false);
    level.set(&[(c"search_path", c"pg_catalog, pg_temp")]);
    work()
}

/// Does work in which code of somebody else's may run (a trigger, an index's expression while a query
/// is planned), and takes back whatever that sets: its search_path would be that of all that is done
/// next, whoever does it and with whatever rights.
pub fn taking_back<R>(work: impl FnOnce() -> R) -> R {
    let _level = Level::open(false);
    work()
}

/// A setting that has another value while this lives, by the variable behind it: that is cheaper than the
/// setting's own machinery where it is done for each row.
struct Other<T: Copy> {
    variable: *mut T,
    before: T,
}

impl<T: Copy> Other<T> {
    /// # Safety
    /// The variable is a setting's own, and 'static.
    unsafe fn new(variable: *mut T, now: T) -> Other<T> {
        // SAFETY: as said; one thread reads and writes it.
        Other { variable, before: unsafe { variable.replace(now) } }
    }
}

impl<T: Copy> Drop for Other<T> {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { *self.variable = self.before }
    }
}

/// Does work whose statements are not compiled when they are planned. Kept plans of small statements
/// cost more to compile, anew each time, than to run; a recursive one is taken to be large, and so is
/// what comes out of a check that finds nothing.
pub fn without_jit<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the variable of the setting `jit`.
    let _off = unsafe { Other::new(&raw mut pg_sys::jit_enabled, false) };
    work()
}

/// Does work in which the text of a binary fraction says all of it, whatever the session has set: that is
/// how shares of ownership are added up.
pub fn in_whole_fractions<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the variable of the setting `extra_float_digits`; 1 is as many digits as it takes.
    let _digits = unsafe { Other::new(&raw mut pg_sys::extra_float_digits, 1) };
    work()
}

/// Does work in which names are quoted where they have to be and nowhere else: those of types are
/// compared with what they are called.
pub fn quoting_what_must_be<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the variable of the setting `quote_all_identifiers`.
    let _off = unsafe { Other::new(&raw mut pg_sys::quote_all_identifiers, false) };
    work()
}
