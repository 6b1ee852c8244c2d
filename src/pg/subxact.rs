//! Savepoints: how deep we are, how one ends, and which rows this transaction has written.

use pgrx::pg_sys;
use std::rc::Rc;

/// How a savepoint, or an exception block, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Released,
    RolledBack,
}

/// 1 in a transaction outside any savepoint, one more in each.
pub fn level() -> i32 {
    // SAFETY: reads backend state.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Has this transaction, one of its savepoints included, written what carries this transaction id?
pub fn is_own(xid: u32) -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid.into()) }
}

/// What a savepoint that rolls back puts back as it was when it was set. Setting one costs a count, the
/// first change after it a copy.
pub struct Restored<T> {
    now: Rc<T>,
    before: Vec<(i32, Rc<T>)>,
}

impl<T: Default> Default for Restored<T> {
    fn default() -> Restored<T> {
        Restored { now: Rc::default(), before: Vec::new() }
    }
}

impl<T: Clone> Restored<T> {
    pub fn get(&self) -> &T {
        &self.now
    }

    pub fn get_mut(&mut self) -> &mut T {
        Rc::make_mut(&mut self.now)
    }

    /// For `xact::at_sub_start`.
    pub fn started(&mut self, level: i32) {
        self.before.push((level, Rc::clone(&self.now)));
    }

    /// For `xact::at_sub_end`.
    pub fn ended(&mut self, end: End, level: i32) {
        while let Some((_, before)) = self.before.pop_if(|before| before.0 >= level) {
            if end == End::RolledBack {
                self.now = before;
            }
        }
    }
}

#[cfg(test)]
mod pure {
    use super::*;

    #[test]
    fn a_rollback_puts_back_and_a_release_does_not() {
        let mut kept = Restored::<Vec<i32>>::default();
        kept.get_mut().push(1);
        kept.started(2);
        kept.get_mut().push(2);
        kept.started(3);
        kept.get_mut().clear();
        kept.ended(End::RolledBack, 3);
        assert_eq!(kept.get(), &[1, 2]);
        kept.started(3);
        kept.get_mut().push(3);
        kept.ended(End::Released, 3);
        assert_eq!(kept.get(), &[1, 2, 3]);
        kept.ended(End::RolledBack, 2);
        assert_eq!(kept.get(), &[1]);
    }
}
