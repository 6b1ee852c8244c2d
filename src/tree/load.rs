//! Loading a tree from a staging table: the paths are computed by the set, and the rows inserted in
//! path order, parents first, with their paths already in them.
//!
//! The row triggers then have nothing left to do and let the rows pass (`maintain::with_paths_given`).
//! That is only done where no trigger of the user's own changes a row before it is stored, and the columns
//! need no conversion. Otherwise the triggers place every row once more.

use super::attach::Tree;
use super::locks::{self, Work};
use super::{deferred, faults, maintain, path};
use crate::catalog::{self, Table, ident, rows};
use crate::error::Refusal;
use crate::pg::{caller, role, session, settings, stale, xact};
use crate::tenant::binding;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::ffi::CString;

/// Links walked at most to say why a row cannot be placed.
const MAX_WALK: i32 = 100_000;

struct Load {
    tree: Tree,
    staging: Table,
    org: Option<String>,
    /// The columns besides org, id, parent, path and depth, as SQL identifiers.
    others: Vec<String>,
    /// Staging rows carry their org; else they are the bound one's.
    has_org: bool,
    /// Every column is stored as it comes, without a conversion.
    as_is: bool,
}

pub fn load_tree(target: Oid, staging: Oid) -> i64 {
    let load = Load::new(target, staging);
    load.refuse_twice();
    let skips_rows = load.has_row_triggers();
    let may_mark = load.as_is && !skips_rows && !role::is_behind_row_security(staging);
    // Before the statement takes its snapshot: the parents it finds are to stay where they are.
    locks::take(target, load.org.as_deref(), Work::Place);
    load.refuse_deferred();
    load.refuse_other_parents();
    let insert = || {
        let args: Vec<&str> = load.org.iter().map(String::as_str).collect();
        // The links are hashed once, not once a level, where the hash fits.
        let memory = CString::new(format!("{}kB", work_mem().max(256 * 1024))).expect("a number");
        settings::with(&[(c"work_mem", &memory)], || caller::write(target, &load.insert(), &args))
    };
    let written = if may_mark { maintain::with_paths_given(target, insert) } else { insert() } as i64;
    load.refuse_other_staging();
    if written != load.staged() {
        load.refuse_unplaced(skips_rows)
    }
    written
}

fn work_mem() -> i64 {
    rows(
        "SELECT setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'work_mem'",
        &[],
        |row| catalog::text(row, 1),
    )
    .first()
    .and_then(|kilobytes| kilobytes.parse().ok())
    .unwrap_or(0)
}

impl Load {
    fn new(target: Oid, staging: Oid) -> Load {
        let tree = Tree::get(target);
        let staging = Table::get(staging);
        let org = session::org();
        if org.is_none() && role::is_behind_row_security(target) {
            binding::refuse_unbound("key")
        }
        let allowed = rows(
            "SELECT has_any_column_privilege($1, 'INSERT') AND has_any_column_privilege($2, 'SELECT')",
            &[target.into(), staging.oid.into()],
            |row| row.get::<bool>(1).ok().flatten().unwrap_or(false),
        );
        if allowed != [true] {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for {} or {}", tree.table.shown(), staging.shown()),
            )
            .hint("Loading takes INSERT on the tree and SELECT on the staging table.")
            .raise()
        }
        let columns = rows(
            "SELECT s.attname::text, t.attname IS NOT NULL, coalesce(t.attgenerated <> '', false),
                    coalesce(t.atttypid = s.atttypid AND t.atttypmod = s.atttypmod, false),
                    coalesce(t.atttypid = s.atttypid AND t.attcollation = s.attcollation, false)
               FROM pg_attribute s LEFT JOIN pg_attribute t
                 ON t.attrelid = $1 AND t.attname = s.attname AND t.attnum > 0 AND NOT t.attisdropped
              WHERE s.attrelid = $2 AND s.attnum > 0 AND NOT s.attisdropped ORDER BY s.attnum",
            &[target.into(), staging.oid.into()],
            |row| {
                let flag = |n: usize| row.get::<bool>(n).ok().flatten().unwrap_or(false);
                (catalog::text(row, 1), flag(2), flag(3), flag(4), flag(5))
            },
        );
        let c = &tree.columns;
        let (mut others, mut as_is, mut found) = (Vec::new(), true, Vec::new());
        for (name, known, generated, same, same_key) in columns {
            if name == c.path || name == c.depth || generated {
                continue;
            }
            if !known {
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                    format!("column \"{name}\" of {} is none of {}", staging.shown(), tree.table.shown()),
                )
                .hint("Columns are matched by name; drop it, or rename it.")
                .raise()
            }
            if [&c.org, &c.id, &c.parent].contains(&&name) {
                if !same_key {
                    Refusal::new(
                        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                        format!(
                            "column \"{name}\" of {} has not the type and collation that it has in {}",
                            staging.shown(),
                            tree.table.shown()
                        ),
                    )
                    .hint(format!("CREATE TABLE … (LIKE {});", tree.table.sql()))
                    .raise()
                }
                found.push(name);
            } else {
                as_is &= same;
                others.push(ident(&name));
            }
        }
        for name in [&c.id, &c.parent] {
            if !found.contains(name) {
                let _refuses = staging.expect_column(name);
            }
        }
        let has_org = found.contains(&c.org);
        if !has_org && org.is_none() {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("{} has no column \"{}\", and no org is bound", staging.shown(), c.org),
            )
            .hint("Bind the org that the rows are of, or give each row its own.")
            .raise()
        }
        Load { tree, staging, org, others, has_org, as_is }
    }

    /// Triggers of the user's own that see a row before it is stored: they may change or skip it.
    fn has_row_triggers(&self) -> bool {
        !rows(
            "SELECT 1 FROM pg_trigger
              WHERE (tgrelid = $1 OR tgrelid IN (SELECT relid FROM pg_partition_tree($1)))
                AND tgtype & 7 = 7 AND NOT tgisinternal AND tgname <> 'zz_crm_tree_place_insert' LIMIT 1",
            &[self.tree.table.oid.into()],
            |_| (),
        )
        .is_empty()
    }

    /// The org of a staging row.
    fn org_of(&self, alias: &str) -> String {
        let s = &self.tree.sql;
        if self.has_org { format!("{alias}.{}", s.org) } else { format!("$1::{}", s.org_type) }
    }

    /// Only rows of the bound org are taken; the count then tells that there were others.
    fn bound(&self, alias: &str) -> String {
        if self.org.is_some() && self.has_org {
            format!("AND {}", self.tree.sql.in_org(alias))
        } else {
            String::new()
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.tree.sql.id_type.as_str(), "pg_catalog.text" | "character varying")
    }

    /// Everything in it is qualified: it runs under the caller's search_path, for the triggers' sake.
    fn insert(&self) -> String {
        let s = &self.tree.sql;
        let (and, concat, less) =
            ("OPERATOR(pg_catalog.=)", "OPERATOR(pg_catalog.||)", "OPERATOR(pg_catalog.<)");
        let id_text = format!("s.{}::pg_catalog.text", s.id);
        let mut good = self.bound("s");
        if self.is_text() {
            good.push_str(&format!(
                " AND {id_text} OPERATOR(pg_catalog.<>) '' AND pg_catalog.strpos({id_text}, '/') {and} 0"
            ));
        }
        let org = self.org_of("s");
        let node = |above: &str, depth: &str| {
            format!(
                "SELECT {org}, s.{id}, s.{parent}, {above} {concat} {id_text} {concat} '/', {depth}",
                id = s.id,
                parent = s.parent
            )
        };
        let deeper = |of: &str| format!("{of} OPERATOR(pg_catalog.+) 1");
        let same_org = |alias: &str, column: &str| format!("{alias}.{column} {and} {org}");
        let places = format!(
            "WITH RECURSIVE w(org, id, parent, path, depth) AS (
                 ({roots} FROM {staging} s WHERE s.{parent} IS NULL {good}
                  UNION ALL
                  {below} FROM {staging} s JOIN {table} p ON {p_org} AND p.{id} {and} s.{parent}
                   WHERE p.{path} IS NOT NULL AND p.{depth} {less} {max} {good})
                 UNION ALL
                 {on} FROM w JOIN {staging} s ON {w_org} AND s.{parent} {and} w.id WHERE w.depth {less} {max} {good})",
            roots = node("'/'::pg_catalog.text", "0"),
            below = node(&format!("p.{}", s.path), &deeper(&format!("p.{}", s.depth))),
            on = node("w.path", &deeper("w.depth")),
            staging = self.staging.sql(),
            table = s.table,
            parent = s.parent,
            id = s.id,
            path = s.path,
            depth = s.depth,
            p_org = same_org("p", &s.org),
            w_org = same_org("w", "org"),
            max = s.max_depth,
        );
        let others: String = self.others.iter().map(|name| format!(", {name}")).collect();
        let (values, join): (String, String) = if self.others.is_empty() {
            (String::new(), String::new())
        } else {
            (
                self.others.iter().map(|name| format!(", s.{name}")).collect(),
                format!(
                    "JOIN {} s ON {} AND s.{} {and} w.id",
                    self.staging.sql(),
                    same_org("w", "org"),
                    s.id
                ),
            )
        };
        format!(
            "{places}
             INSERT INTO {table} ({org}, {id}, {parent}, {path}, {depth}{others})
             SELECT w.org, w.id, w.parent, w.path, w.depth{values} FROM w {join}
              WHERE pg_catalog.octet_length(w.path) OPERATOR(pg_catalog.<=) {bytes}
              ORDER BY w.org, w.path COLLATE pg_catalog.\"C\"",
            table = s.table,
            org = s.org,
            id = s.id,
            parent = s.parent,
            path = s.path,
            depth = s.depth,
            bytes = path::MAX_BYTES,
        )
    }

    /// A query on the staging table, of what the insert sees: `$1` is the bound org, unused where there is
    /// none.
    fn ask(&self, sql: &str) -> Vec<[Option<String>; 3]> {
        caller::read(sql, &[self.org.as_deref()])
    }

    /// The same of what the transaction sees. Where it keeps one snapshot, that may be something else.
    fn ask_by_snapshot(&self, sql: &str) -> Vec<[Option<String>; 3]> {
        rows(sql, &[self.org.clone().into()], |row| [1, 2, 3].map(|n| catalog::opt_text(row, n)))
    }

    /// Places are what is so now, but the rows to be loaded are those that the transaction may have looked
    /// at before: told by their versions.
    fn refuse_other_staging(&self) {
        let versions = format!(
            "SELECT sum(hashtextextended(ROW(s.tableoid, s.ctid, s.xmin)::text, 0))::text, NULL, NULL FROM {} s",
            self.staging.sql()
        );
        if xact::keeps_one_snapshot() && self.ask(&versions) != self.ask_by_snapshot(&versions) {
            self.refuse_snapshot(format!("{} was changed", self.staging.shown()))
        }
    }

    /// The foreign key goes by the snapshot, and places do not: both have to find the parents.
    fn refuse_other_parents(&self) {
        let orphans = self.orphans();
        if xact::keeps_one_snapshot()
            && self.ask(&orphans).is_empty() != self.ask_by_snapshot(&orphans).is_empty()
        {
            self.refuse_snapshot(format!("a parent in {} was inserted or deleted", self.tree.table.shown()))
        }
    }

    /// Is the node that a staging row names in this column in the tree?
    fn there(&self, key: &str) -> String {
        let s = &self.tree.sql;
        format!(
            "SELECT FROM {table} t WHERE t.{o} = {org} AND t.{id} = s.{key}",
            table = s.table,
            o = s.org,
            org = self.org_of("s"),
            id = s.id,
        )
    }

    /// Rows whose parents are neither in the tree nor in the staging table: one of them.
    fn orphans(&self) -> String {
        let s = &self.tree.sql;
        format!(
            "SELECT s.{id}::text, s.{parent}::text, NULL FROM {staging} s
              WHERE s.{parent} IS NOT NULL AND NOT EXISTS ({in_tree})
                AND NOT EXISTS (SELECT FROM {staging} p WHERE {p_org} = {org} AND p.{id} = s.{parent}) LIMIT 1",
            id = s.id,
            parent = s.parent,
            staging = self.staging.sql(),
            in_tree = self.there(&s.parent),
            p_org = self.org_of("p"),
            org = self.org_of("s"),
        )
    }

    fn refuse_snapshot(&self, what: String) -> ! {
        self.refuse(
            Refusal::new(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("{what} after this transaction took its snapshot, which does not show it"),
            )
            .hint("Begin again; a load is best done at READ COMMITTED."),
        )
    }

    fn staged(&self) -> i64 {
        let found = self.ask(&format!("SELECT count(*)::text, NULL, NULL FROM {}", self.staging.sql()));
        found.first().and_then(|[n, ..]| n.as_ref()?.parse().ok()).unwrap_or(0)
    }

    /// Twice the same node is twice what lies below it, at every level.
    fn refuse_twice(&self) {
        let (s, org) = (&self.tree.sql, self.org_of("s"));
        let unique: Vec<&str> = if self.has_org {
            vec![&self.tree.columns.org, &self.tree.columns.id]
        } else {
            vec![&self.tree.columns.id]
        };
        if super::attach::has_index(&self.staging, &unique, true) {
            return;
        }
        let twice = self.ask(&format!(
            "SELECT s.{id}::text, NULL, NULL FROM {staging} s GROUP BY {org}, s.{id} HAVING count(*) > 1 LIMIT 1",
            id = s.id,
            staging = self.staging.sql()
        ));
        if let Some([Some(id), ..]) = twice.first() {
            self.refuse(
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
                    format!("{} has node {} more than once", self.staging.shown(), faults::shown(id)),
                )
                .hint("Keep one row a node."),
            )
        }
    }

    /// The paths of parents are read as they are stored.
    fn refuse_deferred(&self) {
        let is_staged = |org: &String| {
            let sql = format!(
                "SELECT 'x', NULL, NULL FROM {} s WHERE {} = {}::{} LIMIT 1",
                self.staging.sql(),
                self.org_of("s"),
                catalog::literal(org),
                self.tree.sql.org_type
            );
            !self.ask(&sql).is_empty()
        };
        let flagged = match &self.org {
            Some(org) => deferred::is_flagged(&(self.tree.table.oid, org.clone())).then(|| org.clone()),
            None => stale::flagged_orgs(self.tree.table.oid, stale::Seen::Now).into_iter().find(is_staged),
        };
        if let Some(org) = flagged {
            let table = catalog::literal(&self.tree.table.sql());
            self.refuse(
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("the paths of org {org:?} are deferred, and a load builds on them"),
                )
                .hint(format!(
                    "Repair first: SELECT * FROM crm_tree.repair_tree({table}, {}); or INSERT, which goes by the parent links.",
                    catalog::literal(&org)
                )),
            )
        }
    }

    fn refuse(&self, refusal: Refusal) -> ! {
        faults::raise(refusal, &self.tree.table.schema, &self.tree.table.name)
    }

    /// Says why not every row was inserted. Returns where a trigger of the table's own may have had it
    /// so.
    fn refuse_unplaced(&self, skips_rows: bool) {
        let (s, staging) = (&self.tree.sql, self.staging.sql());
        let (id, parent, org) = (&s.id, &s.parent, self.org_of("s"));
        let nulls = format!("{org} IS NULL OR s.{id} IS NULL");
        let null = self.ask(&format!("SELECT 'x', NULL, NULL FROM {staging} s WHERE {nulls} LIMIT 1"));
        if !null.is_empty() {
            self.refuse(Refusal::new(
                PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                format!("{} has rows without an org or an id", self.staging.shown()),
            ))
        }
        if let Some(bound) = &self.org
            && let [[Some(other), ..], ..] = &self.ask(&format!(
                "SELECT ({org})::text, NULL, NULL FROM {staging} s WHERE {org} <> $1::{} LIMIT 1",
                s.org_type
            ))[..]
        {
            self.refuse(
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                    format!("{} has rows of org {other:?}, and org {bound:?} is bound", self.staging.shown()),
                )
                .hint("Load org by org, each bound to its own."),
            )
        }
        if self.is_text()
            && let [[Some(bad), ..], ..] = &self.ask(&format!(
                "SELECT s.{id}::text, NULL, NULL FROM {staging} s WHERE s.{id}::text = '' OR strpos(s.{id}::text, '/') > 0 LIMIT 1"
            ))[..]
        {
            self.refuse(faults::bad_id(bad))
        }
        if let [[Some(id), Some(parent), _], ..] = &self.ask(&self.orphans())[..] {
            self.refuse(faults::no_parent(id, parent))
        }
        // What is left is on a cycle or below one, or too deep: the links upwards from one such row.
        let way = self.ask(&format!(
            "WITH RECURSIVE up(org, id, parent, n, seen) AS (
                 (SELECT {org}, s.{id}, s.{parent}, 1, ARRAY[s.{id}::text] FROM {staging} s
                   WHERE NOT EXISTS ({in_tree}) ORDER BY s.{id} LIMIT 1)
                 UNION ALL
                 SELECT up.org, s.{id}, s.{parent}, up.n + 1, up.seen || s.{id}::text
                   FROM up JOIN {staging} s ON {org} = up.org AND s.{id} = up.parent
                  WHERE NOT s.{id}::text = ANY (up.seen) AND up.n < {MAX_WALK})
             SELECT up.id::text, up.parent::text,
                    (SELECT t.{path} FROM {table} t WHERE t.{o} = up.org AND t.{id} = up.parent) FROM up ORDER BY up.n",
            in_tree = self.there(id),
            path = s.path,
            table = s.table,
            o = s.org,
        ));
        let ids: Vec<String> = way.iter().filter_map(|[id, ..]| id.clone()).collect();
        if let (Some(start), Some([_, last_parent, above])) = (ids.first(), way.last()) {
            let turning = last_parent.as_ref().and_then(|parent| ids.iter().position(|id| id == parent));
            if let Some(from) = turning {
                self.refuse(faults::cycle(&ids[from..]))
            }
            let above = above.as_deref().unwrap_or("/");
            if let Some(refusal) = faults::beyond_limits(&ids, above, s.max_depth) {
                self.refuse(refusal)
            }
            if !skips_rows {
                self.refuse(
                    Refusal::new(
                        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                        format!("node {} could not be placed", faults::shown(start)),
                    )
                    .detail("The staging table changed meanwhile, or its parent in the tree has no path.")
                    .hint("Load again; if it stays, look at crm_tree.check_tree()."),
                )
            }
        }
    }
}
