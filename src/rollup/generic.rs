//! Rolling up a measure of the user's over a tree of his.

use super::{Request, roll};
use crate::catalog::{literal, opt_text, rows};
use crate::error::Refusal;
use crate::pg::rows::{Reader, Store, reading};
use crate::pg::{session, settings};
use crate::tree::attach::Tree;
use crate::tree::deferred;
use crate::tree::links::{LinkSql, Links};
use crate::tree::preview::as_key;
use pgrx::prelude::*;

/// Answers `rollup`.
pub fn rollup(store: &Store, table: pg_sys::Oid, facts: &str, mode: &str, top: Option<&str>) {
    let tree = Tree::get(table);
    let Some(org) = session::org() else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "a rollup is of one org, and none is bound",
        )
        .hint("Bind one first: BEGIN; SELECT crm_tree.bind_org('<org>'); … COMMIT;")
        .raise()
    };
    let top = top.map(|top| as_key(&tree, top));
    let top = top.as_deref();
    let s = &tree.sql;
    let in_org = |alias: &str, column: &str| {
        format!("{alias}.{column} OPERATOR(pg_catalog.=) {}::{}", literal(&org), s.org_type)
    };
    let linked = Links::of(table)
        .filter(|links| links.tree == table)
        .inspect(Links::refuse_other_columns)
        .map(|links| links.sql());
    let percent = |alias: &str, column: Option<&String>| match column {
        // By its text, which says all of a binary fraction.
        Some(column) => format!("coalesce({alias}.{column}::pg_catalog.text::pg_catalog.numeric, 0)"),
        None => "100::pg_catalog.numeric".to_owned(),
    };
    let nodes = format!(
        "SELECT t.{id}::pg_catalog.text, t.{parent}::pg_catalog.text, NULL::pg_catalog.text, t.{depth}, {share}, f.amount
           FROM {table} t LEFT JOIN (
                SELECT q.id::pg_catalog.text AS id, pg_catalog.sum(q.amount::pg_catalog.numeric) AS amount FROM (
{facts}
                ) q(id, amount) GROUP BY 1) f ON f.id OPERATOR(pg_catalog.=) t.{id}::pg_catalog.text
          WHERE {in_org}",
        id = s.id,
        parent = s.parent,
        depth = s.depth,
        share = percent("t", linked.as_ref().and_then(|links| links.tree_pct.as_ref())),
        table = s.table,
        in_org = in_org("t", &s.org),
    );
    let links = linked.as_ref().map(|LinkSql { links, parent, child, pct, org, .. }| {
        format!(
            "SELECT l.{parent}::pg_catalog.text, l.{child}::pg_catalog.text, {share}, p.{path}::pg_catalog.text, c.{path}::pg_catalog.text FROM {links} l
               JOIN {table} p ON {of_p} AND p.{id} OPERATOR(pg_catalog.=) l.{parent}
               JOIN {table} c ON {of_c} AND c.{id} OPERATOR(pg_catalog.=) l.{child}
              WHERE {of_l}",
            share = percent("l", pct.as_ref()),
            path = s.path,
            table = s.table,
            id = s.id,
            of_p = in_org("p", &s.org),
            of_c = in_org("c", &s.org),
            of_l = in_org("l", org),
        )
    });
    let unset = !rows(
        &format!(
            "SELECT 1 FROM {} t WHERE {} AND t.{} IS NULL LIMIT 1",
            s.table,
            in_org("t", &s.org),
            s.path
        ),
        &[],
        |_| (),
    )
    .is_empty();
    let top_path = top.and_then(|top| {
        let sql = format!(
            "SELECT t.{}::pg_catalog.text FROM {} t WHERE {} AND t.{} OPERATOR(pg_catalog.=) $1::{}",
            s.path,
            s.table,
            in_org("t", &s.org),
            s.id,
            s.id_type
        );
        rows(&sql, &[top.into()], |row| opt_text(row, 1)).pop().flatten()
    });
    let request = Request {
        nodes: &nodes,
        links: links.as_deref(),
        path: &format!("t.{}", s.path),
        top,
        top_path: top_path.as_deref(),
        day: None,
        mode,
        stale: unset || deferred::reads_links(table, &org),
        only_top: false,
    };
    let answer = |reader: &Reader<'_>| {
        let source = std::cell::Cell::new(None);
        roll(
            reader,
            &request,
            |from| {
                source.set(Some(reader.make_text(from)));
            },
            |row| {
                store.put([
                    Some(row.id),
                    row.parent,
                    row.depth,
                    Some(row.own),
                    Some(row.total),
                    Some(reader.make_int(row.nodes - 1)),
                    Some(reader.make_int(row.duplicates)),
                    Some(row.unallocated),
                    Some(reader.make_int(row.missing)),
                    source.get(),
                ]);
            },
        );
    };
    settings::in_whole_fractions(|| reading(answer));
}
