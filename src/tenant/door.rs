use pgrx::prelude::*;
pub fn is_service(_user: pg_sys::Oid) -> bool {
    false
}
