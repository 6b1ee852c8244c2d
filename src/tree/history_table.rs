//! The table that keeps the history of a tree: made, recognised, filled, let go.

use super::attach::Tree;
use super::history::History;
use super::shape::Sql;
use crate::catalog::{Table, ddl, ident, literal, rows};
use crate::error::Refusal;
use crate::pg::role;
use crate::tenant::wall;
use pgrx::prelude::*;

/// Triggers on the tree that only a history needs. The BEFORE ROW one comes behind the user's: what those
/// write to the tree would take the note of a row that still stands.
pub const ON_TREE: [&str; 5] = [
    TRUNCATE,
    "zz_crm_tree_note_delete",
    "A_crm_tree_record_insert",
    "A_crm_tree_record_update",
    "A_crm_tree_record_delete",
];

/// The one that refuses TRUNCATE of the tree.
pub const TRUNCATE: &str = "crm_tree_history_truncate";

/// The trigger on the history table that refuses whoever is not the tree.
pub const GUARD: &str = "crm_tree_history_guard";

/// A name is cut behind this many bytes, and then may be another table's.
const MAX_NAME: usize = 63;

const COLUMNS: [&str; 7] = ["org", "id", "parent", "valid_from", "valid_to", "prev_to", "changed_by"];

/// Makes `<table>_history`, or takes the one that is there from before: where the tree keeps one, that, whatever
/// it and the tree are called now.
pub fn ensure(tree: &Table, sql: &Sql) -> Table {
    let kept = kept_by(tree.oid);
    let name = format!("{}_history", tree.name);
    if kept.is_none() && name.len() > MAX_NAME {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
            format!("\"{name}\" is too long for the name of a table"),
        )
        .hint(format!("A tree with history has a name of at most {} bytes.", MAX_NAME - "_history".len()))
        .raise()
    }
    let table = kept.or_else(|| find(&tree.schema, &name)).unwrap_or_else(|| {
        let shown = format!("{}.{}", ident(&tree.schema), ident(&name));
        create(&shown, &ident(&name), sql);
        let made = find(&tree.schema, &name).unwrap_or_else(|| error!("no table {shown}"));
        if made.owner != tree.owner {
            let owner = role::name(tree.owner).unwrap_or_default();
            ddl(&format!("ALTER TABLE {shown} OWNER TO {}", ident(&owner)));
        }
        Table { owner: tree.owner, ..made }
    });
    refuse_stranger(&table, tree);
    ddl(&format!("ALTER TABLE {} ENABLE TRIGGER {GUARD}", table.sql()));
    table
}

fn find(schema: &str, name: &str) -> Option<Table> {
    rows(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::name AND c.relname = $2::name",
        &[schema.into(), name.into()],
        relation_of,
    )
    .pop()
    .map(Table::get)
}

/// One of another owner's comes with triggers of his, which would be this one's; that of another tree has
/// other edges.
fn refuse_stranger(table: &Table, tree: &Table) {
    let owner = tree.owner;
    if table.owner != owner {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("{} is there already, and does not belong to the owner of the tree", table.shown()),
        )
        .hint(format!(
            "Rename it, or look at its triggers and then ALTER TABLE {} OWNER TO {};",
            table.sql(),
            ident(&role::name(owner).unwrap_or_default())
        ))
        .table(&table.schema, &table.name)
        .raise()
    }
    if COLUMNS.iter().any(|name| table.column(name).is_none()) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("{} is there already, and is no history of a tree", table.shown()),
        )
        .hint("Rename it; the history takes the name of the tree's table and \"_history\".")
        .table(&table.schema, &table.name)
        .raise()
    }
    let others = rows(
        "SELECT t.relation FROM crm_tree._trees() t JOIN pg_catalog.pg_class c ON c.oid = t.relation
          WHERE t.history = $1 AND t.relation <> $2",
        &[table.oid.into(), tree.oid.into()],
        relation_of,
    );
    if let Some(other) = others.first() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!(
                "{} is there already, and is the history of {}",
                table.shown(),
                Table::get(*other).shown()
            ),
        )
        .hint(format!(
            "Rename it: ALTER TABLE {} RENAME TO …; that tree keeps it under the new name.",
            table.sql()
        ))
        .table(&table.schema, &table.name)
        .raise()
    }
}

/// What the table may hold is said by constraints. Of one node: one row at most is open and no two end
/// at one moment; every row but the first names the end of one before it (the chain), starts then or
/// later, and no two name the same. So its rows stand one behind the other and do not overlap. A row
/// that starts later than the one before it ended is a node that was deleted and made again.
fn create(table: &str, name: &str, sql: &Sql) {
    // By query, for the types with their modifiers and collations.
    ddl(&format!(
        "CREATE TABLE {table} AS
         SELECT t.{} AS org, t.{} AS id, t.{} AS parent, NULL::timestamptz AS valid_from, NULL::timestamptz AS valid_to,
                NULL::timestamptz AS prev_to, NULL::text AS changed_by FROM {} t WITH NO DATA",
        sql.org, sql.id, sql.parent, sql.table
    ));
    ddl(&format!(
        "ALTER TABLE {table}
             ALTER COLUMN org SET NOT NULL, ALTER COLUMN id SET NOT NULL, ALTER COLUMN valid_from SET NOT NULL,
             ALTER COLUMN changed_by SET NOT NULL,
             ADD CONSTRAINT history_is_a_time CHECK (valid_from < valid_to),
             ADD CONSTRAINT history_is_in_order CHECK (prev_to <= valid_from),
             ADD UNIQUE NULLS NOT DISTINCT (org, id, valid_to),
             ADD UNIQUE NULLS NOT DISTINCT (org, id, prev_to)"
    ));
    ddl(&format!(
        "ALTER TABLE {table} ADD CONSTRAINT history_is_a_chain
             FOREIGN KEY (org, id, prev_to) REFERENCES {table} (org, id, valid_to)"
    ));
    ddl(&format!("CREATE INDEX ON {table} (org, parent, valid_from)"));
    // With the id: all that a statement changed shares its moment, and a probe of the key planned
    // without statistics takes whichever index fits.
    ddl(&format!("CREATE INDEX ON {table} (org, valid_from, id)"));
    ddl(&format!("CREATE INDEX ON {table} (org, valid_to, id) WHERE valid_to IS NOT NULL"));
    // It has no primary key, and is updated.
    ddl(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL"));
    ddl(&format!(
        "CREATE TRIGGER {GUARD} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
         FOR EACH STATEMENT EXECUTE FUNCTION crm_tree._tree_history_guard()"
    ));
    for (column, comment) in [
        ("parent", "The parent in that time; null for a root."),
        ("valid_from", "From this moment on. One moment for all that a transaction changed in an org."),
        ("valid_to", "Until before this moment; null while the edge stands."),
        (
            "prev_to",
            "valid_to of the node''s row before this one: the same moment as valid_from, or an earlier one where the node was deleted and made again.",
        ),
        ("changed_by", "The bound user who made the edge, or the role that was logged in."),
    ] {
        ddl(&format!("COMMENT ON COLUMN {table}.{column} IS '{comment}'"));
    }
    ddl(&format!(
        "COMMENT ON TABLE {table} IS {}",
        literal(&format!("Kept by crm_tree: who was below whom in {name}, and when."))
    ));
}

/// Behind the wall if the tree is. A wall put up later brings its own: see the trigger on crm_tree.wall.
pub fn protect_as(tree: &Table, history: &Table) {
    if wall::column_of(tree.oid).is_some() && wall::column_of(history.oid).as_deref() != Some("org") {
        ddl(&format!("SELECT crm_tree.protect({}, 'org')", literal(&history.sql())));
    }
}

/// Opens rows for all that the tree has, and closes those of edges it has no more.
pub fn fill(tree: &Tree, history: &Table) {
    let kept = History {
        table: history.sql(),
        tree: tree.sql.clone(),
        root: tree.table.oid,
        owner: tree.table.owner,
    };
    for org in orgs(&kept) {
        kept.agree(&org, None);
    }
}

/// The orgs that have nodes, or had some that the history has still open.
pub fn orgs(history: &History) -> Vec<String> {
    let sql = format!(
        "SELECT org::text FROM (SELECT {} FROM {} UNION SELECT org FROM {} WHERE valid_to IS NULL) o(org)",
        history.tree.org, history.tree.table, history.table
    );
    role::as_table_owner_confined(history.owner, || crate::pg::spi::read::<1>(&sql, vec![]))
        .into_iter()
        .filter_map(|[org]| org)
        .collect()
}

/// The history's table of an attached tree, where it keeps one.
pub fn table(tree: &Tree) -> Option<Table> {
    kept_by(tree.table.oid)
}

fn kept_by(tree: pg_sys::Oid) -> Option<Table> {
    rows(
        "SELECT c.oid FROM crm_tree._trees() t JOIN pg_catalog.pg_class c ON c.oid = t.history WHERE t.relation = $1",
        &[tree.into()],
        relation_of,
    )
    .pop()
    .map(Table::get)
}

fn relation_of(row: &pgrx::spi::SpiHeapTupleData) -> pg_sys::Oid {
    row[1].value::<pg_sys::Oid>().ok().flatten().unwrap_or(pg_sys::Oid::INVALID)
}

/// The history of an attached tree, where it keeps one.
pub fn of(tree: &Tree) -> Option<History> {
    let table = super::history::table_of(tree.table.oid)?;
    Some(History { table, tree: tree.sql.clone(), root: tree.table.oid, owner: tree.table.owner })
}
