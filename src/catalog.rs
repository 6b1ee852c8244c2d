//! What the walls and the trees need to know of a user's table, and how its names are written into
//! the statements built for it.

use crate::error::Refusal;
use crate::pg::{relation, settings};
use pgrx::prelude::*;
use pgrx::{datum::DatumWithOid, pg_sys::Oid};

/// A table, by its catalog facts.
#[derive(Clone, Debug)]
pub struct Table {
    pub oid: Oid,
    pub schema: String,
    pub name: String,
    pub kind: char,
    pub owner: Oid,
    pub temporary: bool,
}

/// A column, by its catalog facts.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// The type's name as `format_type` writes it, without its modifier.
    pub type_name: String,
    pub not_null: bool,
    pub deterministic: bool,
    /// Computed from others, when the triggers before the row have run.
    pub generated: bool,
    pub identity: bool,
    /// Does its collation go with somebody's session, and the column with it?
    pub passing: bool,
}

/// `name` as an SQL identifier, always quoted.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string literal.
pub fn literal(text: &str) -> String {
    pgrx::spi::quote_literal(text)
}

impl Table {
    /// The table `oid` stands for; refuses what is not an ordinary or partitioned table.
    pub fn get(oid: Oid) -> Table {
        let table = Self::find(oid).unwrap_or_else(|| {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("there is no relation with oid {}", oid.to_u32()),
            )
            .raise()
        });
        if !matches!(table.kind, 'r' | 'p') {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{} is not an ordinary or partitioned table", table.shown()),
            )
            .hint("Name the table itself; a view follows the tables below it, a foreign table cannot have row security.")
            .raise()
        }
        table
    }

    pub fn find(oid: Oid) -> Option<Table> {
        rows(
            "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relowner, c.relpersistence OPERATOR(pg_catalog.=) 't'
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
              WHERE c.oid OPERATOR(pg_catalog.=) $1",
            &[oid.into()],
            |row| Table {
                oid,
                schema: text(row, 1),
                name: text(row, 2),
                kind: text(row, 3).chars().next().unwrap_or(' '),
                owner: row[4].value::<Oid>().ok().flatten().unwrap_or(Oid::INVALID),
                temporary: row[5].value::<bool>().ok().flatten().unwrap_or(false),
            },
        )
        .pop()
    }

    /// As written in SQL: quoted and qualified.
    pub fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// As shown in messages.
    pub fn shown(&self) -> String {
        format!("table {}.{}", self.schema, self.name)
    }

    /// The partitions and inheritance children at every level, nearest first.
    pub fn descendants(&self) -> Vec<Table> {
        relation::with_descendants(self.oid).into_iter().skip(1).filter_map(Self::find).collect()
    }

    /// Refuses a column that is computed when the triggers before the row have run: what they go by has to be given.
    pub fn refuse_generated(&self, column: &Column) {
        if column.generated {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!(
                    "column \"{}\" of {} is generated, and known too late to be judged",
                    column.name,
                    self.shown()
                ),
            )
            .hint("Keep it in a column of its own, which a BEFORE trigger may fill.")
            .table(&self.schema, &self.name)
            .raise()
        }
    }

    pub fn column(&self, name: &str) -> Option<Column> {
        let sql =
            "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, NULL), a.attnotnull,
                    COALESCE((SELECT collisdeterministic FROM pg_catalog.pg_collation
                               WHERE oid OPERATOR(pg_catalog.=) a.attcollation), true),
                    a.attgenerated OPERATOR(pg_catalog.<>) '', a.attidentity OPERATOR(pg_catalog.<>) '',
                    EXISTS (SELECT FROM pg_catalog.pg_collation k JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) k.collnamespace
                             WHERE k.oid OPERATOR(pg_catalog.=) a.attcollation AND pg_catalog.starts_with(n.nspname, 'pg_temp_'))
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name
                AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped";
        let flag = |row: &spi::SpiHeapTupleData, n: usize| row[n].value::<bool>().ok().flatten();
        settings::quoting_what_must_be(|| {
            rows(sql, &[self.oid.into(), name.into()], |row| Column {
                name: text(row, 1),
                type_name: text(row, 2),
                not_null: flag(row, 3).unwrap_or(false),
                deterministic: flag(row, 4).unwrap_or(true),
                generated: flag(row, 5).unwrap_or(false),
                identity: flag(row, 6).unwrap_or(false),
                passing: flag(row, 7).unwrap_or(false),
            })
        })
        .pop()
    }

    /// The column, or the refusal that names it.
    pub fn expect_column(&self, name: &str) -> Column {
        self.column(name).unwrap_or_else(|| {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("{} has no column \"{name}\"", self.shown()),
            )
            .table(&self.schema, &self.name)
            .raise()
        })
    }

    /// Refuses a caller who neither owns the table nor has its owner's privileges.
    pub fn expect_owner(&self) {
        let caller = crate::pg::role::current();
        if !crate::pg::role::has_privileges_of(caller, self.owner) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of {}", self.shown()),
            )
            .raise()
        }
    }
}

/// Column `n` (from 1) of a row as text; empty where it is null.
pub fn text(row: &spi::SpiHeapTupleData, n: usize) -> String {
    opt_text(row, n).unwrap_or_default()
}

pub fn opt_text(row: &spi::SpiHeapTupleData, n: usize) -> Option<String> {
    row.get::<String>(n).ok().flatten()
}

/// Runs a query as the current user, who need not be who chose the search_path, and reads each row.
pub fn rows<T>(sql: &str, args: &[DatumWithOid<'_>], read: impl Fn(&spi::SpiHeapTupleData) -> T) -> Vec<T> {
    settings::on_safe_path(|| {
        Spi::connect(|client| {
            let table = client.select(sql, None, args).unwrap_or_else(|e| error!("{e}"));
            table.map(|row| read(&row)).collect()
        })
    })
}

/// Runs one DDL statement as the caller.
pub fn ddl(sql: &str) {
    if let Err(e) = Spi::run(sql) {
        error!("{e}: {sql}")
    }
}
