//! Putting a table behind the wall, and taking it down.

use super::watch;
use crate::catalog::{self, Column, Table, ddl, ident, literal, rows};
use crate::error::Refusal;
use crate::pg::trigger::{Call, Outcome};
use crate::pg::{protected, relation, role, session, xact};
use pgrx::prelude::*;

/// The type of an org column, and with it the function its policy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrgType {
    Uuid,
    Integer,
    Text,
    Varchar,
}

impl OrgType {
    pub fn of(type_name: &str) -> Option<OrgType> {
        match type_name {
            "uuid" => Some(OrgType::Uuid),
            "bigint" | "integer" | "smallint" => Some(OrgType::Integer),
            "text" => Some(OrgType::Text),
            "character varying" => Some(OrgType::Varchar),
            _ => None,
        }
    }

    pub fn function(self) -> &'static str {
        match self {
            OrgType::Uuid => "crm_tree.current_org()",
            OrgType::Integer => "crm_tree.current_org_bigint()",
            OrgType::Text | OrgType::Varchar => "crm_tree.current_org_text()",
        }
    }

    /// The wall's condition. The operator is qualified, so that none of an attacker's making is
    /// found for it; varchar has no equality of its own and would be open to one.
    pub fn predicate(self, column: &str) -> String {
        let column = match self {
            OrgType::Varchar => format!("{}::pg_catalog.text", ident(column)),
            _ => ident(column),
        };
        format!("{column} OPERATOR(pg_catalog.=) {}", self.function())
    }
}

/// Is a column of this type compared with the bound org in its own type? The smaller integers are
/// compared as bigint.
pub fn org_is_compared_in_its_type(type_name: &str) -> bool {
    !matches!(type_name, "integer" | "smallint")
}

/// The org column of a table, checked.
pub fn expect_org_column(table: &Table, name: &str) -> (Column, OrgType) {
    let column = table.expect_column(name);
    let Some(org_type) = OrgType::of(&column.type_name) else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column \"{name}\" of {} is {}, which cannot hold an org",
                table.shown(),
                column.type_name
            ),
        )
        .hint("An org column is uuid, bigint, integer, smallint, text or varchar.")
        .table(&table.schema, &table.name)
        .raise()
    };
    if !column.deterministic {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_COLLATION_MISMATCH,
            format!(
                "column \"{name}\" of {} has a nondeterministic collation, under which two orgs can be equal",
                table.shown()
            ),
        )
        .hint(format!("ALTER TABLE {} ALTER COLUMN {} TYPE text COLLATE \"C\";", table.sql(), ident(name)))
        .raise()
    }
    if column.passing {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "column \"{name}\" of {} has a temporary collation, with which it would go unseen",
                table.shown()
            ),
        )
        .hint(format!("ALTER TABLE {} ALTER COLUMN {} TYPE text COLLATE \"C\";", table.sql(), ident(name)))
        .table(&table.schema, &table.name)
        .raise()
    }
    table.refuse_generated(&column);
    (column, org_type)
}

#[pg_extern(sql = false)]
pub fn protect(table: pg_sys::Oid, org_column: &str, strict: bool) {
    watch::expect_no_snapshot(table);
    alone_with(table, |table| {
        // Whoever calls: what the table's owner attached to it must not run with more rights than his.
        role::as_table_owner_confined(table.owner, || put_up(&table, org_column, strict));
    });
}

/// Does work on a table of the caller's, and on what is below it, while nobody else is at them: what the
/// registries say of it before the work is still so behind it.
pub fn alone_with<R>(table: pg_sys::Oid, work: impl FnOnce(Table) -> R) -> R {
    Table::get(table).expect_owner();
    relation::lock_with_descendants(table);
    watch::expect_current(table);
    xact::seeing_now(|| {
        let table = Table::get(table);
        table.expect_owner();
        refuse_temporary(&table);
        work(table)
    })
}

/// No event trigger sees it go with its session: the registry would name another table by its oid one day.
fn refuse_temporary(table: &Table) {
    if table.temporary {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("{} is temporary, and can neither be protected nor be a tree", table.shown()),
        )
        .hint("Make an ordinary or an UNLOGGED table; nobody but its session reads a temporary one.")
        .table(&table.schema, &table.name)
        .raise()
    }
}

fn put_up(table: &Table, org_column: &str, strict: bool) {
    let (column, org_type) = expect_org_column(table, org_column);
    refuse_other_column(table, org_column);
    let below = table.descendants();
    if let Some(foreign) = below.iter().find(|t| !matches!(t.kind, 'r' | 'p')) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!(
                "{} has the foreign partition {}.{}, which cannot have row security",
                table.shown(),
                foreign.schema,
                foreign.name
            ),
        )
        .hint("Detach it, or protect it on the server where it lives.")
        .raise()
    }
    refuse_other_owner(table, &below);
    refuse_outer_parent(table, org_column);
    for t in std::iter::once(table).chain(&below) {
        refuse_moved_wall(t, org_column);
        refuse_policy_before(t);
    }
    refuse_identity(table, &column);
    refuse_null_orgs(table, &column);
    report_open_keys(table, org_column, strict);

    let name = ident(org_column);
    let family = std::iter::once(table).chain(&below).map(|t| t.oid).collect();
    watch::moving(family, || {
        for t in std::iter::once(table).chain(&below) {
            raise_wall(t, &org_type.predicate(org_column));
        }
    });
    let entered = role::as_extension_owner(|| {
        Spi::get_one_with_args::<bool>(
            "INSERT INTO crm_tree.wall AS w (relation, org_column) VALUES ($1::pg_catalog.regclass, $2)
             ON CONFLICT (relation) DO UPDATE SET org_column = excluded.org_column
              WHERE w.org_column OPERATOR(pg_catalog.=) excluded.org_column RETURNING true",
            &[table.oid.into(), org_column.into()],
        )
    });
    if entered != Ok(Some(true)) {
        refuse_other_column(table, org_column);
        error!("the registry does not take {}", table.shown());
    }
    // Not inside: NOT NULL looks at the table's CHECK constraints, and so runs functions of its owner.
    // After the registry: the event triggers would take it for one of a watched schema without a wall.
    ddl(&format!(
        "ALTER TABLE {} ALTER COLUMN {name} SET NOT NULL, ALTER COLUMN {name} SET DEFAULT {}",
        table.sql(),
        org_type.function()
    ));
    watch::stands(table.oid);
}

/// AFTER ROW, on the registry: every session looks again at which tables are protected. Not only the
/// table named: its partitions and children are protected with it.
pub fn changed<'a>(_call: &Call<'a>) -> Outcome<'a> {
    relation::invalidate_all();
    Outcome::Done
}

/// The org column by which a table, or one that it is a partition or child of, is protected.
pub fn column_of(table: pg_sys::Oid) -> Option<String> {
    protected::org_column(table)?.into_string().ok()
}

/// May `role` be told of a row of this org: because no row security of the table holds him back, or
/// because he is bound to it?
pub fn may_be_told(role: pg_sys::Oid, table: pg_sys::Oid, org: &str) -> bool {
    !role::is_walled(role, table) || session::org().as_deref() == Some(org)
}

/// A wall on another column is another wall: who fills that column would decide who reads what. So
/// are the walls of all tables that inheritance joins, since each shows the rows of those below it. And
/// the maintenance of a tree, which goes past row security, works by the tree's org column.
pub fn refuse_other_column(table: &Table, org_column: &str) {
    let other = rows(
        "WITH RECURSIVE kin(oid) AS (
             SELECT $1
             UNION
             SELECT l.other FROM kin JOIN (SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
                                           UNION ALL
                                           SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits) l(one, other) ON l.one = kin.oid)
         SELECT k.oid, f.org_column::text, f.what, f.cure
           FROM kin k JOIN (SELECT relation, org_column, 'is protected', 'unprotect' FROM crm_tree._walls()
                            UNION ALL
                            SELECT relation, org_column, 'is a tree', 'detach_tree' FROM crm_tree._trees()
                            UNION ALL
                            SELECT relation, org_column::name, 'holds second parents', 'detach_links' FROM crm_tree._tree_links()
                           ) f(relation, org_column, what, cure) ON f.relation = k.oid
          WHERE f.org_column <> $2::name
          ORDER BY k.oid <> $1, f.cure DESC LIMIT 1",
        &[table.oid.into(), org_column.into()],
        |row| {
            let of = Table::get(row[1].value::<pg_sys::Oid>().ok().flatten().unwrap_or(table.oid));
            (of, catalog::text(row, 2), catalog::text(row, 3), catalog::text(row, 4))
        },
    );
    let Some((of, column, what, cure)) = other.first() else { return };
    let joined = match of.oid == table.oid {
        true => String::new(),
        false => format!(" {}, which inheritance joins with it,", table.shown()),
    };
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{} {what} by \"{column}\" and{joined} cannot be protected by \"{org_column}\"", of.shown()),
    )
    .hint(format!("First SELECT crm_tree.{cure}({});", literal(&of.sql())))
    .table(&table.schema, &table.name)
    .raise()
}

/// Walls are put up, and trees made, with the rights of the table's owner.
pub fn refuse_other_owner(table: &Table, below: &[Table]) {
    if let Some(other) = below.iter().find(|t| t.owner != table.owner) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} belongs to another role than {}, which it is below", other.shown(), table.shown()),
        )
        .hint(format!(
            "ALTER TABLE {} OWNER TO {};",
            other.sql(),
            ident(&role::name(table.owner).unwrap_or_default())
        ))
        .table(&other.schema, &other.name)
        .raise()
    }
}

/// The registry names the column, and the policy depends on it: where another has the name now, the wall is
/// not to move along.
fn refuse_moved_wall(table: &Table, org_column: &str) {
    let column = rows(
        "SELECT a.attname::text FROM pg_catalog.pg_policy p
           JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) p.oid
                                      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) p.polrelid
           JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) d.refobjid AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
          WHERE p.polrelid OPERATOR(pg_catalog.=) $1 AND p.polname OPERATOR(pg_catalog.=) 'crm_tree_wall' AND a.attname OPERATOR(pg_catalog.<>) $2::pg_catalog.name LIMIT 1",
        &[table.oid.into(), org_column.into()],
        |row| catalog::text(row, 1),
    );
    if let Some(column) = column.first() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the wall of {} stands on the column \"{column}\", not on \"{org_column}\"", table.shown()),
        )
        .hint(format!("Give that column its name back, or a superuser takes the wall down: SELECT crm_tree.unprotect({});", literal(&table.sql())))
        .table(&table.schema, &table.name)
        .raise()
    }
}

/// PostgreSQL asks restrictive policies in the order of their names' bytes, and may ask each before the next:
/// one that comes before the wall's is asked of every org's rows.
fn refuse_policy_before(table: &Table) {
    let policies = rows(
        "SELECT p.polname::text FROM pg_catalog.pg_policy p
          WHERE p.polrelid OPERATOR(pg_catalog.=) $1 AND NOT p.polpermissive
            AND p.polname::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.<) 'crm_tree_wall' LIMIT 1",
        &[table.oid.into()],
        |row| catalog::text(row, 1),
    );
    if let Some(name) = policies.first() {
        let behind: String = format!("zz_{name}").chars().take(60).collect();
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "the restrictive policy \"{name}\" of {} would be asked before the wall, of every org's rows",
                table.shown()
            ),
        )
        .hint(format!(
            "They go by the bytes of their names: ALTER POLICY {} ON {} RENAME TO {};",
            ident(name),
            table.sql(),
            ident(&behind)
        ))
        .table(&table.schema, &table.name)
        .raise()
    }
}

/// Read through a parent, rows are under the parent's row security alone.
fn refuse_outer_parent(table: &Table, org_column: &str) {
    let outer = rows(
        "SELECT i.inhparent::pg_catalog.regclass::text FROM pg_catalog.pg_inherits i
          WHERE i.inhrelid OPERATOR(pg_catalog.=) $1
            AND NOT EXISTS (SELECT FROM crm_tree._wall_family(ARRAY[i.inhparent]))",
        &[table.oid.into()],
        |row| catalog::text(row, 1),
    );
    if let Some(parent) = outer.first() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!(
                "{} is a partition or child of {parent}, through which it could be read without a wall",
                table.shown()
            ),
        )
        .hint(format!(
            "Protect the whole: SELECT crm_tree.protect({}, {});",
            literal(parent),
            literal(org_column)
        ))
        .table(&table.schema, &table.name)
        .raise()
    }
}

/// Its default is to be the bound org.
fn refuse_identity(table: &Table, column: &Column) {
    if column.identity {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "column \"{}\" of {} is an identity column, which cannot hold an org",
                column.name,
                table.shown()
            ),
        )
        .hint(format!("ALTER TABLE {} ALTER COLUMN {} DROP IDENTITY;", table.sql(), ident(&column.name)))
        .table(&table.schema, &table.name)
        .raise()
    }
}

fn refuse_null_orgs(table: &Table, column: &Column) {
    if column.not_null {
        return;
    }
    let query = format!("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)", table.sql(), ident(&column.name));
    let nulls = role::past_row_security_of(table.owner, || Spi::get_one::<bool>(&query));
    if nulls == Ok(Some(true)) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
            format!("{} has rows without an org in \"{}\"", table.shown(), column.name),
        )
        .hint(format!(
            "Fill them tenant by tenant first: UPDATE {} SET {} = … WHERE {} IS NULL AND …;",
            table.sql(),
            ident(&column.name),
            ident(&column.name)
        ))
        .table(&table.schema, &table.name)
        .raise()
    }
}

/// Keys that can tell one org about another: unique keys and exclusions without the org answer
/// "taken" for another org's value, foreign keys without it point across. Plain indexes that do not
/// lead with the org are only slow.
fn report_open_keys(table: &Table, org_column: &str, strict: bool) {
    let found = rows(
        "WITH org AS (SELECT attnum FROM pg_catalog.pg_attribute
                       WHERE attrelid OPERATOR(pg_catalog.=) $1 AND attname OPERATOR(pg_catalog.=) $2::pg_catalog.name)
         SELECT CASE WHEN i.indisexclusion THEN 'exclusion constraint' WHEN i.indisunique THEN 'unique index' ELSE 'index' END,
                c.relname::text, i.indisunique OR i.indisexclusion
           FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid, org
          WHERE i.indrelid OPERATOR(pg_catalog.=) $1
            AND CASE WHEN i.indisunique OR i.indisexclusion THEN NOT org.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::int2[])
                     ELSE i.indkey[0] OPERATOR(pg_catalog.<>) org.attnum END
         UNION ALL
         SELECT 'foreign key', k.conname::text, true
           FROM pg_catalog.pg_constraint k, org
          WHERE k.conrelid OPERATOR(pg_catalog.=) $1 AND k.contype OPERATOR(pg_catalog.=) 'f'
            AND NOT org.attnum OPERATOR(pg_catalog.=) ANY (k.conkey)
            AND EXISTS (SELECT FROM crm_tree._walls() w WHERE w.relation OPERATOR(pg_catalog.=) k.confrelid OR k.confrelid OPERATOR(pg_catalog.=) $1)
         ORDER BY 1, 2",
        &[table.oid.into(), org_column.into()],
        |row| {
            let open = row[3].value::<bool>().ok().flatten().unwrap_or(false);
            (catalog::text(row, 1), catalog::text(row, 2), open)
        },
    );
    for (kind, name, open) in found {
        let message = format!("{kind} \"{name}\" of {} does not lead with \"{org_column}\"", table.shown());
        if open && strict {
            Refusal::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .hint("Make the org part of the key, or protect without strict => true.")
                .raise()
        } else if open {
            warning!("{message}: it can tell one org that another has a value")
        } else {
            notice!("{message}: behind the wall it costs more than it need")
        }
    }
}

/// Row security, forced; the restrictive wall; a permissive base with the same condition for each
/// command that has none, so that a dropped wall leaves a closed table; no TRUNCATE.
pub fn raise_wall(table: &Table, predicate: &str) {
    let sql = table.sql();
    ddl(&format!("ALTER TABLE {sql} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"));
    let policies = rows(
        "SELECT polname::text, polcmd::text, polpermissive FROM pg_catalog.pg_policy WHERE polrelid OPERATOR(pg_catalog.=) $1",
        &[table.oid.into()],
        |row| {
            let permissive = row[3].value::<bool>().ok().flatten().unwrap_or(false);
            (catalog::text(row, 1), catalog::text(row, 2), permissive)
        },
    );
    for (name, _, _) in policies.iter().filter(|(name, _, _)| name.starts_with("crm_tree_")) {
        ddl(&format!("DROP POLICY {} ON {sql}", ident(name)));
    }
    ddl(&format!(
        "CREATE POLICY crm_tree_wall ON {sql} AS RESTRICTIVE FOR ALL TO PUBLIC USING ({predicate}) WITH CHECK ({predicate})"
    ));
    let theirs: Vec<&str> = policies
        .iter()
        .filter(|(name, _, permissive)| *permissive && !name.starts_with("crm_tree_"))
        .map(|(_, command, _)| command.as_str())
        .collect();
    if theirs.is_empty() {
        ddl(&format!(
            "CREATE POLICY crm_tree_base ON {sql} AS PERMISSIVE FOR ALL TO PUBLIC USING ({predicate}) WITH CHECK ({predicate})"
        ));
    } else if !theirs.contains(&"*") {
        for (code, command) in [("r", "SELECT"), ("a", "INSERT"), ("w", "UPDATE"), ("d", "DELETE")] {
            if theirs.contains(&code) {
                continue;
            }
            let using = if code == "a" { String::new() } else { format!("USING ({predicate})") };
            let check =
                if matches!(code, "a" | "w") { format!("WITH CHECK ({predicate})") } else { String::new() };
            ddl(&format!(
                "CREATE POLICY crm_tree_base_{} ON {sql} AS PERMISSIVE FOR {command} TO PUBLIC {using} {check}",
                command.to_lowercase()
            ));
        }
    }
    // Replaced where there is one: it could be of another making.
    ddl(&format!(
        "CREATE OR REPLACE TRIGGER crm_tree_refuse_truncate BEFORE TRUNCATE ON {sql} FOR EACH STATEMENT
         EXECUTE FUNCTION crm_tree.refuse_truncate()"
    ));
    ddl(&format!("ALTER TABLE {sql} ENABLE ALWAYS TRIGGER crm_tree_refuse_truncate"));
}

/// `ALTER TABLE <table> <action>`, as maintenance does it: PostgreSQL runs what the owner put into CHECK
/// constraints and index predicates as whoever alters his table.
#[pg_extern(sql = false)]
fn alter_table(table: pg_sys::Oid, action: &str) {
    let table = Table::get(table);
    table.expect_owner();
    role::defining_as_owner(table.owner, || ddl(&format!("ALTER TABLE {} {action}", table.sql())));
}

#[pg_extern(sql = false)]
fn unprotect(table: pg_sys::Oid) {
    watch::expect_no_snapshot(table);
    alone_with(table, |table| lower(&table));
}

/// The column by which the registry has the table itself.
fn registered_column(table: &Table) -> Vec<String> {
    rows(
        "SELECT w.org_column::pg_catalog.text FROM crm_tree._walls() w WHERE w.relation OPERATOR(pg_catalog.=) $1",
        &[table.oid.into()],
        |row| catalog::text(row, 1),
    )
}

fn lower(table: &Table) {
    let registered = registered_column(table);
    let Some(column) = registered.first() else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} is not protected", table.shown()),
        )
        .hint(format!("SELECT crm_tree.protect({});", literal(&table.sql())))
        .raise()
    };
    if relation::parents(table.oid).into_iter().any(|parent| protected::org_column(parent).is_some()) {
        // It stays behind that of what is above it.
        notice!("{} stays behind the wall of what it is a partition or child of", table.shown());
        return forget(table);
    }
    let below = table.descendants();
    refuse_shared_child(table, &below);
    if let Some(own) = below.iter().find(|t| !registered_column(t).is_empty()) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{}, below {}, is protected by itself", own.shown(), table.shown()),
        )
        .hint(format!("First SELECT crm_tree.unprotect({});", literal(&own.sql())))
        .table(&own.schema, &own.name)
        .raise()
    }
    let family = std::iter::once(table).chain(&below).map(|t| t.oid).collect();
    watch::moving(family, || {
        for t in std::iter::once(table).chain(&below) {
            // As its owner: what another put in its place is not this one's to alter.
            role::as_table_owner_confined(t.owner, || {
                take_down(t);
                if t.column(column).is_some_and(|column| !column.identity) {
                    ddl(&format!("ALTER TABLE ONLY {} ALTER COLUMN {} DROP DEFAULT", t.sql(), ident(column)));
                }
            });
        }
    });
    forget(table);
    watch::fell(table.oid);
}

/// A child of another protected table too: through this one its rows could be read without a wall.
fn refuse_shared_child(table: &Table, below: &[Table]) {
    let family: Vec<pg_sys::Oid> = std::iter::once(table).chain(below).map(|t| t.oid).collect();
    for child in below {
        let others = relation::parents(child.oid)
            .into_iter()
            .filter(|parent| !family.contains(parent) && protected::org_column(*parent).is_some());
        if let Some(parent) = others.map(Table::get).next() {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{}, below {}, is a child of {} too", child.shown(), table.shown(), parent.shown()),
            )
            .detail("Its wall would go, which that table needs.")
            .hint(format!("First take it out of one of the two: ALTER TABLE {} NO INHERIT …;", child.sql()))
            .table(&child.schema, &child.name)
            .raise()
        }
    }
}

/// Takes the table's own row out of the registry.
fn forget(table: &Table) {
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "DELETE FROM crm_tree.wall WHERE relation OPERATOR(pg_catalog.=) $1",
            &[table.oid.into()],
        )
    })
    .expect("the registry lets every table go");
}

fn take_down(table: &Table) {
    let sql = table.sql();
    let policies = rows(
        "SELECT polname::text FROM pg_catalog.pg_policy WHERE polrelid OPERATOR(pg_catalog.=) $1",
        &[table.oid.into()],
        |row| catalog::text(row, 1),
    );
    for name in policies.iter().filter(|name| name.starts_with("crm_tree_")) {
        ddl(&format!("DROP POLICY {} ON {sql}", ident(name)));
    }
    ddl(&format!("DROP TRIGGER IF EXISTS crm_tree_refuse_truncate ON {sql}"));
    // Policies of the user's own stay in force; only the wall's own switch goes back.
    if policies.iter().all(|name| name.starts_with("crm_tree_")) {
        ddl(&format!("ALTER TABLE {sql} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY"));
    }
}
