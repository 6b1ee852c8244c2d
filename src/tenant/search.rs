//! Full-text search behind the wall: the index for the leak-proof operator.

use super::wall;
use crate::catalog::{Table, ddl, ident, literal, rows};
use crate::error::Refusal;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn create_search_index(table: Oid, column: &str) -> Oid {
    let table = Table::get(table);
    table.expect_owner();
    let Some(org_column) = wall::column_of(table.oid) else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} is not protected", table.shown()),
        )
        .hint(format!("SELECT crm_tree.protect({});", literal(&table.sql())))
        .table(&table.schema, &table.name)
        .raise()
    };
    let words = table.expect_column(column);
    if words.type_name != "tsvector" {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{column}\" of {} is {}, not tsvector", table.shown(), words.type_name),
        )
        .hint(format!(
            "to_tsvector() is not leak-proof in a condition: store what it makes. ALTER TABLE {} ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('english', {})) STORED;",
            table.sql(),
            ident(column)
        ))
        .table(&table.schema, &table.name)
        .raise()
    }
    if let Some(index) = find(&table, column) {
        return index;
    }
    let org_type = table.expect_column(&org_column).type_name;
    let words = format!("{} crm_tree.tsvector_wall_ops", ident(column));
    let keys = if wall::org_is_compared_in_its_type(&org_type) {
        expect_btree_gin(&table, &org_type);
        format!("{}, {words}", ident(&org_column))
    } else {
        // The wall compares them as bigint, which GIN, unlike a btree, cannot look up.
        words
    };
    ddl(&format!("CREATE INDEX ON {} USING gin ({keys})", table.sql()));
    find(&table, column).expect("just made")
}

/// The valid index that has the column in our operator class. `unnest` of two arrays is syntax, and
/// cannot be qualified.
fn find(table: &Table, column: &str) -> Option<Oid> {
    rows(
        "SELECT i.indexrelid
           FROM pg_catalog.pg_index i, unnest(i.indkey::int2[], i.indclass::oid[]) AS k(attnum, class)
           JOIN pg_catalog.pg_attribute a ON a.attnum OPERATOR(pg_catalog.=) k.attnum
           JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) k.class
          WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND a.attrelid OPERATOR(pg_catalog.=) $1
            AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name
            AND o.opcname OPERATOR(pg_catalog.=) 'tsvector_wall_ops'
            AND o.opcnamespace OPERATOR(pg_catalog.=) 'crm_tree'::pg_catalog.regnamespace
            AND i.indisvalid AND i.indpred IS NULL
          ORDER BY 1",
        &[table.oid.into(), column.into()],
        |row| row[1].value::<Oid>().ok().flatten().unwrap_or(Oid::INVALID),
    )
    .pop()
}

/// GIN holds words; an org in the same index needs the operator classes of that extension.
fn expect_btree_gin(table: &Table, org_type: &str) {
    let present = rows(
        "SELECT 1 FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) o.opcmethod
          WHERE m.amname OPERATOR(pg_catalog.=) 'gin' AND o.opcdefault
            AND o.opcintype OPERATOR(pg_catalog.=) $1::pg_catalog.regtype",
        &[org_type.into()],
        |_| (),
    );
    if present.is_empty() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("an index of {} that leads with the org needs the extension btree_gin", table.shown()),
        )
        .detail("Without it, an index of the words alone works too, and reads the matches of all orgs.")
        .hint("CREATE EXTENSION btree_gin; on Debian it comes with the server.")
        .table(&table.schema, &table.name)
        .raise()
    }
}
