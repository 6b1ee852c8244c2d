//! Finding what is wrong in a tree, and putting right what the links decide.

use super::attach::{self, Tree, expected_triggers, in_partitions};
use super::links::{Links, OTHER_COLUMNS};
use super::locks::{self, Work};
use super::shape::OnDelete;
use super::{deferred, history_table, maintain};
use crate::catalog::{self, Table, rows};
use crate::error::Refusal;
use crate::pg::spi::{self as plans, Arg};
use crate::pg::{orgs as in_storage, role, session, settings, stale};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use std::collections::BTreeSet;

type Problem = (Option<String>, Option<String>, String, String);

/// Every edge is compared with its parent's row alone, which finds every wrong path: a tree in which
/// each path is its parent's and one more id has no cycle, because paths grow. So cycles are looked
/// for only among the rows that failed, and only those are kept. An orphan fails too: there is no path
/// above it to begin with. The planner takes `CASE … = 1` for a few rows, as they mostly are, and so can
/// let workers compare.
fn problems_sql(tree: &Tree, bound: bool) -> String {
    let s = &tree.sql;
    let only = if bound { format!("WHERE {}", s.in_org("c")) } else { String::new() };
    format!(
        "WITH RECURSIVE suspect AS MATERIALIZED (
             SELECT * FROM (
                 SELECT c.{org} AS org, c.{id} AS id, c.{parent} AS parent, c.{path} AS path, c.{depth} AS depth, {is_fit} AS is_fit,
                        c.{parent} IS NOT NULL AND p.{id} IS NULL AS orphan,
                        CASE WHEN c.{parent} IS NULL THEN '/' ELSE p.{path} END || c.{id}::text || '/' AS true_path,
                        CASE WHEN c.{parent} IS NULL THEN 0 ELSE p.{depth} + 1 END AS true_depth
                   FROM {table} c LEFT JOIN {table} p ON p.{org} = c.{org} AND p.{id} = c.{parent} {only}) edge
              WHERE CASE WHEN path = true_path AND depth = true_depth AND depth <= {max} AND is_fit THEN 0 ELSE 1 END = 1),
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
            AND (s.org, s.id) NOT IN (SELECT t.org, t.id FROM turning t)
         UNION ALL
         SELECT org::text, id::text, 'wrong_depth', 'is ' || coalesce(depth::text, 'unset') || ', the parent''s depth says ' || coalesce(true_depth::text, 'unset')
           FROM suspect s WHERE NOT orphan AND (depth IS NULL OR depth IS DISTINCT FROM true_depth)
            AND (s.org, s.id) NOT IN (SELECT t.org, t.id FROM turning t)
         UNION ALL
         SELECT org::text, id::text, 'too_deep', 'at depth ' || depth || ' where the tree goes down to {max}' FROM suspect WHERE depth > {max}
         UNION ALL
         SELECT org::text, id::text, 'bad_id', 'contains \"/\" or is empty, which no path can hold' FROM suspect WHERE NOT is_fit",
        org = s.org,
        id = s.id,
        parent = s.parent,
        path = s.path,
        depth = s.depth,
        table = s.table,
        max = s.max_depth,
        is_fit = s.is_fit("c"),
    )
}

/// The tree's problems, those of its second parents, and its history's where it keeps one. Of the org
/// `$1`, or of all.
fn all_problems_sql(tree: &Tree, bound: bool) -> String {
    let mut sql = problems_sql(tree, bound);
    // Who may not read the links is told of the tree alone.
    let is_readable = |links: &Links| role::may_read(links.links) && !links.has_other_columns();
    if let Some(links) = Links::of(tree.table.oid).filter(is_readable) {
        sql.push_str(" UNION ALL SELECT l.org, l.id, l.problem, l.detail FROM (");
        sql.push_str(&links.sql().problems(bound));
        sql.push_str(") l(org, id, problem, detail)");
    }
    if let Some(history) = history_table::of(tree) {
        sql.push_str(" UNION ALL SELECT d.org, d.id, 'stale_history', d.detail FROM (");
        sql.push_str(&history.disagreements_sql(bound));
        sql.push_str(") d");
    }
    sql
}

const OF_LINKS: &str = "second parents' ";

/// A trigger is missing where it is not there or does not fire in an ordinary session. Partitions have
/// row triggers of their own, and can have them disabled on their own.
fn missing_triggers(tree: &Tree) -> Vec<Problem> {
    let mode = on_delete(tree);
    let history = history_table::table(tree);
    let expected = expected_triggers(mode, history.is_some());
    let in_partitions: Vec<&str> = expected.iter().copied().filter(|name| in_partitions(name)).collect();
    let of_partitions = tree.table.descendants();
    let of_history = history.iter().map(|table| (table, vec![history_table::GUARD], "the history's "));
    let links = Links::of(tree.table.oid);
    let of_links: Vec<(Table, Vec<&str>)> = links
        .iter()
        .flat_map(Links::expected_triggers)
        .map(|(relation, names)| (Table::get(relation), names))
        .collect();
    let of_links = of_links.iter().map(|(table, names)| (table, names.clone(), OF_LINKS));
    std::iter::once((&tree.table, expected, ""))
        .chain(of_links)
        .chain(of_partitions.iter().map(|table| (table, in_partitions.clone(), "the partition's ")))
        .chain(of_history)
        .flat_map(|(table, names, whose)| {
            let there = firing_triggers(table);
            names.into_iter().filter(move |name| !there.iter().any(|t| t == name)).map(move |name| {
                let of = if whose.is_empty() { String::new() } else { format!(" of {}", table.shown()) };
                let again = if whose == OF_LINKS { "attach_links" } else { "attach_tree" };
                let detail =
                    format!("{whose}trigger \"{name}\"{of} is missing or disabled; run {again}() again");
                (None, None, "trigger_missing".to_owned(), detail)
            })
        })
        .collect()
}

/// Without their foreign keys a node is deleted, and its second parents and children keep their edges. Whoever changes
/// the names of their columns among each other makes children of parents.
fn faults_of_links(tree: &Tree) -> Vec<Problem> {
    let Some(links) = Links::of(tree.table.oid) else { return Vec::new() };
    let shown = Table::get(links.links).shown();
    let of_keys = links.ends_without_key().map(|end| {
        let detail =
            format!("the foreign key ({}, {end}) of the second parents in {shown} is missing", links.org);
        ("key_missing", detail)
    });
    let of_columns = links
        .has_other_columns()
        .then(|| ("links_misread", format!("second parents in {shown} {OTHER_COLUMNS}")));
    of_keys
        .chain(of_columns)
        .map(|(problem, detail)| {
            (None, None, problem.to_owned(), format!("{detail}; run attach_links() again"))
        })
        .collect()
}

/// Whoever drops a partition of a tree with CASCADE drops this key of all of it, and no delete in any org
/// does what `on_delete` says any more.
fn missing_key(tree: &Tree) -> Option<Problem> {
    let c = &tree.columns;
    let mode = on_delete(tree);
    let keys = attach::parent_keys(&tree.table, c);
    let what = match keys.iter().filter(|(_, does)| !mode.is_done_by(does)).count() {
        0 if keys.is_empty() => "is missing",
        0 => return None,
        _ => "does on delete what on_delete does not say, or is not checked",
    };
    let detail = format!("the foreign key ({}, {}) {what}; run attach_tree() again", c.org, c.parent);
    Some((None, None, "key_missing".to_owned(), detail))
}

fn on_delete(tree: &Tree) -> OnDelete {
    let mode = rows(
        "SELECT on_delete FROM crm_tree._trees() WHERE relation = $1",
        &[tree.table.oid.into()],
        |row| catalog::text(row, 1),
    );
    mode.first().and_then(|m| OnDelete::parse(m)).unwrap_or(OnDelete::Restrict)
}

fn firing_triggers(table: &Table) -> Vec<String> {
    rows(
        "SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgenabled IN ('O', 'A')",
        &[table.oid.into()],
        |row| catalog::text(row, 1),
    )
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
    found.extend(missing_key(&tree));
    found.extend(faults_of_links(&tree));
    let bound = session::org();
    let read = |row: &spi::SpiHeapTupleData| {
        (catalog::opt_text(row, 1), catalog::opt_text(row, 2), catalog::text(row, 3), catalog::text(row, 4))
    };
    let sql = all_problems_sql(&tree, bound.is_some());
    let look = || {
        settings::without_jit(|| {
            settings::in_whole_fractions(|| match bound {
                Some(org) => rows(&sql, &[org.into()], read),
                None => rows(&sql, &[], read),
            })
        })
    };
    // What is wrong with a tree is no row of it: the guard lets superusers look, at all of it. Not with
    // their own rights: functions of the table's owner stand in its indexes.
    found.extend(if role::is_superuser(role::current()) {
        role::past_row_security_of(tree.table.owner, look)
    } else {
        look()
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
    let org = org.map(|org| as_stored(&tree, org));
    if let (Some(bound), Some(org)) = (&bound, &org)
        && bound != org
    {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("org {bound:?} is bound, and the paths of org {org:?} are not its to repair"),
        )
        .hint("Leave the org out to repair the bound one's, or repair in a transaction that is not bound.")
        .raise()
    }
    let only = org.or(bound);
    let orgs = match &only {
        Some(org) => vec![org.clone()],
        None => match history_table::of(&tree) {
            Some(history) => with_flagged(&tree, history_table::orgs(&history)),
            None => orgs(&tree),
        },
    };
    let missing = missing_triggers(&tree).len();
    if missing > 0 {
        log(&tree, only.as_deref(), "trigger_missing", missing as i64, None);
    }
    if missing_key(&tree).is_some() {
        log(&tree, only.as_deref(), "key_missing", 1, None);
    }
    let (mut repaired, mut cycles, mut orphans) = (0, 0, 0);
    for org in &orgs {
        // Nobody waits for a look that finds nothing.
        let tree_org = (tree.table.oid, org.clone());
        if !stale::is_flagged(tree.table.oid, org, stale::Seen::Now) && drift(&tree, org).is_empty() {
            continue;
        }
        locks::take(tree.table.oid, Some(org), Work::Move);
        let was_deferred = deferred::is_flagged(&tree_org);
        // What was left behind on purpose is no drift; what is still there when it has been mended is.
        let before = if was_deferred { Vec::new() } else { drift(&tree, org) };
        role::writing_as_table_owner_confined(tree.table.owner, || {
            maintain::until_quiet((&tree.table.schema, &tree.table.name), || {
                let written = maintain::rewrite(tree.table.oid, || {
                    plans::write::<1>(&tree.sql.repair(), vec![Arg::Text(org)])
                });
                let [count] = written.into_iter().next().unwrap_or_default();
                repaired += count.and_then(|count| count.parse::<i64>().ok()).unwrap_or(0);
            })
        });
        let found = if was_deferred { drift(&tree, org) } else { before };
        for (kind, count, example) in &found {
            log(&tree, Some(org), kind, *count, Some(example));
            match kind.as_str() {
                "cycle" => cycles += count,
                "orphan" => orphans += count,
                _ => {}
            }
        }
        if let Some(history) = history_table::of(&tree) {
            role::as_table_owner_confined(tree.table.owner, || history.agree(org, None));
        }
        let is_of_paths =
            |kind: &str| !["stale_history", "link_cycle", "ownership", "too_deep"].contains(&kind);
        if was_deferred && !found.iter().any(|(kind, ..)| is_of_paths(kind)) {
            deferred::clear(&tree_org);
        }
    }
    TableIterator::once((repaired, cycles, orphans))
}

/// What is wrong in an org now: kind, how many nodes, one of them.
fn drift(tree: &Tree, org: &str) -> Vec<(String, i64, String)> {
    let sql = format!(
        "SELECT p.problem, count(*)::text, min(p.id) FROM ({}) AS p(org, id, problem, detail) GROUP BY 1 ORDER BY 1",
        all_problems_sql(tree, true)
    );
    role::as_table_owner_confined(tree.table.owner, || plans::read::<3>(&sql, vec![Arg::Text(org)]))
        .into_iter()
        .filter_map(|[kind, count, example]| Some((kind?, count?.parse().ok()?, example?)))
        .collect()
}

fn log(tree: &Tree, org: Option<&str>, kind: &str, count: i64, example: Option<&str>) {
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO crm_tree._tree_event (relation, org, kind, count, example)
             VALUES ($1::pg_catalog.regclass, $2, $3, $4, $5)",
            &[tree.table.oid.into(), org.into(), kind.into(), count.into(), example.into()],
        )
    })
    .unwrap_or_else(|e| error!("{e}"));
}

/// An org as the tree's column writes it.
fn as_stored(tree: &Tree, org: &str) -> String {
    let sql = format!("SELECT $1::{}::text", tree.sql.org_type);
    plans::read::<1>(&sql, vec![Arg::Text(org)]).into_iter().next().and_then(|[org]| org).unwrap_or_default()
}

/// And the flagged ones: one may have lost all its nodes.
fn with_flagged(tree: &Tree, mut orgs: Vec<String>) -> Vec<String> {
    let flagged = stale::flagged_orgs(tree.table.oid, stale::Seen::Now);
    let missing: Vec<String> = flagged.into_iter().filter(|org| !orgs.contains(org)).collect();
    orgs.extend(missing);
    orgs
}

/// The orgs that have nodes, and the flagged ones. Those that have them in foreign partitions alone are
/// not found.
pub fn orgs(tree: &Tree) -> Vec<String> {
    let tables = std::iter::once(tree.table.clone()).chain(tree.table.descendants());
    let found: BTreeSet<String> =
        tables.flat_map(|table| in_storage::of(table.oid, &tree.columns.org)).collect();
    with_flagged(tree, found.into_iter().collect())
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
