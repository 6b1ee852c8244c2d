//! The triggers that keep second parents free of cycles and shares within 100 percent.
//!
//! Whoever adds or changes an edge of either kind holds the org's lock as a mover does, and judges
//! the edge when all rows of its statement are there, by what is committed then and what he wrote
//! himself. A cycle of tree edges alone is not met here: `maintain` has refused it before.

use super::faults;
use super::links::{LinkSql, Links, refuse_lost_column};
use super::locks::{self, Work};
use crate::error::Refusal;
use crate::pg::spi::{self, Arg};
use crate::pg::trigger::{self, Call, Event, Outcome, When};
use crate::pg::{relation, role, session, xact};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};

thread_local! {
    /// Orgs of trees that this transaction, under their lock, has seen to have no second parents.
    static UNLINKED: RefCell<HashSet<(Oid, String)>> = RefCell::new(HashSet::new());
}

pub fn init() {
    xact::at_top_end(forget);
    // The lock goes with the savepoint that took it.
    xact::at_sub_abort(forget);
}

/// Also where other links become the tree's.
pub fn forget() {
    UNLINKED.with(|u| u.borrow_mut().clear());
}

/// BEFORE STATEMENT of INSERT and UPDATE on the links, of UPDATE of the ownership on the tree.
pub fn lock<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::BeforeStatement, &[Event::Insert, Event::Update]);
    if let Some(links) = Links::of(call.relation()) {
        forget();
        locks::take(links.tree, session::org().as_deref(), Work::Move);
    }
    Outcome::Done
}

/// AFTER ROW of INSERT and UPDATE on the links, and of UPDATE on the tree where the parent or the
/// ownership changed.
pub fn settle<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::AfterRow, &[Event::Insert, Event::Update]);
    let on = relation::partition_root(call.relation());
    let row = call.new_row();
    let value = |column: &str| {
        row.text(
            trigger::column_number(call.relation(), column).unwrap_or_else(|| refuse_lost_column(column)),
        )
    };
    let Some(kept) = Links::kept(on) else {
        return Outcome::Done;
    };
    let (links, sql) = &*kept;
    let of_tree = on == links.tree;
    let (org, id) = if of_tree {
        (value(&links.tree_org), value(&links.tree_id))
    } else {
        forget();
        (value(&links.org), value(&links.child))
    };
    let (Some(org), Some(id)) = (org, id) else {
        return Outcome::Done;
    };
    if of_tree
        && value(&links.tree_parent).is_some()
        && let Some(share) = links.tree_pct.as_deref().and_then(value)
    {
        expect_ownership(links.tree, || id.clone(), &share);
    }
    locks::take(links.tree, Some(&org), Work::Move);
    let key = (links.tree, org);
    if UNLINKED.with(|u| u.borrow().contains(&key)) {
        return Outcome::Done;
    }
    let org = &key.1;
    let linked = role::as_table_owner(links.owner, || {
        let linked = !spi::read::<1>(&sql.any(), vec![Arg::Text(org)]).is_empty();
        if linked {
            judge(links, sql, org, &id);
        }
        linked
    });
    if !linked {
        UNLINKED.with(|u| u.borrow_mut().insert(key));
    }
    Outcome::Done
}

/// Refuses what the edges above one node must not be.
fn judge(links: &Links, sql: &LinkSql, org: &str, id: &str) {
    let node = || vec![Arg::Text(org), Arg::Text(id)];
    if !spi::read::<1>(&sql.turns(), node()).is_empty() {
        let edges = spi::read::<2>(&sql.edges_above(), node())
            .into_iter()
            .filter_map(|[child, parent]| Some((child?, parent?)));
        let facts = relation::facts(links.tree);
        faults::raise(cycle(&shortest_way_round(id, edges)), &facts.schema, &facts.name);
    }
    if let Some(share) = overowned(sql, org, id, false) {
        refuse_ownership(links.tree, id, &share);
    }
}

/// What is owned of a node beyond reason.
fn overowned(sql: &LinkSql, org: &str, id: &str, moved: bool) -> Option<String> {
    let found = spi::read::<2>(&sql.overowned(moved)?, vec![Arg::Text(org), Arg::Text(id)]);
    let [sum, least] = found.into_iter().next()?;
    least.filter(|least| least.starts_with('-')).or(sum)
}

/// Why these nodes, all of which have a parent now or none, could not hang below `parent`, by their second parents. Run as the tree's owner; locks and
/// changes nothing.
pub fn foreseen(
    tree: Oid,
    org: &str,
    ids: impl FnOnce() -> Vec<String>,
    parent: &str,
    had_parent: bool,
) -> Option<Refusal> {
    let links = Links::of(tree)?;
    links.refuse_other_columns();
    let sql = links.sql();
    let linked = !spi::read::<1>(&sql.any(), vec![Arg::Text(org)]).is_empty();
    if !linked && had_parent {
        return None;
    }
    let ids = ids();
    let edges = if linked {
        spi::read::<2>(&sql.edges_above(), vec![Arg::Text(org), Arg::Text(parent)])
    } else {
        Vec::new()
    };
    let above: Vec<(String, String)> =
        edges.into_iter().filter_map(|[child, parent]| Some((child?, parent?))).collect();
    if let Some(id) = ids.iter().find(|id| above.iter().any(|(_, parent)| parent == *id)) {
        let closing = (id.clone(), parent.to_owned());
        return Some(cycle(&shortest_way_round(id, above.into_iter().chain([closing]))));
    }
    // The share of an edge counts from where there is one.
    ids.iter()
        .filter(|_| !had_parent)
        .find_map(|id| Some(bad_ownership(id, &overowned(&sql, org, id, true)?)))
}

/// From the node up to itself again, by the fewest edges: (child, parent) → the ids on the way.
fn shortest_way_round(id: &str, edges: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut parents: HashMap<String, Vec<String>> = HashMap::new();
    for (child, parent) in edges {
        parents.entry(child).or_default().push(parent);
    }
    for list in parents.values_mut() {
        list.sort();
    }
    let mut came_from: HashMap<String, String> = HashMap::new();
    let mut queue = VecDeque::from([id.to_owned()]);
    while let Some(at) = queue.pop_front() {
        for parent in parents.get(&at).into_iter().flatten() {
            if came_from.contains_key(parent) {
                continue;
            }
            came_from.insert(parent.clone(), at.clone());
            queue.push_back(parent.clone());
        }
        if came_from.contains_key(id) {
            break;
        }
    }
    let mut way = vec![id.to_owned()];
    let mut at = id;
    while let Some(below) = came_from.get(at) {
        way.push(below.clone());
        if below == id {
            break;
        }
        at = below;
    }
    way.reverse();
    way
}

fn cycle(way: &[String]) -> Refusal {
    let first = way.first().map_or("", String::as_str);
    let shown: Vec<&str> = way.iter().take(20).map(String::as_str).collect();
    Refusal::new(
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
        format!("node {first:?} would become its own ancestor through a second parent"),
    )
    .detail(format!("The links would run in a circle, child to parent: {}.", shown.join(" → ")))
    .hint("Delete the link that closes the circle, or choose a parent that is not below the node by any way.")
    .constraint(faults::NO_CYCLE)
}

/// Refuses an edge that owns less than nothing of a node or more than all of it.
pub fn expect_ownership(tree: Oid, id: impl FnOnce() -> String, share: &str) {
    let is_share = |share: AnyNumeric| share >= AnyNumeric::from(0) && share <= AnyNumeric::from(100);
    if !is_plainly_a_share(share) && !AnyNumeric::try_from(share).is_ok_and(is_share) {
        refuse_ownership(tree, &id(), share);
    }
}

/// True of what is written as nearly every share is: two digits or 100, and digits behind a point, all
/// zero behind 100. Each inserted row asks, and a numeric costs a sixth of what it takes to place one.
fn is_plainly_a_share(share: &str) -> bool {
    let (whole, rest) = share.split_once('.').unwrap_or((share, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    match whole.len() {
        1 | 2 => digits(whole) && digits(rest),
        3 => whole == "100" && rest.bytes().all(|b| b == b'0'),
        _ => false,
    }
}

fn refuse_ownership(tree: Oid, id: &str, share: &str) -> ! {
    let facts = relation::facts(tree);
    bad_ownership(id, share).table(&facts.schema, &facts.name).raise()
}

fn bad_ownership(id: &str, share: &str) -> Refusal {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
        format!("node {id:?} would be owned by {share} percent"),
    )
    .detail("The ownership of its tree edge and that of its second parents are from 0 to 100, and together at most 100.")
    .hint("Lower the share of another parent in the same statement or before.")
    .constraint("crm_tree_ownership")
}

#[cfg(test)]
mod tests {
    use super::{is_plainly_a_share, shortest_way_round};

    fn way(id: &str, edges: &[(&str, &str)]) -> Vec<String> {
        shortest_way_round(id, edges.iter().map(|(c, p)| ((*c).to_owned(), (*p).to_owned())))
    }

    #[test]
    fn plain_shares_are_from_0_to_100() {
        for share in ["0", "7", "00", "51.0000", "99.9999", "100", "100.", "100.0000"] {
            assert!(is_plainly_a_share(share), "{share}");
        }
        for share in
            ["", ".5", "-1", "+1", "1e3", "NaN", "100.0001", "101", "1000", "5.-1", "1.0.0", "\u{664}"]
        {
            assert!(!is_plainly_a_share(share), "{share}");
        }
    }

    #[test]
    fn the_way_round_goes_child_to_parent() {
        let edges = [("a", "b"), ("b", "c"), ("b", "x"), ("c", "d"), ("d", "a"), ("c", "a"), ("x", "y")];
        assert_eq!(way("a", &edges), ["a", "b", "c", "a"]);
        assert_eq!(way("a", &[("a", "a")]), ["a", "a"]);
        assert_eq!(way("b", &edges), ["b", "c", "a", "b"]);
    }
}
