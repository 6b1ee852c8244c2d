//! The CRM template: `create_crm` instantiates the texts of `sql/crm/` into a schema.

use crate::catalog::ident;
use crate::error::Refusal;
use crate::pg::role;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, quote_identifier};
use std::ffi::CStr;

/// The template, one text a module, in the order in which they build on each other.
const TEMPLATE: [&str; 6] = [
    include_str!("../../sql/crm/crm.sql"),
    include_str!("../../sql/crm/rollup.sql"),
    include_str!("../../sql/crm/pipeline.sql"),
    include_str!("../../sql/crm/sharing.sql"),
    include_str!("../../sql/crm/merge.sql"),
    include_str!("../../sql/crm/instance.sql"),
];

/// Every partition is planned, even where pruning leaves one: more than this costs more than it helps.
const MAX_ORG_PARTITIONS: i32 = 256;

#[pg_extern(sql = false)]
fn create_crm(schema: &CStr, owner: &CStr, org_partitions: i32) {
    let (schema, owner) = (&*schema.to_string_lossy(), &*owner.to_string_lossy());
    expect_plain_name("schema", schema);
    if !(0..=MAX_ORG_PARTITIONS).contains(&org_partitions) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("org_partitions is {org_partitions}, not between 0 and {MAX_ORG_PARTITIONS}"),
        )
        .hint("SELECT crm_tree.create_crm('crm', org_partitions => 16);")
        .raise()
    }
    if exists("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema) {
        Refusal::new(PgSqlErrorCode::ERRCODE_DUPLICATE_SCHEMA, format!("schema \"{schema}\" exists"))
            .hint("An instance gets a schema of its own: SELECT crm_tree.create_crm('crm2');")
            .raise()
    }
    expect_owner_role(owner);

    run(&format!("CREATE SCHEMA {} AUTHORIZATION {}", ident(schema), ident(owner)));
    as_role(owner, || {
        for text in TEMPLATE {
            for statements in instantiate(text, schema, owner, org_partitions) {
                run(&statements);
            }
        }
    });
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO crm_tree.crm_instance AS i (schema, owner, template_version) VALUES ($1, $2, $3)
             ON CONFLICT (schema) DO UPDATE
                SET owner = excluded.owner, template_version = excluded.template_version, created_at = now()",
            &[schema.into(), owner.into(), env!("CARGO_PKG_VERSION").into()],
        )
    })
    .unwrap_or_else(|e| error!("{e}"));
}

/// The statements of a template text for one instance. A text is split behind the CREATE TABLE
/// statements that are partitioned by org, to create the partitions before anything is put on them:
/// triggers and keys of the parent are cloned to partitions that exist or come later alike, but the
/// wall goes up partition by partition.
fn instantiate(text: &str, schema: &str, owner: &str, org_partitions: i32) -> Vec<String> {
    let text = text
        .replace("@schema@", quote_identifier(schema).as_str())
        .replace("@owner@", quote_identifier(owner).as_str());
    const MARK: &str = ") @partition_by_org@;";
    if org_partitions == 0 {
        return vec![text.replace(MARK, ");")];
    }
    let mut pieces: Vec<&str> = text.split(MARK).collect();
    let last = pieces.pop().unwrap_or_default().to_owned();
    pieces
        .into_iter()
        .map(|piece| {
            let table = partitioned_table(piece);
            let (qualifier, name) = table.rsplit_once('.').unwrap_or(("", table));
            let mut sql = format!("{piece}) PARTITION BY HASH (org_id);");
            for remainder in 0..org_partitions {
                sql.push_str(&format!(
                    "\nCREATE TABLE {qualifier}.{name}_p{remainder} PARTITION OF {table}
                       FOR VALUES WITH (MODULUS {org_partitions}, REMAINDER {remainder});"
                ));
            }
            sql
        })
        .chain(std::iter::once(last))
        .collect()
}

/// The table whose CREATE statement `piece` breaks off in.
fn partitioned_table(piece: &str) -> &str {
    const CREATE: &str = "CREATE TABLE ";
    let start = piece.rfind(CREATE).map_or(0, |at| at + CREATE.len());
    let end = piece[start..].find(" (").map_or(piece.len(), |at| start + at);
    &piece[start..end]
}

/// The template writes the schema's name into literals, comments and message texts too; a name with
/// quotes, dollars or percent signs would mean something else in one of them.
fn expect_plain_name(what: &str, name: &str) {
    let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
    if name.is_empty() || !plain || name.starts_with("pg_") || name == "crm_tree" {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_NAME,
            format!("\"{name}\" cannot be the name of a {what} here"),
        )
        .detail("Letters, digits, _, - and blanks; not crm_tree; not pg_….")
        .hint("SELECT crm_tree.create_crm('crm');")
        .raise()
    }
}

/// The instance's owner: made when missing, refused when it could pass the wall or be logged in to.
fn expect_owner_role(owner: &str) {
    expect_plain_name("role", owner);
    let role = rows(
        "SELECT rolsuper OR rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = $1",
        &[owner.into()],
        |row| (flag(row, 1), flag(row, 2)),
    )
    .pop();
    let fault = match role {
        None => {
            run(&format!(
                "CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
                ident(owner)
            ));
            return;
        }
        Some((true, _)) => "is not subject to row security",
        Some((_, true)) => "can log in",
        Some((false, false)) => return,
    };
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INVALID_ROLE_SPECIFICATION,
        format!("role \"{owner}\" {fault}, and cannot own a CRM"),
    )
    .hint(
        "Name a role that does not exist yet: SELECT crm_tree.create_crm('crm', owner => 'crm_tree_owner');",
    )
    .raise()
}

/// Runs `work` after SET ROLE, with the server's own check that the caller may; an error leaves the
/// resetting to the (sub)transaction.
fn as_role(role: &str, work: impl FnOnce()) {
    let before = Spi::get_one::<String>("SELECT current_setting('role')")
        .ok()
        .flatten()
        .unwrap_or_else(|| "none".into());
    set_role(role);
    work();
    set_role(&before);
}

fn set_role(role: &str) {
    Spi::run_with_args("SELECT set_config('role', $1, true)", &[role.into()])
        .unwrap_or_else(|e| error!("{e}"));
}

fn run(sql: &str) {
    Spi::run(sql).unwrap_or_else(|e| error!("{e}"));
}

fn exists(sql: &str, name: &str) -> bool {
    Spi::get_one_with_args::<bool>(sql, &[name.into()]) == Ok(Some(true))
}

fn flag(row: &SpiHeapTupleData, n: usize) -> bool {
    row.get::<bool>(n).ok().flatten().unwrap_or(false)
}

fn rows<T>(sql: &str, args: &[DatumWithOid<'_>], read: impl Fn(&SpiHeapTupleData) -> T) -> Vec<T> {
    crate::catalog::rows(sql, args, read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_table_of_a_create_statement() {
        let piece = "SELECT 1;\nCREATE TABLE crm.a (\n x int);\nCREATE TABLE \"my crm\".b (\n    y int CHECK (y > 0)\n";
        assert_eq!(partitioned_table(piece), "\"my crm\".b");
    }
}
