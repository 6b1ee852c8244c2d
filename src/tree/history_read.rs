//! Reading a tree as it was: along the edges that stood at a moment, as the caller, behind his wall.

#![expect(clippy::type_complexity, reason = "pgrx reads the columns from the signatures")]

use super::attach::Tree;
use super::history_table;
use crate::catalog::{self, literal, rows};
use crate::error::Refusal;
use crate::pg::session;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

type Node = (String, Option<String>, Option<String>, Option<i32>);

/// Levels walked at most: no tree may be deeper. Edges written with the triggers off can turn in a circle.
const MAX_LEVELS: i32 = 1000;

/// The history of a tree, and the conditions of its queries: `$1` org, `$2` id, `$3` the moment.
struct Past {
    history: String,
    org_type: String,
    id_type: String,
}

impl Past {
    fn of(table: pg_sys::Oid) -> Past {
        let tree = Tree::get(table);
        let Some(history) = history_table::of(&tree) else {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{} keeps no history", tree.table.shown()),
            )
            .hint(format!(
                "From now on it does after: SELECT crm_tree.attach_tree({}, id => …, parent => …, history => true);",
                literal(&tree.table.sql())
            ))
            .raise()
        };
        Past { history: history.table, org_type: tree.sql.org_type, id_type: tree.sql.id_type }
    }

    /// `alias` is a row of the org that stood at the moment.
    fn stood(&self, alias: &str) -> String {
        format!(
            "{alias}.org = $1::{} AND {alias}.valid_from <= $3 AND ({alias}.valid_to > $3 OR {alias}.valid_to IS NULL)",
            self.org_type
        )
    }

    /// The node and those above it, nearest first.
    fn up(&self) -> String {
        format!(
            "up(id, parent, level) AS (
                 SELECT h.id, h.parent, 0 FROM {history} h WHERE {stood} AND h.id = $2::{id_type}
                 UNION ALL
                 SELECT h.id, h.parent, up.level + 1 FROM up JOIN {history} h ON {stood} AND h.id = up.parent
                  WHERE up.level < {MAX_LEVELS})",
            history = self.history,
            stood = self.stood("h"),
            id_type = self.id_type
        )
    }

    /// The orgs that have a node with this id: the bound one, or in an unbound session all that the
    /// caller may read.
    fn orgs(&self, id: &str) -> Vec<String> {
        session::org().map_or_else(
            || {
                let sql = format!(
                    "SELECT DISTINCT h.org::text FROM {} h WHERE h.id = $1::{} ORDER BY 1",
                    self.history, self.id_type
                );
                rows(&sql, &[id.into()], |row| catalog::text(row, 1))
            },
            |org| vec![org],
        )
    }

    fn read(&self, sql: &str, id: &str, at: TimestampWithTimeZone) -> Vec<Node> {
        self.orgs(id)
            .into_iter()
            .flat_map(|org| {
                rows(sql, &[org.into(), id.into(), at.into()], |row| {
                    let depth = catalog::opt_text(row, 4).and_then(|d| d.parse().ok());
                    (catalog::text(row, 1), catalog::opt_text(row, 2), catalog::opt_text(row, 3), depth)
                })
            })
            .collect()
    }
}

#[pg_extern(sql = false)]
fn subtree_as_of(
    table: pg_sys::Oid,
    id: &str,
    at: TimestampWithTimeZone,
) -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(parent, Option<String>),
        name!(path, Option<String>),
        name!(depth, Option<i32>),
    ),
> {
    let past = Past::of(table);
    let sql = format!(
        "WITH RECURSIVE {up},
         top AS (SELECT '/' || string_agg(id::text, '/' ORDER BY level DESC) || '/' AS path, max(level) AS depth FROM up),
         down(id, parent, path, depth) AS (
             SELECT up.id, up.parent, top.path, top.depth FROM up, top WHERE up.level = 0
             UNION ALL
             SELECT h.id, h.parent, d.path || h.id::text || '/', d.depth + 1
               FROM down d JOIN {history} h ON {stood} AND h.parent = d.id WHERE d.depth < {MAX_LEVELS})
         SELECT id::text, parent::text, path, depth::text FROM down ORDER BY path COLLATE \"C\"",
        up = past.up(),
        history = past.history,
        stood = past.stood("h"),
    );
    TableIterator::new(past.read(&sql, id, at))
}

#[pg_extern(sql = false)]
fn ancestors_as_of(
    table: pg_sys::Oid,
    id: &str,
    at: TimestampWithTimeZone,
) -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(parent, Option<String>),
        name!(path, Option<String>),
        name!(depth, Option<i32>),
    ),
> {
    let past = Past::of(table);
    let sql = format!(
        "WITH RECURSIVE {up}
         SELECT id::text, parent::text, '/' || string_agg(id::text, '/') OVER (ORDER BY level DESC) || '/',
                (row_number() OVER (ORDER BY level DESC) - 1)::text
           FROM up WHERE level > 0 ORDER BY level DESC",
        up = past.up(),
    );
    TableIterator::new(past.read(&sql, id, at))
}
