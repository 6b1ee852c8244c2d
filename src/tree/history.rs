//! The edges a tree had, and when: one row a node and parent in `<table>_history`, open while it holds.
//!
//! A BEFORE ROW trigger notes which nodes a statement touches; at the statement's first AFTER ROW
//! event, when all its rows are there, their open rows are made to agree with the table, by the set.
//! What is noted in vain (a conflict, a rolled back savepoint) finds that they agree already.
//!
//! A transaction has one instant in an org. It is later than every change of an edge committed
//! before, and than the births of the parents built on; where the transaction comes to need a later
//! one, its own rows move along. Inserters share the org's lock, so their instants are in no order
//! among themselves; whoever moves or deletes has the lock alone, and his instant divides all that
//! was committed before from all that comes after, whatever the clock does.

use super::locks::{self, Work};
use super::shape::{Shape, Sql};
use crate::catalog::ident;
use crate::error::Refusal;
use crate::pg::spi::{self, Arg};
use crate::pg::subxact::{self, End, Restored};
use crate::pg::trigger::{Call, Event, Outcome, When};
use crate::pg::{relation, role, session, settings, xact};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Nodes noted by their id; where there are more, the whole org is compared.
const MANY: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Inserted,
    /// Moved or deleted.
    Other,
}

/// The nodes of an org that a statement has touched.
#[derive(Clone, Default)]
struct Noted {
    ids: Vec<String>,
    too_many: bool,
    /// The outermost level at which an edge that stood before was touched. What a rolled back
    /// savepoint noted must not be taken for it: its lock is gone too.
    edges: Option<i32>,
}

struct Instant {
    at: String,
    /// Taken with the org's lock held alone: nobody else's can follow it.
    alone: bool,
    level: i32,
}

type TreeOrg = (Oid, String);

thread_local! {
    /// What was written down inside a savepoint that rolls back is to be written again: an outer
    /// statement's may be among it.
    static NOTED: RefCell<Restored<HashMap<TreeOrg, Noted>>> = RefCell::new(Restored::default());
    /// A savepoint that needs a later instant puts its own on top, and takes it off when it rolls back.
    static INSTANTS: RefCell<HashMap<TreeOrg, Vec<Instant>>> = RefCell::new(HashMap::new());
    /// The trigger depth at which our own writes meet the guard of the history table.
    static WRITING: Cell<Option<i32>> = const { Cell::new(None) };
}

pub fn init() {
    xact::at_top_end(|| {
        NOTED.with(|n| *n.borrow_mut() = Restored::default());
        INSTANTS.with(|i| i.borrow_mut().clear());
        WRITING.with(|w| w.set(None));
    });
    xact::at_sub_start(|level| NOTED.with(|n| n.borrow_mut().started(level)));
    xact::at_sub_end(|end, level| {
        INSTANTS.with(|all| {
            for stack in all.borrow_mut().values_mut() {
                settle_level(stack, end, level);
            }
        });
        NOTED.with(|all| {
            let mut all = all.borrow_mut();
            all.ended(end, level);
            if end == End::Released && !all.get().is_empty() {
                for noted in all.get_mut().values_mut().filter(|noted| noted.edges == Some(level)) {
                    noted.edges = Some(level - 1);
                }
            }
        });
    });
}

/// What becomes of the instants of a savepoint of this level: rolled back they are gone with the rows
/// they stamped, released they are those of the level above.
fn settle_level(stack: &mut Vec<Instant>, end: End, level: i32) {
    match end {
        End::RolledBack => stack.retain(|i| i.level < level),
        End::Released => {
            if let Some(mut top) = stack.pop_if(|i| i.level == level) {
                top.level = level - 1;
                stack.pop_if(|i| i.level == level - 1);
                stack.push(top);
            }
        }
    }
}

/// Remembers that the statement touches this node.
pub fn note(shape: &Shape, org: &str, id: &str, change: Change) {
    if shape.history.is_none() {
        return;
    }
    NOTED.with(|all| {
        let mut all = all.borrow_mut();
        let noted = all.get_mut().entry((shape.root, org.to_owned())).or_default();
        if change == Change::Other {
            noted.edges.get_or_insert_with(subxact::level);
        }
        if noted.ids.len() < MANY {
            noted.ids.push(id.to_owned());
        } else {
            noted.too_many = true;
        }
    });
}

/// BEFORE ROW of DELETE.
pub fn note_delete<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::BeforeRow, &[Event::Delete]);
    let shape = Shape::of(call);
    let old = call.old();
    if let (Some(org), Some(id)) = (old.text(shape.org), old.text(shape.id)) {
        locks::take(shape.root, Some(&org), Work::Move);
        note(&shape, &org, &id, Change::Other);
    }
    Outcome::Keep(old)
}

/// AFTER ROW of whatever changes an edge.
pub fn record<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::AfterRow, &[Event::Insert, Event::Update, Event::Delete]);
    // For each further row of the statement: quick.
    if NOTED.with(|n| n.borrow().get().is_empty()) {
        return Outcome::Done;
    }
    let shape = Shape::of(call);
    let row = if call.event() == Event::Delete { call.old() } else { call.new_row() };
    let Some(org) = row.text(shape.org) else {
        return Outcome::Done;
    };
    let tree_org = (shape.root, org);
    let noted = NOTED.with(|n| n.borrow_mut().get_mut().remove(&tree_org));
    if let (Some(noted), Some(history)) = (noted, shape.history.clone()) {
        let history = History { table: history, tree: shape.sql(), root: shape.root, owner: shape.owner };
        let mut ids = noted.ids;
        ids.sort_unstable();
        ids.dedup();
        let only = (!noted.too_many).then_some(ids.as_slice());
        if noted.edges.is_some() || holds_alone(&tree_org) {
            history.agree(&tree_org.1, only);
        } else {
            history.add(&tree_org.1, only);
        }
    }
    Outcome::Done
}

/// Has the transaction an instant that it took alone? Then it may have deleted what it inserts now.
fn holds_alone(tree_org: &TreeOrg) -> bool {
    INSTANTS.with(|i| i.borrow().get(tree_org).and_then(|s| s.last()).is_some_and(|i| i.alone))
}

/// BEFORE STATEMENT on the history table, and on the tree where it is emptied: nobody writes there
/// but `record`.
pub fn guard<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::BeforeStatement, &[Event::Insert, Event::Update, Event::Delete, Event::Truncate]);
    if WRITING.with(Cell::get) == Some(xact::trigger_depth()) {
        return Outcome::Done;
    }
    let table = relation::facts(call.relation());
    let (what, hint) = match call.event() {
        Event::Truncate => ("TRUNCATE", "DELETE the rows of the tree instead: their edges are closed."),
        Event::Insert => ("INSERT", "Change the tree; its history follows."),
        Event::Update => ("UPDATE", "Change the tree; its history follows."),
        Event::Delete => ("DELETE", "Change the tree; its history follows."),
    };
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "{what} of {}.{} is refused: the history of a tree is not rewritten",
            table.schema, table.name
        ),
    )
    .hint(hint)
    .table(&table.schema, &table.name)
    .constraint("crm_tree_history")
    .raise()
}

struct Unmark(Option<i32>);

impl Drop for Unmark {
    fn drop(&mut self) {
        WRITING.with(|w| w.set(self.0));
    }
}

/// Our own statements, with the owner's rights: they must find no operator of the writer's.
fn on_own_path<R>(work: impl FnOnce() -> R) -> R {
    settings::on_safe_path(|| writing(work))
}

/// Lets our own statements pass the guard: they fire it one trigger deeper than we are.
fn writing<R>(work: impl FnOnce() -> R) -> R {
    let _unmark = Unmark(WRITING.with(|w| w.replace(Some(xact::trigger_depth() + 1))));
    work()
}

/// Who a change is written down for: the bound user, else whoever logged in.
fn changed_by() -> String {
    session::user().unwrap_or_else(|| {
        spi::read::<1>("SELECT session_user::pg_catalog.text", vec![])
            .into_iter()
            .next()
            .and_then(|[name]| name)
            .unwrap_or_default()
    })
}

/// The history of one tree. `$1` is the org, `$2` ids, `$3` an instant.
pub struct History {
    /// The history table, as written in SQL.
    pub table: String,
    pub tree: Sql,
    pub root: Oid,
    pub owner: Oid,
}

/// A moment as text that every DateStyle and TimeZone reads the same.
fn moment(expression: &str) -> String {
    format!("to_char(({expression}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
}

impl History {
    /// Makes the open rows of these nodes, or of the whole org, agree with the table. With the org's
    /// lock held alone.
    pub fn agree(&self, org: &str, only: Option<&[String]>) {
        let at = self.instant(org, true, None);
        self.write(only, |ids| {
            let args = || vec![Arg::Text(org), Arg::Texts(ids.to_vec()), Arg::Text(&at)];
            for sql in [self.forget_sql(only), self.reopen_sql(only), self.close_sql(only)] {
                spi::write::<0>(&sql, args());
            }
        });
        self.open(org, only, &at);
    }

    /// Opens a row for nodes that have none. Others may be doing the same.
    fn add(&self, org: &str, only: Option<&[String]>) {
        let at = self.instant(org, false, None);
        if let Some(born) = self.open(org, only, &at) {
            // A parent was committed after our instant: all we wrote must be later than it.
            self.instant(org, false, Some(&born));
        }
    }

    /// Answers the latest birth among the parents, where it is after `at`.
    fn open(&self, org: &str, only: Option<&[String]>, at: &str) -> Option<String> {
        let by = changed_by();
        let sql = self.open_sql(only);
        self.write(only, |ids| {
            let args = vec![Arg::Text(org), Arg::Texts(ids.to_vec()), Arg::Text(at), Arg::Text(&by)];
            if xact::keeps_one_snapshot() {
                let args = vec![Arg::Text(org), Arg::Texts(ids.to_vec())];
                spi::write::<0>(&self.touch_last_sql(only), args);
            }
            spi::write::<1>(&sql, args).into_iter().next().and_then(|[born]| born)
        })
    }

    /// Runs statements with the plans they need: by the index for a few nodes, whatever was known
    /// of the tables when the plan was made; by hash for an org of which nothing is known yet.
    fn write<R>(&self, only: Option<&[String]>, work: impl FnOnce(&[String]) -> R) -> R {
        let plans: &[_] = match only {
            Some(_) => &[
                // Else it is planned anew each time: with the ids known it seems to cost less.
                (c"plan_cache_mode", c"force_generic_plan"),
                (c"enable_seqscan", c"off"),
                (c"enable_hashjoin", c"off"),
                (c"enable_mergejoin", c"off"),
            ],
            None => &[(c"enable_nestloop", c"off"), (c"work_mem", c"256MB")],
        };
        role::as_table_owner(self.owner, || {
            on_own_path(|| settings::with(plans, || work(only.unwrap_or_default())))
        })
    }

    /// The transaction's instant in the org; a later one than before if it is now alone, or has to be
    /// after `after`.
    fn instant(&self, org: &str, alone: bool, after: Option<&str>) -> String {
        let key = (self.root, org.to_owned());
        let current =
            INSTANTS.with(|i| i.borrow().get(&key).and_then(|s| s.last()).map(|i| (i.at.clone(), i.alone)));
        if let Some((at, was_alone)) = &current
            && after.is_none()
            && *was_alone >= alone
        {
            return at.clone();
        }
        let at = role::as_table_owner(self.owner, || {
            let sql = self.instant_sql(alone);
            let args = vec![Arg::Text(org), Arg::Text(after.unwrap_or("-infinity"))];
            let at = spi::read::<1>(&sql, args).into_iter().next().and_then(|[at]| at);
            let at = at.unwrap_or_else(|| error!("the clock of {} says nothing", self.table));
            if let Some((was, _)) = &current {
                on_own_path(|| {
                    spi::write::<0>(&self.restamp_sql(), vec![Arg::Text(org), Arg::Text(was), Arg::Text(&at)])
                });
            }
            at
        });
        let level = subxact::level();
        INSTANTS.with(|i| {
            let mut all = i.borrow_mut();
            let stack = all.entry(key).or_default();
            stack.pop_if(|i| i.level == level);
            stack.push(Instant { at: at.clone(), alone, level });
        });
        at
    }

    /// After every change of an edge committed so far. Births need be asked for only by who is alone:
    /// inserters look at those of their parents.
    fn instant_sql(&self, alone: bool) -> String {
        let after = |column: &str| {
            format!(
                "(SELECT max(h.{column}) FROM {h} h WHERE h.org = $1::{org_type}) + interval '1 microsecond'",
                h = self.table,
                org_type = self.tree.org_type
            )
        };
        let births = if alone { format!(", {}", after("valid_from")) } else { String::new() };
        format!(
            "SELECT {}",
            moment(&format!(
                "greatest(clock_timestamp(), $2::timestamptz + interval '1 microsecond', {}{births})",
                after("valid_to")
            ))
        )
    }

    fn restamp_sql(&self) -> String {
        format!(
            "UPDATE {h} AS h SET valid_from = $3::timestamptz
              WHERE h.org = $1::{org_type} AND h.valid_from = $2::timestamptz AND crm_tree._is_own_xid(h.xmin::text)",
            h = self.table,
            org_type = self.tree.org_type
        )
    }

    /// The places of the history rows that meet `condition`, at most one a node, as a relation `x(at)`.
    /// LATERAL with LIMIT is a probe of the key for each node and nothing else: loaded rows are in no
    /// statistics yet, and what is planned without them is quadratic.
    fn found(&self, only: Option<&[String]>, condition: &str) -> String {
        let (h, org_type, id_type) = (&self.table, &self.tree.org_type, &self.tree.id_type);
        match only {
            Some(_) => format!(
                "(SELECT f.at FROM unnest($2::text[]::{id_type}[]) AS i(id), LATERAL (
                     SELECT h.ctid AS at FROM {h} h WHERE h.org = $1::{org_type} AND h.id = i.id AND {condition} LIMIT 1) f) AS x(at)"
            ),
            None => format!("(SELECT h.ctid FROM {h} h WHERE h.org = $1::{org_type} AND {condition}) AS x(at)"),
        }
    }

    /// Does the tree have the edge of the row `h`?
    fn stands(&self) -> String {
        let t = &self.tree;
        format!(
            "EXISTS (SELECT FROM {tree} t WHERE {in_org} AND t.{id} = h.id AND t.{parent} IS NOT DISTINCT FROM h.parent)",
            tree = t.table,
            in_org = t.in_org("t"),
            id = t.id,
            parent = t.parent
        )
    }

    /// Edges that this transaction has opened and that do not stand: never seen by anybody.
    fn forget_sql(&self, only: Option<&[String]>) -> String {
        let new = format!("h.valid_to IS NULL AND h.valid_from = $3::timestamptz AND NOT {}", self.stands());
        format!("DELETE FROM {} AS h USING {} WHERE h.ctid = x.at", self.table, self.found(only, &new))
    }

    /// Edges that this transaction has closed and that stand again.
    fn reopen_sql(&self, only: Option<&[String]>) -> String {
        let closed = format!(
            "h.valid_to = $3::timestamptz AND {stands}
             AND NOT EXISTS (SELECT FROM {h} o WHERE o.org = $1::{org_type} AND o.id = h.id AND o.valid_to IS NULL)",
            stands = self.stands(),
            h = self.table,
            org_type = self.tree.org_type
        );
        let found = self.found(only, &closed);
        format!("UPDATE {} AS h SET valid_to = NULL FROM {found} WHERE h.ctid = x.at", self.table)
    }

    fn close_sql(&self, only: Option<&[String]>) -> String {
        let gone = format!("h.valid_to IS NULL AND NOT {}", self.stands());
        let found = self.found(only, &gone);
        format!("UPDATE {} AS h SET valid_to = $3::timestamptz FROM {found} WHERE h.ctid = x.at", self.table)
    }

    /// The nodes that have no open row: id, parent, and where their last one ended, as a query.
    fn fresh_sql(&self, only: Option<&[String]>) -> String {
        let t = &self.tree;
        let (tree, id, parent, in_org) = (&t.table, &t.id, &t.parent, t.in_org("n"));
        let nodes = match only {
            Some(_) => format!(
                "unnest($2::text[]::{id_type}[]) AS i(id), LATERAL (
                     SELECT n.{id}, n.{parent} FROM {tree} n WHERE {in_org} AND n.{id} = i.id LIMIT 1) AS t(id, parent)",
                id_type = t.id_type
            ),
            None => format!("(SELECT n.{id}, n.{parent} FROM {tree} n WHERE {in_org}) AS t(id, parent)"),
        };
        format!(
            "SELECT t.id, t.parent, (SELECT max(p.valid_to) FROM {h} p WHERE p.org = $1::{org_type} AND p.id = t.id) AS prev_to
               FROM {nodes}
              WHERE (SELECT true FROM {h} o WHERE o.org = $1::{org_type} AND o.id = t.id AND o.valid_to IS NULL LIMIT 1) IS NULL",
            h = self.table,
            org_type = t.org_type,
        )
    }

    /// Opens the missing rows.
    fn open_sql(&self, only: Option<&[String]>) -> String {
        format!(
            "WITH fresh AS MATERIALIZED (
                 SELECT f.id, f.parent, f.prev_to,
                        (SELECT p.valid_from FROM {h} p
                          WHERE p.org = $1::{org_type} AND p.id = f.parent AND p.valid_to IS NULL) AS born
                   FROM ({fresh}) f),
             opened AS (
                 INSERT INTO {h} (org, id, parent, valid_from, prev_to, changed_by)
                 SELECT $1::{org_type}, id, parent, $3::timestamptz, prev_to, $4 FROM fresh)
             SELECT {born} FROM fresh WHERE born > $3::timestamptz",
            h = self.table,
            org_type = self.tree.org_type,
            fresh = self.fresh_sql(only),
            born = moment("max(born)"),
        )
    }

    /// Writes again the last rows of the nodes that are to have new ones. What the transaction's one snapshot does not
    /// show is a serialization failure then; to the key of the chain it would be a row that is not there.
    fn touch_last_sql(&self, only: Option<&[String]>) -> String {
        format!(
            "UPDATE {h} AS p SET valid_to = p.valid_to FROM ({fresh}) f
              WHERE p.org = $1::{org_type} AND p.id = f.id AND p.valid_to = f.prev_to AND NOT crm_tree._is_own_xid(p.xmin::text)",
            h = self.table,
            org_type = self.tree.org_type,
            fresh = self.fresh_sql(only),
        )
    }

    /// Nodes whose open row is not what the table says: `org`, `id`, what is wrong.
    pub fn disagreements_sql(&self, bound: bool) -> String {
        let t = &self.tree;
        let only = |alias: &str, column: &str| {
            if bound { format!("AND {alias}.{column} = $1::{}", t.org_type) } else { String::new() }
        };
        format!(
            "SELECT t.{org}::text AS org, t.{id}::text AS id, CASE WHEN h.id IS NULL THEN 'has no open row in the history'
                        ELSE 'the history has it below ' || coalesce(h.parent::text, 'none') END AS detail
               FROM {tree} t LEFT JOIN {h} h ON h.org = t.{org} AND h.id = t.{id} AND h.valid_to IS NULL
              WHERE (h.id IS NULL OR h.parent IS DISTINCT FROM t.{parent}) {in_t}
             UNION ALL
             SELECT h.org::text, h.id::text, 'the history has it still open'
               FROM {h} h LEFT JOIN {tree} t ON t.{org} = h.org AND t.{id} = h.id
              WHERE h.valid_to IS NULL AND t.{id} IS NULL {in_h}",
            org = t.org,
            id = t.id,
            parent = t.parent,
            tree = t.table,
            h = self.table,
            in_t = only("t", &t.org),
            in_h = only("h", "org"),
        )
    }
}

/// The history table of a tree, as written in SQL; None where it keeps none.
pub fn table_of(root: Oid) -> Option<String> {
    // A type of its owner's own could run code of his, as whoever reads or keeps it.
    let sql = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
                      ((SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute h
                        WHERE h.attrelid = c.oid AND h.attnum > 0 AND NOT h.attisdropped
                          AND h.atttypid = CASE h.attname
                                  WHEN 'changed_by' THEN 'text'::pg_catalog.regtype
                                  WHEN 'valid_from' THEN 'timestamptz'::pg_catalog.regtype
                                  WHEN 'valid_to' THEN 'timestamptz'::pg_catalog.regtype
                                  WHEN 'prev_to' THEN 'timestamptz'::pg_catalog.regtype
                                  ELSE (SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.relation
                                           AND a.attname = CASE h.attname WHEN 'org' THEN t.org_column WHEN 'id' THEN t.id_column
                                                                          WHEN 'parent' THEN t.id_column END) END) = 7)::pg_catalog.text
                 FROM crm_tree._trees() t
                 LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.history::pg_catalog.oid
                 LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                WHERE t.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND t.history IS NOT NULL";
    let root = root.to_u32().to_string();
    match spi::read::<3>(sql, vec![Arg::Text(&root)]).into_iter().next()? {
        [Some(schema), Some(name), Some(right)] if right != "true" => Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("the columns of {schema}.{name} have other types than those of its tree"),
        )
        .hint("Change them back, or let it go: crm_tree.attach_tree(…, history => false).")
        .table(&schema, &name)
        .raise(),
        [Some(schema), Some(name), _] => Some(format!("{}.{}", ident(&schema), ident(&name))),
        _ => Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the history table of this tree is gone",
        )
        .hint("Run crm_tree.attach_tree() again: with history => true for a new one, with false for none.")
        .raise(),
    }
}

#[pg_extern(sql = false)]
fn is_own_xid(xid: &str) -> bool {
    xid.parse().is_ok_and(subxact::is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(levels: &[i32]) -> Vec<Instant> {
        levels.iter().map(|l| Instant { at: l.to_string(), alone: false, level: *l }).collect()
    }

    fn shown(stack: &[Instant]) -> Vec<(&str, i32)> {
        stack.iter().map(|i| (i.at.as_str(), i.level)).collect()
    }

    #[test]
    fn a_rolled_back_savepoint_takes_its_instants_along() {
        let mut s = stack(&[1, 2, 3]);
        settle_level(&mut s, End::RolledBack, 2);
        assert_eq!(shown(&s), [("1", 1)]);
    }

    #[test]
    fn a_released_savepoint_leaves_its_instant_to_the_level_above() {
        let mut s = stack(&[1, 3]);
        settle_level(&mut s, End::Released, 3);
        assert_eq!(shown(&s), [("1", 1), ("3", 2)]);
        settle_level(&mut s, End::Released, 2);
        assert_eq!(shown(&s), [("3", 1)], "one instant a level");
        settle_level(&mut s, End::RolledBack, 2);
        assert_eq!(shown(&s), [("3", 1)]);
    }
}
