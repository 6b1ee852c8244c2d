//! The counters themselves. Pure: no server needed.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A statement that needs a binding, without one.
    Unbound,
    /// A binding that was refused: no grant, or another org than the transaction's first.
    BindDenied,
    /// A new row that belongs to another org, by the log.
    WallDenied,
    GuardRefused,
    GuardLogged,
    DoorOpened,
    /// A tree's parent links that would have closed to a cycle.
    Cycle,
}

pub const KINDS: usize = 7;
pub type Tally = [u64; KINDS];

/// Orgs that are counted by themselves. About 18 kB of shared memory, searched only when something is
/// refused.
pub const SLOTS: usize = 64;
const MAX_NAME: usize = crate::tenant::org::MAX_BYTES;

#[derive(Clone, Copy)]
struct Slot {
    database: u32,
    length: u8,
    name: [u8; MAX_NAME],
    tally: Tally,
    /// What the slot has counted, and what it had counted for others before: decides who gives way.
    rank: u64,
}

const FREE: Slot = Slot { database: 0, length: 0, name: [0; MAX_NAME], tally: [0; KINDS], rank: 0 };

impl Slot {
    fn is_of(&self, database: u32, org: &str) -> bool {
        self.database == database && &self.name[..self.length.into()] == org.as_bytes()
    }
}

#[derive(Clone, Copy)]
pub struct Counts {
    all: Tally,
    /// Of orgs that have no slot, or had none yet.
    other: Tally,
    slots: [Slot; SLOTS],
}

impl Counts {
    pub const fn new() -> Counts {
        Counts { all: [0; KINDS], other: [0; KINDS], slots: [FREE; SLOTS] }
    }

    /// Counts one. Without an org (nothing was bound) it is in the sum alone.
    ///
    /// An org without a slot takes that of the lowest rank, and the rank with it ("space saving"): so
    /// it comes to stay if it is busy, and every org with more than a SLOTS-th of all has a slot.
    pub fn add(&mut self, kind: Kind, org: Option<(u32, &str)>) {
        let kind = kind as usize;
        self.all[kind] += 1;
        let Some((database, org)) = org.filter(|(_, org)| !org.is_empty() && org.len() <= MAX_NAME) else {
            return;
        };
        let at = self.slots.iter().position(|slot| slot.is_of(database, org)).unwrap_or_else(|| {
            let least = (0..SLOTS).min_by_key(|at| self.slots[*at].rank).expect("there are slots");
            let slot = &mut self.slots[least];
            for (sum, gone) in self.other.iter_mut().zip(slot.tally) {
                *sum += gone;
            }
            *slot = Slot { database, length: org.len() as u8, rank: slot.rank, ..FREE };
            slot.name[..org.len()].copy_from_slice(org.as_bytes());
            least
        });
        self.slots[at].tally[kind] += 1;
        self.slots[at].rank += 1;
    }

    pub fn all(&self) -> Tally {
        self.all
    }

    pub fn other(&self) -> Tally {
        self.other
    }

    /// The orgs with a slot, the busiest first: database, name, tally.
    pub fn orgs(&self) -> Vec<(u32, String, Tally)> {
        let mut used: Vec<&Slot> = self.slots.iter().filter(|slot| slot.length > 0).collect();
        used.sort_by_key(|slot| std::cmp::Reverse(slot.tally.iter().sum::<u64>()));
        let name = |slot: &Slot| String::from_utf8_lossy(&slot.name[..slot.length.into()]).into_owned();
        used.into_iter().map(|slot| (slot.database, name(slot), slot.tally)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const ALL: [Kind; KINDS] = [
        Kind::Unbound,
        Kind::BindDenied,
        Kind::WallDenied,
        Kind::GuardRefused,
        Kind::GuardLogged,
        Kind::DoorOpened,
        Kind::Cycle,
    ];

    proptest! {
        /// Few busy orgs among many: names below 100 come twice as often.
        #[test]
        fn every_count_is_somewhere_and_the_busy_have_slots(
            events in prop::collection::vec((0..KINDS, prop_oneof![0..100u32, 0..1000u32]), 0..3000),
            busy in 0..1000u32,
            times in 0..200usize,
        ) {
            let mut counts = Counts::new();
            let mut model: HashMap<String, u64> = HashMap::new();
            let mut sums = [0; KINDS];
            for (kind, org) in events.iter().copied().chain((0..times).map(|i| (i % KINDS, busy))) {
                counts.add(ALL[kind], Some((1, &org.to_string())));
                *model.entry(org.to_string()).or_default() += 1;
                sums[kind] += 1;
            }
            prop_assert_eq!(counts.all(), sums);
            let orgs = counts.orgs();
            let mut parts = counts.other();
            for (_, name, tally) in &orgs {
                prop_assert!(tally.iter().sum::<u64>() <= model[name]);
                for (part, n) in parts.iter_mut().zip(tally) {
                    *part += n;
                }
            }
            prop_assert_eq!(parts, sums);
            let total: u64 = sums.iter().sum();
            for (name, n) in model {
                let has_slot = orgs.iter().any(|(_, org, _)| *org == name);
                prop_assert!(has_slot || n <= total / SLOTS as u64, "{} of {}", n, total);
            }
        }
    }

    #[test]
    fn what_names_no_org_is_in_the_sum_alone() {
        let mut counts = Counts::new();
        counts.add(Kind::Unbound, None);
        counts.add(Kind::Unbound, Some((1, "")));
        counts.add(Kind::Cycle, Some((1, "7")));
        counts.add(Kind::Cycle, Some((2, "7")));
        assert_eq!(counts.all(), [2, 0, 0, 0, 0, 0, 2]);
        assert_eq!(counts.other(), [0; KINDS]);
        assert_eq!(counts.orgs().len(), 2, "an org of another database is another org");
    }
}
