//! Heavyweight locks of our own. They show in pg_locks as advisory locks whose `objsubid` is above
//! the 1 and 2 that users' advisory locks have, so no user's key can collide with them.

use pgrx::pg_sys;

/// What a lock is about; each has its own `objsubid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// A whole tree, all its orgs.
    Tree = 0x4354,
    /// One org of a tree.
    TreeOrg = 0x4355,
    /// What an instance computes for one org, one computation at a time. (0x4356 is a job.)
    OrgWork = 0x4357,
}

/// Lock modes, weakest first. PostgreSQL's conflict table gives: `IntendWrite` meets nothing but
/// `All`; `IntendMove` meets `Write` and `All`; `Write` meets itself not; `All` meets everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    IntendWrite = 2,
    IntendMove = 3,
    Write = 5,
    All = 7,
}

/// PostgreSQL's own hash: sessions that run builds of ours from different compilers take the same lock. It
/// only computes, and raises nothing.
mod bare {
    unsafe extern "C" {
        pub fn hash_bytes_extended(bytes: *const u8, length: i32, seed: u64) -> u64;
    }
}

/// The key of an org's lock. Two orgs whose keys collide only wait for each other more than they need.
pub fn key_of(about: pg_sys::Oid, org: &str) -> u64 {
    // SAFETY: the bytes are alive; an org has a few hundred at most.
    unsafe { bare::hash_bytes_extended(org.as_ptr(), org.len() as i32, u64::from(about.to_u32())) }
}

fn tag(space: Space, key: u64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: reads backend state.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: space as u16,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Waits for the lock and holds it to the end of the transaction.
pub fn for_transaction(space: Space, key: u64, mode: Mode) {
    let tag = tag(space, key);
    // SAFETY: the tag is complete; an error (deadlock, cancel) unwinds through the guarded binding.
    unsafe { pg_sys::LockAcquire(&tag, mode as i32, false, false) };
}
