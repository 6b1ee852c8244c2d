//! Second parents: making a table a tree's further edges, and letting it go.

use super::attach::{self, Tree, has_index, refuse_other_wall, refuse_partition};
use super::judge;
use super::shape::is_key_type;
use crate::catalog::{self, Table, ddl, ident, literal, rows};
use crate::error::{Refusal, given};
use crate::pg::relation::{self, Remembered};
use crate::pg::spi::{self as plans, Arg};
use crate::pg::{role, scan, trigger};
use crate::tenant::wall;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

/// A tree with second parents, as the registry has it.
pub struct Links {
    pub links: pg_sys::Oid,
    pub tree: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// Columns of the links.
    pub org: String,
    pub parent: String,
    pub child: String,
    pub pct: Option<String>,
    /// Columns of the tree.
    pub tree_org: String,
    pub tree_id: String,
    pub tree_parent: String,
    pub tree_pct: Option<String>,
}

/// The statement triggers that name all columns of an edge: by their numbers, which a name does not follow.
const LOCK_UPDATE: &CStr = c"crm_tree_lock_links_update";
const LOCK_OWNERSHIP: &CStr = c"crm_tree_lock_ownership";

pub const OTHER_COLUMNS: &str =
    "have lost triggers, or have other columns by the names of those that they were attached with";

type Kept = Option<Rc<(Links, LinkSql)>>;

thread_local! {
    static KEPT: RefCell<Remembered<Kept>> = RefCell::default();
}

impl Links {
    /// The tree with second parents that this relation is a side of, or a partition of a side.
    pub fn of(relation: pg_sys::Oid) -> Option<Links> {
        let root = relation::partition_root(relation).to_u32().to_string();
        let columns = "l.relation::pg_catalog.oid::pg_catalog.text, l.tree::pg_catalog.oid::pg_catalog.text, l.org_column, l.parent_column,
                       l.child_column, l.pct_column, l.tree_pct_column, t.org_column::pg_catalog.text, t.id_column::pg_catalog.text, t.parent_column::pg_catalog.text";
        let join = "crm_tree.tree_links l JOIN crm_tree.tree t
                       ON t.relation::pg_catalog.oid OPERATOR(pg_catalog.=) l.tree::pg_catalog.oid
                    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation::pg_catalog.oid";
        let [links, tree, org, parent, child, pct, tree_pct, tree_org, tree_id, tree_parent] =
            role::as_extension_owner(|| {
                plans::read::<10>(
                    &format!(
                        "SELECT {columns} FROM {join} WHERE l.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
                         UNION ALL
                         SELECT {columns} FROM {join} WHERE l.tree::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid"
                    ),
                    vec![Arg::Text(&root)],
                )
            })
            .into_iter()
            .next()?;
        let oid = |text: Option<String>| text?.parse::<u32>().ok().map(pg_sys::Oid::from);
        let tree = oid(tree)?;
        Some(Links {
            links: oid(links)?,
            tree,
            owner: relation::facts(tree).owner,
            org: org?,
            parent: parent?,
            child: child?,
            pct,
            tree_org: tree_org?,
            tree_id: tree_id?,
            tree_parent: tree_parent?,
            tree_pct,
        })
    }

    /// The same from memory, with its statements: for what is asked row by row.
    pub fn kept(relation: pg_sys::Oid) -> Kept {
        Remembered::get(&KEPT, relation, || {
            Self::of(relation).map(|links| {
                links.refuse_other_columns();
                let sql = links.sql();
                Rc::new((links, sql))
            })
        })
    }

    pub fn refuse_other_columns(&self) {
        if self.has_other_columns() {
            let facts = relation::facts(self.links);
            Refusal::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the second parents in {}.{} {OTHER_COLUMNS}", facts.schema, facts.name),
            )
            .hint("Run crm_tree.attach_links() again.")
            .table(&facts.schema, &facts.name)
            .raise()
        }
    }

    /// The ends of the edges whose foreign key is gone: what it refers to can be deleted.
    pub fn ends_without_key(&self) -> impl Iterator<Item = &str> {
        [&self.parent, &self.child]
            .into_iter()
            .map(String::as_str)
            .filter(|end| !has_key(self.links, self.tree, [&self.org, end]))
    }

    /// Have columns taken the names of others? Some of the triggers still go by the old ones.
    pub fn has_other_columns(&self) -> bool {
        let mut written = vec![&self.org, &self.parent, &self.child];
        written.extend(&self.pct);
        let on_links = trigger::is_update_of(self.links, LOCK_UPDATE, &written);
        let on_tree = match &self.tree_pct {
            Some(share) => trigger::is_update_of(self.tree, LOCK_OWNERSHIP, &[share]),
            None => Some(true),
        };
        (on_links, on_tree) != (Some(true), Some(true))
    }

    pub fn sql(&self) -> LinkSql {
        let table = |oid| {
            let facts = relation::facts(oid);
            format!("{}.{}", ident(&facts.schema), ident(&facts.name))
        };
        let type_in = |table: pg_sys::Oid, column: &str| {
            trigger::column_number(table, column)
                .map(|number| relation::column_type(table, number))
                .unwrap_or_else(|| refuse_lost_column(column))
        };
        let type_of = |column: &str| type_in(self.tree, column);
        // A type of an owner's own could run code of his, as whoever these are run as.
        let keys = [(&self.org, &self.tree_org), (&self.parent, &self.tree_id), (&self.child, &self.tree_id)];
        let right =
            keys.iter().all(|(column, like)| {
                let found = type_in(self.links, column);
                is_key_type(&found) && found == type_of(like)
            }) && [(self.links, &self.pct), (self.tree, &self.tree_pct)].iter().all(|(table, share)| {
                share.as_ref().is_none_or(|column| NUMBERS.contains(&type_in(*table, column).as_str()))
            });
        if !right {
            refuse_types(self.links)
        }
        LinkSql {
            links: table(self.links),
            tree: table(self.tree),
            org: ident(&self.org),
            parent: ident(&self.parent),
            child: ident(&self.child),
            pct: self.pct.as_deref().map(ident),
            tree_org: ident(&self.tree_org),
            tree_id: ident(&self.tree_id),
            tree_parent: ident(&self.tree_parent),
            tree_pct: self.tree_pct.as_deref().map(ident),
            org_type: type_of(&self.tree_org),
            id_type: type_of(&self.tree_id),
        }
    }
}

/// None where the nodes of this tree have no second parents; else the column of the tree, where there is
/// one, that says how much of a node its tree edge owns.
pub fn ownership_beside_links(tree: pg_sys::Oid) -> Option<Option<String>> {
    let mut column = None;
    scan::all(c"tree_links", |links| {
        let of_tree = links.oid(c"tree") == Some(tree);
        if of_tree {
            column = Some(links.shown(c"tree_pct_column"));
        }
        of_tree
    });
    column
}

/// Types that a percentage can have, as PostgreSQL writes them.
const NUMBERS: [&str; 6] = ["numeric", "smallint", "integer", "bigint", "real", "double precision"];

fn refuse_types(links: pg_sys::Oid) -> ! {
    let facts = relation::facts(links);
    Refusal::new(
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        format!("the columns of {}.{} have other types than when it was attached", facts.schema, facts.name),
    )
    .hint("Change them back, or run crm_tree.detach_links() and crm_tree.attach_links().")
    .table(&facts.schema, &facts.name)
    .raise()
}

pub fn refuse_lost_column(column: &str) -> ! {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
        format!("a tree with second parents has no column \"{column}\" any more"),
    )
    .hint("After renaming a column run crm_tree.attach_tree() and crm_tree.attach_links() again with the new name.")
    .raise()
}

/// Statements over both kinds of edge. `$1` is the org, `$2` a node. Operators and types are named in
/// full: they run as the tables' owner, under whatever search path the writer has set. A percentage
/// goes by its text, which says all of a binary fraction.
pub struct LinkSql {
    pub links: String,
    pub tree: String,
    pub org: String,
    pub parent: String,
    pub child: String,
    pub pct: Option<String>,
    pub tree_org: String,
    pub tree_id: String,
    pub tree_parent: String,
    pub tree_pct: Option<String>,
    pub org_type: String,
    pub id_type: String,
}

impl LinkSql {
    pub fn any(&self) -> String {
        format!(
            "SELECT ''::pg_catalog.text FROM {} l WHERE l.{} OPERATOR(pg_catalog.=) $1::{} LIMIT 1",
            self.links, self.org, self.org_type
        )
    }

    /// The parents of the node `of`, in every way.
    fn parents(&self, of: &str) -> String {
        format!(
            "SELECT t.{tree_parent} FROM {tree} t
              WHERE t.{tree_org} OPERATOR(pg_catalog.=) $1::{org_type} AND t.{tree_id} OPERATOR(pg_catalog.=) {of}
                AND t.{tree_parent} IS NOT NULL
             UNION ALL
             SELECT l.{parent} FROM {links} l
              WHERE l.{org} OPERATOR(pg_catalog.=) $1::{org_type} AND l.{child} OPERATOR(pg_catalog.=) {of}",
            tree_parent = self.tree_parent,
            tree = self.tree,
            tree_org = self.tree_org,
            tree_id = self.tree_id,
            org_type = self.org_type,
            parent = self.parent,
            links = self.links,
            org = self.org,
            child = self.child,
        )
    }

    /// The node and all above it, each once; `start` tells the node itself from finding it again.
    fn above(&self) -> String {
        format!(
            "WITH RECURSIVE up(id, start) AS (
                 SELECT $2::{id_type}, true
                 UNION
                 SELECT e.id, false FROM up CROSS JOIN LATERAL ({parents}) e(id))",
            id_type = self.id_type,
            parents = self.parents("up.id"),
        )
    }

    /// Is the node its own ancestor?
    pub fn turns(&self) -> String {
        format!(
            "{} SELECT ''::pg_catalog.text FROM up WHERE NOT up.start AND up.id OPERATOR(pg_catalog.=) $2::{} LIMIT 1",
            self.above(),
            self.id_type
        )
    }

    /// The edges above the node: child, parent.
    pub fn edges_above(&self) -> String {
        format!(
            "{} SELECT DISTINCT up.id::pg_catalog.text, e.id::pg_catalog.text FROM up CROSS JOIN LATERAL ({}) e(id)",
            self.above(),
            self.parents("up.id")
        )
    }

    /// What is owned of the node, in percent, where that is too much or makes no sense. None where
    /// no column says. `moved`: were it below another, whether it is now or not.
    pub fn overowned(&self, moved: bool) -> Option<String> {
        let of_tree = self.tree_pct.as_ref().map(|pct| {
            format!(
                "SELECT t.{pct}::pg_catalog.text::pg_catalog.numeric FROM {tree} t
                  WHERE t.{tree_org} OPERATOR(pg_catalog.=) $1::{org_type} AND t.{tree_id} OPERATOR(pg_catalog.=) $2::{id_type}
                    AND {has_parent}",
                tree = self.tree,
                tree_org = self.tree_org,
                tree_id = self.tree_id,
                has_parent =
                    if moved { "true".to_owned() } else { format!("t.{} IS NOT NULL", self.tree_parent) },
                org_type = self.org_type,
                id_type = self.id_type,
            )
        });
        let of_links = self.pct.as_ref().map(|pct| {
            format!(
                "SELECT l.{pct}::pg_catalog.text::pg_catalog.numeric FROM {links} l
                  WHERE l.{org} OPERATOR(pg_catalog.=) $1::{org_type} AND l.{child} OPERATOR(pg_catalog.=) $2::{id_type}",
                links = self.links,
                org = self.org,
                child = self.child,
                org_type = self.org_type,
                id_type = self.id_type,
            )
        });
        let shares: Vec<String> = of_tree.into_iter().chain(of_links).collect();
        (!shares.is_empty()).then(|| {
            format!(
                "SELECT pg_catalog.sum(s.pct)::pg_catalog.text, pg_catalog.min(s.pct)::pg_catalog.text FROM ({}) s(pct)
                 HAVING pg_catalog.sum(s.pct) OPERATOR(pg_catalog.>) 100 OR pg_catalog.min(s.pct) OPERATOR(pg_catalog.<) 0",
                shares.join(" UNION ALL ")
            )
        })
    }

    /// What is wrong with the edges as they are stored: org, node, kind, what it is. Of the org `$1`, or of
    /// all. A circle of tree edges alone is the tree's own matter.
    pub fn problems(&self, bound: bool) -> String {
        let only = |column: &str| {
            if bound {
                format!("{column} OPERATOR(pg_catalog.=) $1::{}", self.org_type)
            } else {
                "true".to_owned()
            }
        };
        let turning = format!(
            "WITH RECURSIVE up(org, start, at) AS (
                 SELECT s.{org}, s.{child}, s.{parent} FROM {links} s WHERE {in_org}
                 UNION
                 SELECT up.org, up.start, e.id FROM up CROSS JOIN LATERAL (
                     SELECT t.{tree_parent} FROM {tree} t WHERE t.{tree_org} OPERATOR(pg_catalog.=) up.org AND t.{tree_id} OPERATOR(pg_catalog.=) up.at AND t.{tree_parent} IS NOT NULL
                     UNION ALL
                     SELECT l.{parent} FROM {links} l WHERE l.{org} OPERATOR(pg_catalog.=) up.org AND l.{child} OPERATOR(pg_catalog.=) up.at) e(id)
                  WHERE up.at OPERATOR(pg_catalog.<>) up.start)
             SELECT org::pg_catalog.text, start::pg_catalog.text, 'link_cycle', 'is its own ancestor through a second parent' FROM up WHERE up.at OPERATOR(pg_catalog.=) up.start",
            org = self.org,
            child = self.child,
            parent = self.parent,
            links = self.links,
            tree = self.tree,
            tree_org = self.tree_org,
            tree_id = self.tree_id,
            tree_parent = self.tree_parent,
            in_org = only(&format!("s.{}", self.org)),
        );
        let of_tree = self.tree_pct.as_ref().map(|pct| {
            format!(
                "SELECT t.{org}, t.{}, t.{pct}::pg_catalog.text::pg_catalog.numeric FROM {} t WHERE t.{} IS NOT NULL AND {}",
                self.tree_id,
                self.tree,
                self.tree_parent,
                only(&format!("t.{}", self.tree_org)),
                org = self.tree_org,
            )
        });
        let of_links = self.pct.as_ref().map(|pct| {
            let in_org = only(&format!("l.{}", self.org));
            format!(
                "SELECT l.{}, l.{}, l.{pct}::pg_catalog.text::pg_catalog.numeric FROM {} l WHERE {in_org}",
                self.org, self.child, self.links
            )
        });
        let shares: Vec<String> = of_tree.into_iter().chain(of_links).collect();
        let mut sql = format!("SELECT * FROM ({turning}) turning(org, id, problem, detail)");
        if !shares.is_empty() {
            sql.push_str(&format!(
                " UNION ALL
                 SELECT s.org::pg_catalog.text, s.id::pg_catalog.text, 'ownership', 'is owned beyond 100 percent, or below 0' FROM ({}) s(org, id, pct)
                  GROUP BY s.org, s.id HAVING pg_catalog.sum(s.pct) OPERATOR(pg_catalog.>) 100 OR pg_catalog.min(s.pct) OPERATOR(pg_catalog.<) 0",
                shares.join(" UNION ALL ")
            ));
        }
        sql
    }
}

const ON_LINKS: [&str; 4] = [
    "crm_tree_lock_links_insert",
    "crm_tree_lock_links_update",
    "A_crm_tree_links_insert",
    "A_crm_tree_links_update",
];
/// Behind `A_crm_tree_settle_…` by name: a cycle in the tree alone is refused there.
const ON_TREE: [&str; 2] = ["crm_tree_lock_ownership", "B_crm_tree_links_update"];

impl Links {
    /// The triggers that both tables must have.
    pub fn expected_triggers(&self) -> [(pg_sys::Oid, Vec<&'static str>); 2] {
        let [lock_ownership, settle] = ON_TREE;
        let on_tree = self.tree_pct.iter().map(|_| lock_ownership).chain([settle]).collect();
        [(self.links, ON_LINKS.to_vec()), (self.tree, on_tree)]
    }
}

#[pg_extern(sql = false)]
fn attach_links(
    links: Option<pg_sys::Oid>,
    tree: Option<pg_sys::Oid>,
    parent: Option<&str>,
    child: Option<&str>,
    org: Option<&str>,
    pct: Option<&str>,
    tree_pct: Option<&str>,
) {
    let (links, tree) = (given(links, "links"), given(tree, "tree"));
    let [org, parent, child] =
        [(org, "org"), (parent, "parent"), (child, "child")].map(|(argument, name)| given(argument, name));
    // The tree first, as those who write to both mostly do.
    wall::alone_with(tree, |tree| {
        wall::alone_with(links, |links| {
            attach_to(&links, &Tree::get(tree.oid), [org, parent, child], pct, tree_pct);
        });
    });
}

fn attach_to(links: &Table, tree: &Tree, key: [&str; 3], pct: Option<&str>, tree_pct: Option<&str>) {
    refuse_partition(links);
    if links.owner != tree.table.owner || links.oid == tree.table.oid {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} and {} are not two tables of one owner", links.shown(), tree.table.shown()),
        )
        .hint("Edges are checked with the rights of one role: ALTER TABLE … OWNER TO … first.")
        .raise()
    }
    wall::refuse_other_owner(links, &links.descendants());
    wall::refuse_other_owner(&tree.table, &tree.table.descendants());
    let caller = role::current();
    // Whoever calls: what the tables' owner attached to them must not run with more rights than his.
    role::as_table_owner_confined(links.owner, || attach(caller, links, tree, key, pct, tree_pct));
}

fn attach(
    caller: pg_sys::Oid,
    links: &Table,
    tree: &Tree,
    key: [&str; 3],
    pct: Option<&str>,
    tree_pct: Option<&str>,
) {
    let [org, parent, child] = key;
    judge::forget();
    expect_columns(links, tree, key, [(links, pct), (&tree.table, tree_pct)]);
    refuse_other_wall(links, "a tree's second parents", "attach_links", org);
    refuse_other_links(links, tree);
    drop_triggers(links, &ON_LINKS);
    drop_triggers(&tree.table, &ON_TREE);
    add_keys(caller, links, tree, org, parent, child);
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO crm_tree.tree_links AS l (relation, tree, org_column, parent_column, child_column, pct_column, tree_pct_column)
             VALUES ($1::pg_catalog.regclass, $2::pg_catalog.regclass, $3, $4, $5, $6, $7)
             ON CONFLICT (relation) DO UPDATE SET tree = excluded.tree, org_column = excluded.org_column,
                 parent_column = excluded.parent_column, child_column = excluded.child_column,
                 pct_column = excluded.pct_column, tree_pct_column = excluded.tree_pct_column",
            &[
                links.oid.into(),
                tree.table.oid.into(),
                org.into(),
                parent.into(),
                child.into(),
                pct.into(),
                tree_pct.into(),
            ],
        )
    })
    .expect("the registry takes every table of links");
    let attached = Links::of(links.oid).expect("just registered");
    refuse_existing(caller, &attached, links);
    create_triggers(links, tree, key, pct, tree_pct);
}

fn expect_columns(links: &Table, tree: &Tree, key: [&str; 3], shares: [(&Table, Option<&str>); 2]) {
    let types = [&tree.sql.org_type, &tree.sql.id_type, &tree.sql.id_type];
    for (name, type_name) in key.into_iter().zip(types) {
        let column = links.expect_column(name);
        let type_name = type_name.strip_prefix("pg_catalog.").unwrap_or(type_name);
        if column.type_name != type_name {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!(
                    "column \"{name}\" of {} is {} where the tree has {type_name}",
                    links.shown(),
                    column.type_name
                ),
            )
            .hint("Give both the same type.")
            .raise()
        }
        if !column.not_null {
            ddl(&format!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", links.sql(), ident(name)));
        }
    }
    for (table, share) in shares {
        let Some(name) = share else { continue };
        let column = table.expect_column(name);
        if !NUMBERS.contains(&column.type_name.as_str()) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{name}\" of {} is {}, which is no number", table.shown(), column.type_name),
            )
            .hint("A percentage is numeric, for example numeric(7,4).")
            .raise()
        }
        if table.oid == tree.table.oid {
            table.refuse_generated(&column);
        }
    }
}

fn refuse_other_links(links: &Table, tree: &Tree) {
    let others = rows(
        "SELECT relation::text FROM crm_tree._tree_links()
          WHERE (tree = $2 AND relation <> $1) OR (relation = $1 AND tree <> $2)",
        &[links.oid.into(), tree.table.oid.into()],
        |row| catalog::text(row, 1),
    );
    if let Some(other) = others.first() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "{} has its second parents in {other}, or that table is another tree's",
                tree.table.shown()
            ),
        )
        .hint(format!("SELECT crm_tree.detach_links({}); first.", literal(other)))
        .raise()
    }
}

/// The key, the index upwards, and both foreign keys. Deferrable ones do not do: a link could stand
/// before its node, and the insert of a node looks for no links.
fn add_keys(caller: pg_sys::Oid, links: &Table, tree: &Tree, org: &str, parent: &str, child: &str) {
    let (sql, t) = (links.sql(), &tree.sql);
    if !has_index(links, &[org, parent, child], true) {
        let key =
            format!("ALTER TABLE {sql} ADD UNIQUE ({}, {}, {})", ident(org), ident(parent), ident(child));
        role::as_caller(caller, || ddl(&key));
    }
    for end in [parent, child] {
        if !has_index(links, &[org, end], false) {
            role::as_caller(caller, || {
                ddl(&format!("CREATE INDEX ON {sql} ({}, {})", ident(org), ident(end)))
            });
        }
        if !has_key(links.oid, tree.table.oid, [org, end]) {
            let key = format!(
                "ALTER TABLE {sql} ADD FOREIGN KEY ({}, {}) REFERENCES {} ({}, {}) ON DELETE CASCADE",
                ident(org),
                ident(end),
                t.table,
                t.org,
                t.id
            );
            attach::add_foreign_key(caller, links, &key);
        }
    }
}

/// Is there a foreign key of these columns of the links to the tree?
fn has_key(links: pg_sys::Oid, tree: pg_sys::Oid, columns: [&str; 2]) -> bool {
    let existing = rows(
        "SELECT 1 FROM pg_catalog.pg_constraint k
          WHERE k.conrelid = $1 AND k.confrelid = $2 AND k.contype = 'f' AND NOT k.condeferrable AND k.convalidated
            AND (SELECT array_agg(a.attname::text ORDER BY u.n)
                   FROM unnest(k.conkey) WITH ORDINALITY AS u(num, n)
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = u.num) = $3",
        &[links.into(), tree.into(), columns.map(str::to_owned).to_vec().into()],
        |_| (),
    );
    !existing.is_empty()
}

/// Judges the links that are there already, by the set, and as they are now: a transaction that keeps its
/// snapshot may not see all of them.
fn refuse_existing(caller: pg_sys::Oid, attached: &Links, links: &Table) {
    let sql = format!(
        "SELECT p.detail, p.org, p.id FROM ({}) p(org, id, problem, detail) LIMIT 1",
        attached.sql().problems(false)
    );
    let bad = role::as_table_owner_confined(links.owner, || plans::read::<3>(&sql, vec![])).pop();
    if let Some([Some(what), Some(org), Some(id)]) = bad {
        let node = attach::shown_node(caller, &[links.oid, attached.tree], &org, &id);
        Refusal::new(
            PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
            format!("{} cannot be second parents: {node} {what}", links.shown()),
        )
        .hint("Mend the links first; nothing was changed.")
        .table(&links.schema, &links.name)
        .raise()
    }
}

fn create_triggers(links: &Table, tree: &Tree, key: [&str; 3], pct: Option<&str>, tree_pct: Option<&str>) {
    let written: Vec<String> = key.into_iter().chain(pct).map(ident).collect();
    let create = |name: &str, table: &Table, when: &str, each: &str, function: &str| {
        ddl(&format!(
            "CREATE TRIGGER {} {when} ON {} FOR EACH {each} EXECUTE FUNCTION crm_tree.{function}()",
            ident(name),
            table.sql()
        ));
    };
    let [lock_insert, lock_update, settle_insert, settle_update] = ON_LINKS;
    create(lock_insert, links, "BEFORE INSERT", "STATEMENT", "_links_lock");
    create(
        lock_update,
        links,
        &format!("BEFORE UPDATE OF {}", written.join(", ")),
        "STATEMENT",
        "_links_lock",
    );
    let distinct = |name: &String| format!("OLD.{name} IS DISTINCT FROM NEW.{name}");
    let changed = |names: &[String]| names.iter().map(distinct).collect::<Vec<_>>().join(" OR ");
    create(settle_insert, links, "AFTER INSERT", "ROW", "_links_settle");
    create(
        settle_update,
        links,
        "AFTER UPDATE",
        &format!("ROW WHEN ({})", changed(&written)),
        "_links_settle",
    );
    let [lock_ownership, tree_update] = ON_TREE;
    let parent = tree.sql.parent.clone();
    if let Some(share) = tree_pct.map(ident) {
        create(lock_ownership, &tree.table, &format!("BEFORE UPDATE OF {share}"), "STATEMENT", "_links_lock");
    }
    let moved: Vec<String> = std::iter::once(parent).chain(tree_pct.map(ident)).collect();
    create(
        tree_update,
        &tree.table,
        "AFTER UPDATE",
        &format!("ROW WHEN ({})", changed(&moved)),
        "_links_settle",
    );
}

fn drop_triggers(table: &Table, names: &[&str]) {
    for name in names {
        let exists = rows(
            "SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND tgname = $2::name",
            &[table.oid.into(), (*name).into()],
            |_| (),
        );
        if !exists.is_empty() {
            ddl(&format!("DROP TRIGGER {} ON {}", ident(name), table.sql()));
        }
    }
}

#[pg_extern(sql = false)]
fn detach_links(links: pg_sys::Oid) {
    let links = Table::get(links);
    links.expect_owner();
    let Some(attached) = Links::of(links.oid).filter(|a| a.links == links.oid) else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} holds no tree's second parents", links.shown()),
        )
        .raise()
    };
    detach(&links, attached.tree);
}

/// Lets a tree's second parents go with it.
pub fn detach_from_tree(tree: &Table) {
    if let Some(attached) = Links::of(tree.oid).filter(|a| a.tree == tree.oid) {
        let links = Table::get(attached.links);
        links.expect_owner();
        detach(&links, tree.oid);
    }
}

fn detach(links: &Table, tree: pg_sys::Oid) {
    judge::forget();
    for (table, names) in [(links, &ON_LINKS[..]), (&Table::get(tree), &ON_TREE[..])] {
        role::as_table_owner_confined(table.owner, || drop_triggers(table, names));
    }
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "DELETE FROM crm_tree.tree_links WHERE relation OPERATOR(pg_catalog.=) $1",
            &[links.oid.into()],
        )
    })
    .expect("the registry lets every table of links go");
}
