//! Making a table a tree, and letting it go.

use super::history_table::{self, TRUNCATE};
use super::shape::{self, Columns, OnDelete, Sql};
use crate::catalog::{self, Table, ddl, ident, literal, rows};
use crate::error::Refusal;
use crate::pg::role;
use crate::pg::spi as plans;
use crate::tenant::wall::{self, OrgType, expect_org_column};
use pgrx::prelude::*;

/// An attached tree, as the registry has it.
pub struct Tree {
    pub table: Table,
    pub columns: Columns,
    pub sql: Sql,
}

/// The triggers, and the statement that makes each. Names say when they fire among others of their
/// kind: `zz_` last of the BEFORE ROW, to see the row as it will be stored; `A_` before `RI_…`, so
/// that adoption and our own refusals come before the foreign key's.
const TRIGGERS: [&str; 9] = [
    "crm_tree_lock_insert",
    "crm_tree_lock_update",
    "crm_tree_lock_delete",
    "zz_crm_tree_place_insert",
    "zz_crm_tree_place_update",
    "zz_crm_tree_place_delete",
    "A_crm_tree_settle_insert",
    "A_crm_tree_settle_update",
    "A_crm_tree_adopt",
];

/// The triggers a tree of this kind must have, for `check_tree`.
pub fn expected_triggers(on_delete: OnDelete, history: bool) -> Vec<&'static str> {
    TRIGGERS
        .into_iter()
        .filter(|name| match *name {
            "A_crm_tree_adopt" => on_delete == OnDelete::Adopt,
            _ => true,
        })
        .chain(history_table::ON_TREE.into_iter().filter(|_| history))
        .collect()
}

/// Do partitions have this one too? Row triggers are cloned to them; a TRUNCATE that names a
/// partition meets only its own.
pub fn in_partitions(name: &str) -> bool {
    !name.starts_with("crm_tree_lock_")
}

#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn attach_tree(
    table: pg_sys::Oid,
    id: &str,
    parent: &str,
    org: &str,
    path: &str,
    depth: &str,
    max_depth: i32,
    on_delete: &str,
    history: bool,
) {
    let columns = Columns {
        org: org.to_owned(),
        id: id.to_owned(),
        parent: parent.to_owned(),
        path: path.to_owned(),
        depth: depth.to_owned(),
    };
    let Some(mode) = OnDelete::parse(on_delete) else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("on_delete is {on_delete:?}, which is none of restrict, adopt, rootify, cascade"),
        )
        .hint("restrict refuses to delete a node with children; adopt gives them to its parent; rootify makes them roots; cascade deletes them.")
        .raise()
    };
    if !(1..=1000).contains(&max_depth) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("max_depth is {max_depth}, and must be from 1 to 1000"),
        )
        .hint("A path holds 2,600 bytes: 70 levels of uuid ids, several hundred of short integers.")
        .raise()
    }
    wall::alone_with(table, |table| {
        refuse_partition(&table);
        refuse_rules(&table);
        wall::refuse_other_owner(&table, &table.descendants());
        let caller = role::current();
        // Whoever calls: what the table's owner attached to it must not run with more rights than his.
        role::as_table_owner_confined(table.owner, move || {
            attach(caller, table, columns, max_depth, on_delete, mode, history)
        });
    });
}

fn attach(
    caller: pg_sys::Oid,
    table: Table,
    columns: Columns,
    max_depth: i32,
    on_delete: &str,
    mode: OnDelete,
    history: bool,
) {
    let (org_column, _) = expect_org_column(&table, &columns.org);
    refuse_other_wall(&table, "a tree", "attach_tree", &columns.org);
    let id_type = expect_key_columns(&table, &columns);
    add_place_columns(&table, &columns);
    let sql = Sql::new(&table.sql(), &columns, &org_column.type_name, &id_type, max_depth);

    drop_triggers(&table);
    add_keys(caller, &table, &columns, mode);
    fill(caller, &table, &sql);
    // The range of a subtree answers with the ids too, so that a join with facts need not look at the
    // table. A text id could take more than the room that a path of 2,600 bytes leaves in an entry.
    let covered = match OrgType::of(&id_type) {
        Some(OrgType::Uuid | OrgType::Integer) => format!(" INCLUDE ({})", ident(&columns.id)),
        _ => String::new(),
    };
    for (second, include) in [(&columns.path, covered.as_str()), (&columns.parent, "")] {
        let first = &columns.org;
        if !has_index(&table, &[first, second], false) {
            let index =
                format!("CREATE INDEX ON {} ({}, {}){include}", table.sql(), ident(first), ident(second));
            role::as_caller(caller, || ddl(&index));
        }
    }
    create_triggers(&table, &columns, max_depth, on_delete, mode, history);
    let kept = history.then(|| role::as_caller(caller, || history_table::ensure(&table, &sql)));
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO crm_tree.tree AS t (relation, org_column, id_column, parent_column, path_column, depth_column, max_depth, on_delete, history)
             VALUES ($1::pg_catalog.regclass, $2, $3, $4, $5, $6, $7, $8, $9::pg_catalog.regclass)
             ON CONFLICT (relation) DO UPDATE SET org_column = excluded.org_column, id_column = excluded.id_column,
                 parent_column = excluded.parent_column, path_column = excluded.path_column,
                 depth_column = excluded.depth_column, max_depth = excluded.max_depth, on_delete = excluded.on_delete,
                 history = excluded.history",
            &[
                table.oid.into(),
                columns.org.as_str().into(),
                columns.id.as_str().into(),
                columns.parent.as_str().into(),
                columns.path.as_str().into(),
                columns.depth.as_str().into(),
                max_depth.into(),
                on_delete.into(),
                kept.as_ref().map(|history| history.oid).into(),
            ],
        )
    })
    .expect("the registry takes every tree");
    if let Some(kept) = kept {
        // One from before may be of other types.
        let _is_right = super::history::table_of(table.oid);
        history_table::protect_as(&table, &kept);
        history_table::fill(&Tree { table, columns, sql }, &kept);
    }
}

pub(super) fn refuse_partition(table: &Table) {
    let root = crate::pg::relation::partition_root(table.oid);
    if root != table.oid {
        let root = Table::get(root);
        Refusal::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("{} is a partition", table.shown()))
            .hint(format!("Attach the whole: SELECT crm_tree.attach_tree({}, …);", literal(&root.sql())))
            .raise()
    }
}

/// A rule would take part in what maintenance writes, or keep it from writing.
fn refuse_rules(table: &Table) {
    let rule = rows(
        "SELECT r.rulename::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = $1 ORDER BY 1 LIMIT 1",
        &[table.oid.into()],
        |row| catalog::text(row, 1),
    );
    if let Some(rule) = rule.first() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("{} has the rewrite rule \"{rule}\", which a tree cannot have", table.shown()),
        )
        .hint("Drop the rule; a trigger can do the same.")
        .table(&table.schema, &table.name)
        .raise()
    }
}

/// Maintenance goes past row security, org by org: the orgs have to be the wall's.
pub(super) fn refuse_other_wall(table: &Table, what: &str, function: &str, org: &str) {
    let Some(column) = wall::column_of(table.oid).filter(|column| column != org) else { return };
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{} is protected by \"{column}\" and cannot be {what} by \"{org}\"", table.shown()),
    )
    .hint(format!("SELECT crm_tree.{function}({}, …, org => {});", literal(&table.sql()), literal(&column)))
    .table(&table.schema, &table.name)
    .raise()
}

/// Checks the key columns and answers the type of the id.
fn expect_key_columns(table: &Table, c: &Columns) -> String {
    let id = table.expect_column(&c.id);
    let parent = table.expect_column(&c.parent);
    if OrgType::of(&id.type_name).is_none() || !id.deterministic {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column \"{}\" of {} is {}, which cannot be the id of a node",
                c.id,
                table.shown(),
                id.type_name
            ),
        )
        .hint("An id is uuid, bigint, integer, smallint, text or varchar, with a deterministic collation.")
        .raise()
    }
    if parent.type_name != id.type_name {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "the parent column \"{}\" of {} is {} where the id is {}",
                c.parent,
                table.shown(),
                parent.type_name,
                id.type_name
            ),
        )
        .hint("Give both the same type.")
        .raise()
    }
    if parent.not_null {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "the parent column \"{}\" of {} is NOT NULL, so no node could be a root",
                c.parent,
                table.shown()
            ),
        )
        .hint(format!(
            "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL; and null in the roots.",
            table.sql(),
            ident(&c.parent)
        ))
        .raise()
    }
    table.refuse_generated(&id);
    table.refuse_generated(&parent);
    for name in [&c.org, &c.id] {
        if !table.expect_column(name).not_null {
            ddl(&format!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", table.sql(), ident(name)));
        }
    }
    id.type_name
}

fn add_place_columns(table: &Table, c: &Columns) {
    match table.column(&c.path) {
        None => ddl(&format!("ALTER TABLE {} ADD COLUMN {} text COLLATE \"C\"", table.sql(), ident(&c.path))),
        Some(column) if column.type_name != "text" || !is_collate_c(table, &c.path) => Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{}\" of {} is not text COLLATE \"C\"", c.path, table.shown()),
        )
        .hint("Subtree ranges need byte order. Name another path column, or change the type.")
        .raise(),
        Some(column) if column.not_null => {
            ddl(&format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", table.sql(), ident(&c.path)));
        }
        Some(_) => {}
    }
    match table.column(&c.depth) {
        None => ddl(&format!("ALTER TABLE {} ADD COLUMN {} integer", table.sql(), ident(&c.depth))),
        Some(column) if column.type_name != "integer" => Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{}\" of {} is {}, not integer", c.depth, table.shown(), column.type_name),
        )
        .hint("Name another depth column, or change the type.")
        .raise(),
        Some(column) if column.not_null => {
            ddl(&format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", table.sql(), ident(&c.depth)));
        }
        Some(_) => {}
    }
}

fn is_collate_c(table: &Table, column: &str) -> bool {
    !rows(
        "SELECT 1 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
          WHERE a.attrelid = $1 AND a.attname = $2::name AND c.collname IN ('C', 'POSIX')",
        &[table.oid.into(), column.into()],
        |_| (),
    )
    .is_empty()
}

/// Is there an index whose first columns are these, in this order? Where `key`, a unique one on
/// just these, in any order.
pub fn has_index(table: &Table, columns: &[&str], key: bool) -> bool {
    let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    let condition = if key {
        "i.indisunique AND i.indimmediate AND i.indnkeyatts = cardinality($2)
         AND (SELECT array_agg(a ORDER BY a) FROM unnest(names) a) = (SELECT array_agg(a ORDER BY a) FROM unnest($2) a)"
    } else {
        "names[1:cardinality($2)] = $2"
    };
    !rows(
        &format!(
            "SELECT 1 FROM pg_catalog.pg_index i,
                    LATERAL (SELECT array_agg(a.attname::text ORDER BY k.n) AS names
                               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, n)
                               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
                              WHERE k.n <= i.indnkeyatts) AS n
              WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND {condition}"
        ),
        &[table.oid.into(), columns.into()],
        |_| (),
    )
    .is_empty()
}

/// The key (org, id), and the foreign key that keeps an edge inside its org.
fn add_keys(caller: pg_sys::Oid, table: &Table, c: &Columns, on_delete: OnDelete) {
    let (sql, org, id, parent) = (table.sql(), ident(&c.org), ident(&c.id), ident(&c.parent));
    if !has_index(table, &[&c.org, &c.id], true) {
        role::as_caller(caller, || ddl(&format!("ALTER TABLE {sql} ADD UNIQUE ({org}, {id})")));
    }
    let action = match on_delete {
        OnDelete::Restrict | OnDelete::Adopt => "NO ACTION".to_owned(),
        // Without the column list the org would be nulled too.
        OnDelete::Rootify => format!("SET NULL ({parent})"),
        OnDelete::Cascade => "CASCADE".to_owned(),
    };
    let keys = parent_keys(table, c);
    let right = keys.iter().position(|(_, does)| on_delete.is_done_by(does));
    // Another of the same edge would do on delete what is not asked for.
    for (_, (name, _)) in keys.iter().enumerate().filter(|(n, _)| Some(*n) != right) {
        ddl(&format!("ALTER TABLE {sql} DROP CONSTRAINT {}", ident(name)));
    }
    if right.is_some() {
        return;
    }
    let key = format!(
        "ALTER TABLE {sql} ADD FOREIGN KEY ({org}, {parent}) REFERENCES {sql} ({org}, {id}) ON DELETE {action}"
    );
    add_foreign_key(caller, table, &key);
}

/// The foreign keys of the edges: the name of each, and the letter of what it does on delete, `x` where that would
/// null the org, or where it is not checked as ours is.
pub fn parent_keys(table: &Table, c: &Columns) -> Vec<(String, String)> {
    rows(
        "SELECT k.conname::text, CASE WHEN k.confmatchtype = 's' AND k.convalidated
                                       AND (k.confdeltype <> 'n' OR k.confdelsetcols = ARRAY[k.conkey[array_position(k.ours, $3)]])
                                      THEN k.confdeltype::text ELSE 'x' END
           FROM (SELECT k.*, (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest(k.conkey) WITH ORDINALITY AS u(num, n)
                                JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = u.num) AS ours,
                        (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest(k.confkey) WITH ORDINALITY AS u(num, n)
                           JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = u.num) AS theirs
                   FROM pg_catalog.pg_constraint k
                  WHERE k.conrelid = $1 AND k.confrelid = $1 AND k.contype = 'f' AND k.conparentid = 0) AS k
          WHERE cardinality(k.ours) = 2 AND k.theirs[array_position(k.ours, $2)] = $2 AND k.theirs[array_position(k.ours, $3)] = $4
          ORDER BY k.conname",
        &[table.oid.into(), c.org.as_str().into(), c.parent.as_str().into(), c.id.as_str().into()],
        |row| (catalog::text(row, 1), catalog::text(row, 2)),
    )
}

/// As the owner past his own row security: otherwise only the bound org's rows are validated. Of a row
/// that has no parent PostgreSQL says then which it is, of whatever org.
pub(super) fn add_foreign_key(caller: pg_sys::Oid, table: &Table, key: &str) {
    let add = || role::past_row_security_of(table.owner, || ddl(key));
    if !role::is_walled(caller, table.oid) {
        return add();
    }
    PgTryBuilder::new(add)
        .catch_when(PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION, |_| {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION,
                format!(
                    "{} has rows of this or another org that name a node which is not there",
                    table.shown()
                ),
            )
            .hint("Mend the links first, org by org; nothing was changed.")
            .table(&table.schema, &table.name)
            .raise()
        })
        .execute()
}

/// How a message names a node, to who may be told of it.
pub(super) fn shown_node(caller: pg_sys::Oid, tables: &[pg_sys::Oid], org: &str, id: &str) -> String {
    if tables.iter().all(|table| wall::may_be_told(caller, *table, org)) {
        format!("node {id:?} of org {org:?}")
    } else {
        "a node of another org".to_owned()
    }
}

/// Computes every path once, by the set, before the triggers stand. Both by what is committed now.
fn fill(caller: pg_sys::Oid, table: &Table, sql: &Sql) {
    let (path, depth, id, parent, org, max) =
        (&sql.path, &sql.depth, &sql.id, &sql.parent, &sql.org, sql.max_depth);
    let t = &sql.table;
    role::as_table_owner_confined(table.owner, || {
        let fill = format!(
            "WITH RECURSIVE p(org, id, path, depth) AS (
                 SELECT {org}, {id}, '/' || {id}::text || '/', 0 FROM {t} WHERE {parent} IS NULL
                 UNION ALL
                 SELECT c.{org}, c.{id}, p.path || c.{id}::text || '/', p.depth + 1
                   FROM p JOIN {t} c ON c.{org} = p.org AND c.{parent} = p.id WHERE p.depth < {max})
             UPDATE {t} AS c SET {path} = p.path, {depth} = p.depth FROM p
              WHERE c.{org} = p.org AND c.{id} = p.id
                AND (c.{path} IS DISTINCT FROM p.path OR c.{depth} IS DISTINCT FROM p.depth)"
        );
        plans::write::<0>(&fill, vec![])
    });
    let bad = role::as_table_owner_confined(table.owner, || {
        plans::read::<3>(
            &format!(
                "WITH RECURSIVE p(org, id, bad) AS (
                     SELECT {org}, {id}, {id}::text = '' OR position('/' IN {id}::text) > 0 FROM {t} WHERE {parent} IS NULL
                     UNION ALL
                     SELECT c.{org}, c.{id}, c.{id}::text = '' OR position('/' IN c.{id}::text) > 0
                       FROM p JOIN {t} c ON c.{org} = p.org AND c.{parent} = p.id)
                 SELECT 'contains \"/\" or is empty', org::text, id::text FROM p WHERE bad
                 UNION ALL
                 SELECT 'is on a cycle or below one', c.{org}::text, c.{id}::text FROM {t} c
                  WHERE NOT EXISTS (SELECT FROM p WHERE p.org = c.{org} AND p.id = c.{id})
                 UNION ALL
                 SELECT 'lies deeper than {max}', c.{org}::text, c.{id}::text FROM {t} c
                  WHERE c.{path} IS NULL OR octet_length(c.{path}) > {bytes} OR c.{depth} > {max}
                 UNION ALL
                 SELECT NULL, c.{org}::text, c.{id}::text FROM {t} c LEFT JOIN {t} p ON p.{org} = c.{org} AND p.{id} = c.{parent}
                  WHERE c.{path} IS DISTINCT FROM CASE WHEN c.{parent} IS NULL THEN '/' ELSE p.{path} END || c.{id}::text || '/'
                     OR c.{depth} IS DISTINCT FROM CASE WHEN c.{parent} IS NULL THEN 0 ELSE p.{depth} + 1 END
                 LIMIT 1",
                bytes = super::path::MAX_BYTES
            ),
            vec![],
        )
    });
    if let Some([None, Some(org), Some(id)]) = bad.first() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            format!(
                "{} of {} did not keep the path that it was given",
                shown_node(caller, &[table.oid], org, id),
                table.shown()
            ),
        )
        .hint("An UPDATE trigger of the table wrote another one, or moved nodes. Disable it until the tree is attached.")
        .table(&table.schema, &table.name)
        .raise()
    }
    if let Some([Some(what), Some(org), Some(id)]) = bad.first() {
        let node = shown_node(caller, &[table.oid], org, id);
        Refusal::new(
            PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
            format!("{} is no tree: {node} {what}", table.shown()),
        )
        .hint("Mend the parent links first; nothing was changed.")
        .table(&table.schema, &table.name)
        .raise()
    }
}

fn create_triggers(
    table: &Table,
    c: &Columns,
    max_depth: i32,
    on_delete: &str,
    mode: OnDelete,
    history: bool,
) {
    let args = [&c.org, &c.id, &c.parent, &c.path, &c.depth, &max_depth.to_string(), on_delete]
        .map(literal)
        .join(", ");
    let [org, id, parent, path, depth] =
        [&c.org, &c.id, &c.parent, &c.path, &c.depth].map(|name| ident(name));
    for name in expected_triggers(mode, history) {
        let (when, function) = match name {
            "crm_tree_lock_insert" => ("BEFORE INSERT".to_owned(), "_tree_lock"),
            "crm_tree_lock_update" => {
                (format!("BEFORE UPDATE OF {org}, {id}, {parent}, {path}, {depth}"), "_tree_lock")
            }
            "crm_tree_lock_delete" => ("BEFORE DELETE".to_owned(), "_tree_lock"),
            "zz_crm_tree_place_insert" => ("BEFORE INSERT".to_owned(), "_tree_place"),
            "zz_crm_tree_place_update" => ("BEFORE UPDATE".to_owned(), "_tree_place"),
            "zz_crm_tree_place_delete" => ("BEFORE DELETE".to_owned(), "_tree_place"),
            "A_crm_tree_settle_insert" => ("AFTER INSERT".to_owned(), "_tree_settle"),
            "A_crm_tree_settle_update" => ("AFTER UPDATE".to_owned(), "_tree_settle"),
            TRUNCATE => ("BEFORE TRUNCATE".to_owned(), "_tree_history_guard"),
            "zz_crm_tree_note_delete" => ("BEFORE DELETE".to_owned(), "_tree_note"),
            "A_crm_tree_record_insert" => ("AFTER INSERT".to_owned(), "_tree_record"),
            "A_crm_tree_record_update" => ("AFTER UPDATE".to_owned(), "_tree_record"),
            "A_crm_tree_record_delete" => ("AFTER DELETE".to_owned(), "_tree_record"),
            _ => ("AFTER DELETE".to_owned(), "_tree_adopt"),
        };
        let each = match name {
            "crm_tree_lock_insert" | "crm_tree_lock_update" | "crm_tree_lock_delete" | TRUNCATE => {
                "FOR EACH STATEMENT".to_owned()
            }
            "A_crm_tree_settle_update" | "A_crm_tree_record_update" => {
                format!("FOR EACH ROW WHEN (OLD.{parent} IS DISTINCT FROM NEW.{parent})")
            }
            _ => "FOR EACH ROW".to_owned(),
        };
        let partitions = if name == TRUNCATE { table.descendants() } else { vec![] };
        for table in std::iter::once(table).chain(&partitions) {
            let args = if name.as_bytes() == shape::BEARER.to_bytes() { &args } else { "" };
            ddl(&format!(
                "CREATE TRIGGER {} {when} ON {} {each} EXECUTE FUNCTION crm_tree.{function}({args})",
                ident(name),
                table.sql()
            ));
        }
    }
}

fn drop_triggers(table: &Table) {
    for name in TRIGGERS.into_iter().chain(history_table::ON_TREE) {
        // Those of partitions that are not clones of the root's.
        let on = rows(
            "SELECT tgrelid FROM pg_catalog.pg_trigger
              WHERE tgrelid IN (SELECT $1 UNION ALL SELECT relid FROM pg_catalog.pg_partition_tree($1))
                AND tgname = $2::name AND tgparentid = 0",
            &[table.oid.into(), name.into()],
            |row| row[1].value::<pg_sys::Oid>().ok().flatten().unwrap_or(pg_sys::Oid::INVALID),
        );
        for oid in on {
            ddl(&format!("DROP TRIGGER {} ON {}", ident(name), Table::get(oid).sql()));
        }
    }
}

#[pg_extern(sql = false)]
fn detach_tree(table: pg_sys::Oid) {
    let tree = Tree::get(table);
    tree.table.expect_owner();
    super::links::detach_from_tree(&tree.table);
    // As its owner: what another put in its place is not this one's to alter.
    role::as_table_owner_confined(tree.table.owner, || drop_triggers(&tree.table));
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "DELETE FROM crm_tree.tree WHERE relation OPERATOR(pg_catalog.=) $1",
            &[tree.table.oid.into()],
        )
    })
    .expect("the registry lets every tree go");
    super::deferred::forget(tree.table.oid);
}

impl Tree {
    /// The tree a table is; refuses a table that is none.
    pub fn get(oid: pg_sys::Oid) -> Tree {
        let table = Table::get(oid);
        let found = rows(
            "SELECT org_column::text, id_column::text, parent_column::text, path_column::text, depth_column::text,
                    max_depth::text, on_delete FROM crm_tree._trees() WHERE relation = $1",
            &[oid.into()],
            |row| std::array::from_fn::<String, 7, _>(|i| catalog::text(row, i + 1)),
        );
        let Some([org, id, parent, path, depth, max_depth, _]) = found.into_iter().next() else {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{} is not an attached tree", table.shown()),
            )
            .hint(format!(
                "SELECT crm_tree.attach_tree({}, id => '…', parent => '…');",
                literal(&table.sql())
            ))
            .raise()
        };
        let columns = Columns { org, id, parent, path, depth };
        let (org_column, _) = expect_org_column(&table, &columns.org);
        let id_type = shape::expect_types(&table, &columns);
        let max_depth = max_depth.parse().unwrap_or(32);
        let sql = Sql::new(&table.sql(), &columns, &org_column.type_name, &id_type, max_depth);
        Tree { table, columns, sql }
    }
}
