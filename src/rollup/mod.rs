//! Rollups: the totals of every node of a tree in one pass.

mod totals;

use crate::error::Refusal;
use pgrx::datum::{AnyNumeric, Date, Uuid};
use pgrx::prelude::*;

struct Node {
    id: Uuid,
    parent: Option<Uuid>,
    name: Option<String>,
    depth: Option<i32>,
    own: AnyNumeric,
}

type Row = (
    Option<Uuid>,
    Option<Uuid>,
    Option<String>,
    Option<i32>,
    Option<AnyNumeric>,
    Option<AnyNumeric>,
    Option<i64>,
);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn subtree_totals(
    query: &str,
    lo: Option<&str>,
    hi: Option<&str>,
    day: Option<Date>,
) -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(parent, Option<Uuid>),
        name!(name, Option<String>),
        name!(depth, Option<i32>),
        name!(own, Option<AnyNumeric>),
        name!(total, Option<AnyNumeric>),
        name!(descendants, Option<i64>),
    ),
> {
    let nodes = read(query, lo, hi, day);
    let edges = nodes.iter().map(|n| (n.id, n.parent));
    let parents = totals::parents_in_path_order(edges).unwrap_or_else(|totals::Misplaced(at)| {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("node {} does not stand behind its parent in path order", nodes[at].id),
        )
        .detail("The stored paths do not agree with the parent links.")
        .hint("See what is wrong with SELECT * FROM crm_tree.check_tree('crm.account'), mend it with SELECT * FROM crm_tree.repair_tree('crm.account').")
        .raise()
    });
    let own: Vec<AnyNumeric> = nodes.iter().map(|n| n.own.clone()).collect();
    let sums = totals::totals(&parents, own, |sum, below| *sum += below.clone());
    TableIterator::new(nodes.into_iter().zip(sums).map(|(node, sum)| -> Row {
        (
            Some(node.id),
            node.parent,
            node.name,
            node.depth,
            Some(node.own),
            Some(sum.total),
            Some(sum.descendants as i64),
        )
    }))
}

/// Runs the query as the caller; whatever wall stands before him stands before it.
fn read(query: &str, lo: Option<&str>, hi: Option<&str>, day: Option<Date>) -> Vec<Node> {
    Spi::connect(|client| -> spi::Result<Vec<Node>> {
        let rows = client.select(query, None, &[lo.into(), hi.into(), day.into()])?;
        let zero = AnyNumeric::from(0);
        let mut nodes = Vec::with_capacity(rows.len());
        for row in rows {
            nodes.push(Node {
                id: row.get(1)?.ok_or(spi::Error::InvalidPosition)?,
                parent: row.get(2)?,
                name: row.get(3)?,
                depth: row.get(4)?,
                own: row.get(5)?.unwrap_or_else(|| zero.clone()),
            });
        }
        Ok(nodes)
    })
    .unwrap_or_else(|e| error!("{e}"))
}
