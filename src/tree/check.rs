//! Finding what is wrong in a tree, and putting right what the links decide.

use super::attach::{Tree, expected_triggers};
use super::locks::{self, Work};
use super::maintain;
use super::shape::OnDelete;
use crate::catalog::{self, rows};
use crate::error::Refusal;
use crate::pg::spi::{self as plans, Arg};
use crate::pg::{role, session};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

type Problem = (Option<String>, Option<String>, String, String);

/// Every edge is compared with its parent's row alone, which finds every wrong path: a tree in which
/// each path is its parent's and one more id has no cycle, because paths grow. So cycles are looked
/// for only among the rows that failed.
fn problems_sql(tree: &Tree, bound: bool) -> String {
    let s = &tree.sql;
    let only = if bound { format!("WHERE {}", s.in_org("c")) } else { String::new() };
    format!(
        "WITH RECURSIVE edge AS MATERIALIZED (
             SELECT c.{org} AS org, c.{id} AS id, c.{parent} AS parent, c.{path} AS path, c.{depth} AS depth,
                    c.{parent} IS NOT NULL AND p.{id} IS NULL AS orphan,
                    CASE WHEN c.{parent} IS NULL THEN '/' ELSE p.{path} END || c.{id}::text || '/' AS true_path,
                    CASE WHEN c.{parent} IS NULL THEN 0 ELSE p.{depth} + 1 END AS true_depth
               FROM {table} c LEFT JOIN {table} p ON p.{org} = c.{org} AND p.{id} = c.{parent} {only}),
         suspect AS MATERIALIZED (
             SELECT * FROM edge
              WHERE orphan OR path IS NULL OR true_path IS NULL OR path <> true_path
                 OR depth IS NULL OR depth IS DISTINCT FROM true_depth OR depth > {max}),
         up(org, start, at) AS (
             SELECT org, id, parent FROM suspect WHERE parent IS NOT NULL AND (path IS NULL OR path IS DISTINCT FROM true_path)
             UNION
             SELECT up.org, up.start, n.{parent} FROM up JOIN {table} n ON n.{org} = up.org AND n.{id} = up.at
              WHERE n.{parent} IS NOT NULL AND up.at <> up.start),
         turning AS (SELECT org, start AS id FROM up WHERE at = start)
         SELECT org::text, id::text, 'cycle', 'the parent links lead back to the node' FROM turning
         UNION ALL
         SELECT org::text, id::text, 'orphan', 'parent ' || parent::text || ' is not in the org' FROM suspect WHERE orphan
         UNION ALL
         SELECT org::text, id::text, 'stale_path', coalesce('is ' || path, 'is unset') || coalesce(', the parent''s path says ' || true_path, '')
           FROM suspect s WHERE NOT orphan AND (path IS NULL OR path IS DISTINCT FROM true_path)
            AND NOT EXISTS (SELECT FROM turning t WHERE t.org = s.org AND t.id = s.id)
         UNION ALL
         SELECT org::text, id::text, 'wrong_depth', 'is ' || coalesce(depth::text, 'unset') || ', the parent''s depth says ' || coalesce(true_depth::text, 'unset')
           FROM suspect s WHERE NOT orphan AND (depth IS NULL OR depth IS DISTINCT FROM true_depth)
            AND NOT EXISTS (SELECT FROM turning t WHERE t.org = s.org AND t.id = s.id)
         UNION ALL
         SELECT org::text, id::text, 'too_deep', 'at depth ' || depth || ' where the tree goes down to {max}' FROM suspect WHERE depth > {max}",
        org = s.org,
        id = s.id,
        parent = s.parent,
        path = s.path,
        depth = s.depth,
        table = s.table,
        max = s.max_depth,
    )
}

fn missing_triggers(tree: &Tree) -> Vec<Problem> {
    let on_delete = rows(
        "SELECT on_delete FROM crm_tree._trees() WHERE relation = $1",
        &[tree.table.oid.into()],
        |row| catalog::text(row, 1),
    );
    let mode = on_delete.first().and_then(|m| OnDelete::parse(m)).unwrap_or(OnDelete::Restrict);
    let there = rows(
        "SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgenabled IN ('O', 'A')",
        &[tree.table.oid.into()],
        |row| catalog::text(row, 1),
    );
    expected_triggers(mode)
        .into_iter()
        .filter(|name| !there.iter().any(|t| t == name))
        .map(|name| {
            let detail = format!("trigger \"{name}\" is missing or disabled; run attach_tree() again");
            (None, None, "trigger_missing".to_owned(), detail)
        })
        .collect()
}

#[pg_extern(sql = false)]
fn check_tree(
    table: pg_sys::Oid,
) -> TableIterator<
    'static,
    (name!(org, Option<String>), name!(id, Option<String>), name!(problem, String), name!(detail, String)),
> {
    let tree = Tree::get(table);
    let mut found = missing_triggers(&tree);
    let bound = session::org();
    let read = |row: &spi::SpiHeapTupleData| {
        (catalog::opt_text(row, 1), catalog::opt_text(row, 2), catalog::text(row, 3), catalog::text(row, 4))
    };
    let sql = problems_sql(&tree, bound.is_some());
    found.extend(match bound {
        Some(org) => rows(&sql, &[org.into()], read),
        None => rows(&sql, &[], read),
    });
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn repair_tree(
    table: Option<pg_sys::Oid>,
    org: Option<&str>,
) -> TableIterator<'static, (name!(repaired, i64), name!(cycles, i64), name!(orphans, i64))> {
    let tree = Tree::get(table.unwrap_or(pg_sys::Oid::INVALID));
    tree.table.expect_owner();
    let bound = session::org();
    if let (Some(bound), Some(org)) = (&bound, org)
        && bound != org
    {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("org {bound:?} is bound, and the paths of org {org:?} are not its to repair"),
        )
        .hint("Leave the org out to repair the bound one's, or repair in a transaction that is not bound.")
        .raise()
    }
    let only = org.map(str::to_owned).or(bound);
    let orgs = match &only {
        Some(org) => vec![org.clone()],
        None => orgs(&tree),
    };
    let mut repaired = 0;
    for org in &orgs {
        locks::take(tree.table.oid, Some(org), Work::Move);
        repaired += role::as_table_owner_confined(tree.table.owner, || {
            maintain::rewrite(tree.table.oid, || {
                plans::run::<1>(&tree.sql.repair(), vec![Arg::Text(org)])
                    .into_iter()
                    .next()
                    .and_then(|[count]| count?.parse::<i64>().ok())
                    .unwrap_or(0)
            })
        });
    }
    let (mut cycles, mut orphans) = (0, 0);
    for org in &orgs {
        let kinds = role::past_row_security_of(tree.table.owner, || {
            rows(&problems_sql(&tree, true), &[org.clone().into()], |row| catalog::text(row, 3))
        });
        cycles += kinds.iter().filter(|k| *k == "cycle").count() as i64;
        orphans += kinds.iter().filter(|k| *k == "orphan").count() as i64;
    }
    TableIterator::once((repaired, cycles, orphans))
}

/// The orgs that have nodes, by hopping through the index from one to the next.
pub fn orgs(tree: &Tree) -> Vec<String> {
    let (org, table) = (&tree.sql.org, &tree.sql.table);
    let sql = format!(
        "WITH RECURSIVE o(org) AS (
             (SELECT {org} FROM {table} ORDER BY {org} LIMIT 1)
             UNION ALL
             SELECT (SELECT t.{org} FROM {table} t WHERE t.{org} > o.org ORDER BY t.{org} LIMIT 1)
               FROM o WHERE o.org IS NOT NULL)
         SELECT org::text FROM o WHERE org IS NOT NULL"
    );
    role::past_row_security_of(tree.table.owner, || rows(&sql, &[], |row| catalog::text(row, 1)))
}

/// The orgs of a tree, for jobs that go org by org. For whoever owns the table.
#[pg_extern(sql = false)]
fn tree_orgs(table: pg_sys::Oid) -> SetOfIterator<'static, String> {
    let tree = Tree::get(table);
    tree.table.expect_owner();
    SetOfIterator::new(orgs(&tree))
}

/// For `touch_updated_at`: is the row being written by path maintenance alone?
#[pg_extern(sql = false)]
fn is_rewriting_paths() -> bool {
    maintain::is_rewriting()
}
