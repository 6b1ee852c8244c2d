//! How a table is a tree: its columns, types and rules, as a trigger's arguments say.

use super::path;
use crate::catalog::{Table, ident};
use crate::error::Refusal;
use crate::pg::node::{KeyIndex, Numbers, Place};
use crate::pg::{relation, role, scan, session, trigger};
use crate::telemetry::{self, counts::Kind};
use crate::tenant::binding;
use crate::tenant::wall::{self, OrgType};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

/// The names in the order in which a trigger carries them as arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub org: String,
    pub id: String,
    pub parent: String,
    pub path: String,
    pub depth: String,
}

/// What becomes of the children of a node that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    Restrict,
    Adopt,
    Rootify,
    Cascade,
}

impl OnDelete {
    pub fn parse(text: &str) -> Option<OnDelete> {
        match text {
            "restrict" => Some(OnDelete::Restrict),
            "adopt" => Some(OnDelete::Adopt),
            "rootify" => Some(OnDelete::Rootify),
            "cascade" => Some(OnDelete::Cascade),
            _ => None,
        }
    }

    /// Is it what a foreign key does that PostgreSQL gives this letter?
    pub fn is_done_by(self, letter: &str) -> bool {
        match self {
            OnDelete::Restrict | OnDelete::Adopt => matches!(letter, "a" | "r"),
            OnDelete::Rootify => letter == "n",
            OnDelete::Cascade => letter == "c",
        }
    }
}

/// The trigger that carries the arguments for all of its table's.
pub const BEARER: &CStr = c"zz_crm_tree_place_insert";

/// The statement trigger that names all of a tree's columns: by their numbers, which a name does not follow.
pub const LOCK_UPDATE: &CStr = c"crm_tree_lock_update";

/// The table is partitioned, has children, or no plain unique index on its key alone.
pub struct NoIndex;

/// A tree as one of its relations (the table, or a partition) sees it.
#[derive(Debug)]
pub struct Shape {
    /// The table that was attached: the root where partitioned.
    pub root: Oid,
    pub owner: Oid,
    pub schema: String,
    pub name: String,
    pub columns: Columns,
    pub org_type: String,
    pub id_type: String,
    pub max_depth: i32,
    /// Do children of a deleted node go to the one above it?
    pub adopts: bool,
    /// Does the registry have this tree, with these columns?
    registered: bool,
    /// Is the table behind the wall, by the org column of the tree?
    pub walled: bool,
    /// The table of its history, as written in SQL, where one is kept.
    pub history: Option<String>,
    /// Attribute numbers in the relation the trigger fired on.
    pub org: i16,
    pub id: i16,
    pub parent: i16,
    pub path: i16,
    pub depth: i16,
    /// How many percent of the node its parent owns, where second parents share in it too.
    pub ownership: Option<i16>,
    /// Do its nodes have second parents?
    pub linked: bool,
    /// Finds a node without a plan, where the table has what that takes.
    key_index: Option<KeyIndex>,
}

/// The columns of a tree, as the registry has them.
fn registered(relation: Oid) -> Option<Columns> {
    let mut columns = None;
    scan::by_relation(c"tree", c"tree_pkey", relation, |tree| {
        let name = |column| tree.shown(column).unwrap_or_default();
        columns = Some(Columns {
            org: name(c"org_column"),
            id: name(c"id_column"),
            parent: name(c"parent_column"),
            path: name(c"path_column"),
            depth: name(c"depth_column"),
        });
        true
    });
    columns
}

/// The types of org, id and parent, as PostgreSQL writes them.
pub fn is_key_type(name: &str) -> bool {
    OrgType::of(name.strip_prefix("pg_catalog.").unwrap_or(name)).is_some()
}

/// Checks that the columns of an attached tree still have types that a tree can have, and answers
/// the id's. A type of the owner's own could run code of his, as whoever looks at his tree.
pub fn expect_types(table: &Table, c: &Columns) -> String {
    let [id, parent, path, depth] =
        [&c.id, &c.parent, &c.path, &c.depth].map(|name| table.expect_column(name).type_name);
    if OrgType::of(&id).is_none() || parent != id || path != "text" || depth != "integer" {
        refuse_types(&table.schema, &table.name)
    }
    id
}

fn refuse_types(schema: &str, name: &str) -> ! {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        format!("the columns of tree {schema}.{name} have other types than when it was attached"),
    )
    .hint("Change them back, or run crm_tree.detach_tree() and crm_tree.attach_tree().")
    .table(schema, name)
    .raise()
}

thread_local! {
    static SHAPES: RefCell<HashMap<(Oid, Oid), Rc<Shape>>> = RefCell::new(HashMap::new());
}

impl Shape {
    pub fn of(call: &trigger::Call<'_>) -> Rc<Shape> {
        let relation = call.relation();
        if relation::changed() {
            SHAPES.with(|s| s.borrow_mut().clear());
        }
        // A trigger may have arguments of its own: a table can have two that differ in them.
        let key = (relation, call.trigger());
        let known = SHAPES.with(|s| s.borrow().get(&key).cloned());
        let shape = known.unwrap_or_else(|| {
            let shape = Rc::new(Shape::read(relation, &call.args_or_of(BEARER)));
            SHAPES.with(|s| s.borrow_mut().insert(key, shape.clone()));
            shape
        });
        // Maintenance has the owner's rights and goes past his row security. Whoever holds TRIGGER on his
        // table, and he himself, could make it work by other columns. A restore may bring the triggers
        // before the registry's rows.
        let may_all = role::passes_row_security() && role::has_privileges_of(role::current(), shape.owner);
        if !shape.registered && !may_all {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!(
                    "{}.{} is not a tree by the columns that its trigger names",
                    shape.schema, shape.name
                ),
            )
            .hint("Triggers of a tree are made by crm_tree.attach_tree() only; run it again.")
            .table(&shape.schema, &shape.name)
            .raise()
        }
        shape
    }

    /// Must a statement that writes rows of this org, or of any (None), be refused by the wall? Then
    /// it is refused before it takes a lock or looks at a row for it.
    pub fn refuse_beyond_wall(&self, org: Option<&str>) {
        let bound = session::org();
        if bound.is_some() && (org.is_none() || org == bound.as_deref()) {
            return;
        }
        if !self.walled || !role::is_behind_row_security(self.root) {
            return;
        }
        match (bound, org) {
            (None, _) => binding::refuse_unbound("key"),
            (Some(bound), Some(org)) if bound != org => {
                telemetry::count(Kind::WallDenied);
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                    format!("new row violates row-level security policy for table \"{}\"", self.name),
                )
                .table(&self.schema, &self.name)
                .raise()
            }
            _ => {}
        }
    }

    fn read(relation: Oid, args: &[String]) -> Shape {
        let root = relation::partition_root(relation);
        let table = relation::facts(root);
        let [org, id, parent, path, depth, max_depth, on_delete] = args else {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                format!(
                    "the tree triggers of {}.{} have {} arguments between them",
                    table.schema,
                    table.name,
                    args.len()
                ),
            )
            .hint("Triggers of a tree are made by crm_tree.attach_tree() only; run it again.")
            .raise()
        };
        let number = |name: &str| {
            trigger::column_number(relation, name).unwrap_or_else(|| {
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                    format!("tree {}.{} has no column \"{name}\" any more", table.schema, table.name),
                )
                .hint("After renaming a column run crm_tree.detach_tree() and crm_tree.attach_tree() with the new name.")
                .table(&table.schema, &table.name)
                .raise()
            })
        };
        let columns = Columns {
            org: org.clone(),
            id: id.clone(),
            parent: parent.clone(),
            path: path.clone(),
            depth: depth.clone(),
        };
        let links = super::links::ownership_beside_links(root);
        let shape = Shape {
            root,
            owner: table.owner,
            org: number(org),
            id: number(id),
            parent: number(parent),
            path: number(path),
            depth: number(depth),
            org_type: relation::column_type(relation, number(org)),
            id_type: relation::column_type(relation, number(id)),
            registered: registered(root).as_ref() == Some(&columns),
            walled: wall::column_of(root).as_ref() == Some(org),
            linked: links.is_some(),
            ownership: links.flatten().map(|column| number(&column)),
            key_index: KeyIndex::of(relation, number(org), number(id)),
            columns,
            max_depth: max_depth.parse().unwrap_or(32),
            adopts: on_delete == "adopt",
            history: role::as_table_owner(table.owner, || super::history::table_of(root)),
            schema: table.schema,
            name: table.name,
        };
        // A column of another type by now would be read, or written, as what it is not.
        let parent_type = relation::column_type(relation, shape.parent);
        let right = is_key_type(&shape.org_type)
            && is_key_type(&shape.id_type)
            && parent_type == shape.id_type
            && relation::column_type(relation, shape.path) == "pg_catalog.text"
            && relation::column_type(relation, shape.depth) == "integer";
        if !right {
            refuse_types(&shape.schema, &shape.name)
        }
        if shape.registered {
            shape.refuse_other_columns();
            if shape.linked {
                let _its_columns_are_the_same = super::links::Links::kept(root);
            }
        }
        shape
    }

    /// Columns that took the names of others: the foreign key and some of the triggers still go by the old ones.
    fn refuse_other_columns(&self) {
        let c = &self.columns;
        // In the order in which they stand after UPDATE OF.
        let named = [&c.org, &c.id, &c.parent, &c.path, &c.depth];
        let what = match trigger::is_update_of(self.root, LOCK_UPDATE, &named) {
            Some(true) => return,
            Some(false) => "has other columns by the names of those that it was attached with",
            None => "has lost some of its triggers",
        };
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("tree {}.{} {what}", self.schema, self.name),
        )
        .hint("Run crm_tree.attach_tree() again.")
        .table(&self.schema, &self.name)
        .raise()
    }

    /// Where the parent of a row stands, by the index of the key: Err where there is no such index to go by.
    pub fn parent_by_index(&self, row: &trigger::Row<'_>) -> Result<Option<Place>, NoIndex> {
        let numbers = Numbers { org: self.org, parent: self.parent, path: self.path, depth: self.depth };
        let index = self.key_index.as_ref().ok_or(NoIndex)?;
        Ok(index.parent_of(row, numbers))
    }

    /// Whoever updates such a column takes the mover's lock at the start of his statement.
    pub fn is_locked(&self, column: i16) -> bool {
        [self.org, self.id, self.parent, self.path, self.depth].contains(&column)
            || self.ownership == Some(column)
    }

    /// The SQL of this tree's statements.
    pub fn sql(&self) -> Sql {
        Sql::new(
            &format!("{}.{}", ident(&self.schema), ident(&self.name)),
            &self.columns,
            &self.org_type,
            &self.id_type,
            self.max_depth,
        )
    }
}

/// Statements over one tree. Keys go in as text and are cast to the column's type, so that indexes
/// on it serve; `$1` is always the org.
///
/// Every operator, function and type is qualified, and none is hidden in `NULLIF` or `IS DISTINCT FROM`, which look for an `=`: the
/// triggers run these as the table's owner under the search_path of whoever writes.
#[derive(Clone)]
pub struct Sql {
    pub table: String,
    pub org: String,
    pub id: String,
    pub parent: String,
    pub path: String,
    pub depth: String,
    pub org_type: String,
    pub id_type: String,
    pub max_depth: i32,
}

impl Sql {
    pub fn new(table: &str, c: &Columns, org_type: &str, id_type: &str, max_depth: i32) -> Sql {
        // The others that a key can have are words of the grammar's, and nobody else's.
        let qualified = |name: &str| match name {
            "text" | "uuid" => format!("pg_catalog.{name}"),
            _ => name.to_owned(),
        };
        Sql {
            table: table.to_owned(),
            org: ident(&c.org),
            id: ident(&c.id),
            parent: ident(&c.parent),
            path: ident(&c.path),
            depth: ident(&c.depth),
            org_type: qualified(org_type),
            id_type: qualified(id_type),
            max_depth,
        }
    }

    /// The condition `alias.org = $1`.
    pub fn in_org(&self, alias: &str) -> String {
        format!("{alias}.{} OPERATOR(pg_catalog.=) $1::{}", self.org, self.org_type)
    }

    /// `$2` one id → `shown`, as text, of its children `t`.
    pub fn of_children(&self, shown: &str) -> String {
        format!(
            "SELECT {shown}::pg_catalog.text FROM {table} t WHERE {org} AND t.{parent} OPERATOR(pg_catalog.=) $2::{id_type}",
            table = self.table,
            org = self.in_org("t"),
            parent = self.parent,
            id_type = self.id_type,
        )
    }

    /// `$2` one id → path, depth.
    pub fn place_of(&self) -> String {
        format!(
            "SELECT t.{path}::pg_catalog.text, t.{depth}::pg_catalog.text FROM {table} t WHERE {org} AND t.{id} OPERATOR(pg_catalog.=) $2::{id_type}",
            path = self.path,
            depth = self.depth,
            table = self.table,
            org = self.in_org("t"),
            id = self.id,
            id_type = self.id_type,
        )
    }

    /// `$2` one id → the paths that those linked to it say it has.
    pub fn places_above_children(&self) -> String {
        format!(
            "SELECT DISTINCT pg_catalog.left(t.{path}, pg_catalog.length(t.{path}) OPERATOR(pg_catalog.-) pg_catalog.length(t.{id}::pg_catalog.text) OPERATOR(pg_catalog.-) 1)
               FROM {table} t WHERE {org} AND t.{parent} OPERATOR(pg_catalog.=) $2::{id_type} AND t.{path} IS NOT NULL",
            path = self.path,
            table = self.table,
            parent = self.parent,
            org = self.in_org("t"),
            id = self.id,
            id_type = self.id_type,
        )
    }

    /// `$2` ids → id, parent, path of those that exist.
    pub fn nodes(&self) -> String {
        format!(
            "SELECT t.{id}::pg_catalog.text, t.{parent}::pg_catalog.text, t.{path}::pg_catalog.text FROM {table} t
              WHERE {org} AND t.{id} OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::{id_type}[])",
            id = self.id,
            parent = self.parent,
            path = self.path,
            table = self.table,
            org = self.in_org("t"),
            id_type = self.id_type,
        )
    }

    /// Moves one range of paths: `$2` from, `$3` its end, `$4` to, `$5` where the kept rest begins,
    /// `$6` levels gained.
    pub fn rewrite_one(&self) -> String {
        format!(
            "UPDATE {table} AS t SET {path} = $4 OPERATOR(pg_catalog.||) pg_catalog.substr(t.{path}, $5),
                    {depth} = t.{depth} OPERATOR(pg_catalog.+) $6
              WHERE {org} AND t.{path} OPERATOR(pg_catalog.>=) $2 AND t.{path} OPERATOR(pg_catalog.<) $3",
            table = self.table,
            path = self.path,
            depth = self.depth,
            org = self.in_org("t"),
        )
    }

    /// The same for many ranges that do not overlap, each argument an array.
    pub fn rewrite_many(&self) -> String {
        format!(
            "UPDATE {table} AS t SET {path} = m.target OPERATOR(pg_catalog.||) pg_catalog.substr(t.{path}, m.keep),
                    {depth} = t.{depth} OPERATOR(pg_catalog.+) m.gain
               FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
                               pg_catalog.unnest($5), pg_catalog.unnest($6)) AS m(source, source_end, target, keep, gain)
              WHERE {org} AND t.{path} OPERATOR(pg_catalog.>=) m.source AND t.{path} OPERATOR(pg_catalog.<) m.source_end",
            table = self.table,
            path = self.path,
            depth = self.depth,
            org = self.in_org("t"),
        )
    }

    /// Sets paths by key: `$2` ids, `$3` paths, `$4` depths.
    pub fn set_many(&self) -> String {
        format!(
            "UPDATE {table} AS t SET {path} = m.path, {depth} = m.depth
               FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS m(id, path, depth)
              WHERE {org} AND t.{id} OPERATOR(pg_catalog.=) m.id::{id_type}",
            table = self.table,
            path = self.path,
            depth = self.depth,
            org = self.in_org("t"),
            id = self.id,
            id_type = self.id_type,
        )
    }

    /// Gives every row without a path the one its links say, from the nearest placed ancestor down.
    /// Rows that hang in the air, or would be too deep, stay as they are.
    ///
    /// For a plan of nested loops: children are found by the index on (org, parent), and
    /// `(… IS NULL) IS TRUE` keeps the planner from finding them among all rows without a path, anew at
    /// each level. In the order of the paths, so that their index grows at its end.
    pub fn fill_unset(&self) -> String {
        format!(
            "WITH RECURSIVE placed(id, path, depth) AS (
                 SELECT c.{id}, coalesce(p.{path}, '/') OPERATOR(pg_catalog.||) c.{id}::pg_catalog.text OPERATOR(pg_catalog.||) '/',
                        coalesce(p.{depth} OPERATOR(pg_catalog.+) 1, 0)
                   FROM {table} c LEFT JOIN {table} p ON p.{org} OPERATOR(pg_catalog.=) c.{org} AND p.{id} OPERATOR(pg_catalog.=) c.{parent}
                  WHERE {in_org} AND c.{path} IS NULL AND (c.{parent} IS NULL OR p.{path} IS NOT NULL)
                    AND coalesce(p.{depth} OPERATOR(pg_catalog.+) 1, 0) OPERATOR(pg_catalog.<=) {max} AND {is_fit}
                    AND pg_catalog.octet_length(coalesce(p.{path}, '/')) OPERATOR(pg_catalog.+) pg_catalog.octet_length(c.{id}::pg_catalog.text) OPERATOR(pg_catalog.<=) {max_child}
                 UNION ALL
                 SELECT c.{id}, placed.path OPERATOR(pg_catalog.||) c.{id}::pg_catalog.text OPERATOR(pg_catalog.||) '/',
                        placed.depth OPERATOR(pg_catalog.+) 1
                   FROM placed JOIN {table} c ON {in_org} AND c.{parent} OPERATOR(pg_catalog.=) placed.id
                  WHERE (c.{path} IS NULL) IS TRUE AND placed.depth OPERATOR(pg_catalog.<) {max} AND {is_fit}
                    AND pg_catalog.octet_length(placed.path) OPERATOR(pg_catalog.+) pg_catalog.octet_length(c.{id}::pg_catalog.text) OPERATOR(pg_catalog.<=) {max_child})
             UPDATE {table} AS t SET {path} = s.path, {depth} = s.depth
               FROM (SELECT placed.id, placed.path, placed.depth FROM placed ORDER BY placed.path COLLATE pg_catalog.\"C\") AS s
              WHERE {in_org_t} AND t.{id} OPERATOR(pg_catalog.=) s.id",
            id = self.id,
            path = self.path,
            depth = self.depth,
            parent = self.parent,
            table = self.table,
            org = self.org,
            is_fit = self.is_fit("c"),
            max_child = path::MAX_BYTES - 1,
            max = self.max_depth,
            in_org = self.in_org("c"),
            in_org_t = self.in_org("t"),
        )
    }

    /// Ids of rows without a path, at most `$2`.
    pub fn unset(&self) -> String {
        format!(
            "SELECT t.{id}::pg_catalog.text FROM {table} t WHERE {org} AND t.{path} IS NULL LIMIT $2",
            id = self.id,
            table = self.table,
            org = self.in_org("t"),
            path = self.path,
        )
    }

    /// Of the ids `$2`, the one deepest in the tree that exists.
    pub fn nearest_survivor(&self) -> String {
        format!(
            "SELECT t.{id}::pg_catalog.text FROM {table} t WHERE {org} AND t.{id} OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::{id_type}[])
              ORDER BY pg_catalog.array_position($2, t.{id}::pg_catalog.text) DESC LIMIT 1",
            id = self.id,
            table = self.table,
            org = self.in_org("t"),
            id_type = self.id_type,
        )
    }

    /// Of the ids `$2`, those that have children.
    pub fn with_children(&self) -> String {
        format!(
            "SELECT DISTINCT t.{parent}::pg_catalog.text FROM {table} t
              WHERE {org} AND t.{parent} OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::{id_type}[])",
            table = self.table,
            parent = self.parent,
            org = self.in_org("t"),
            id_type = self.id_type,
        )
    }

    /// Hangs the children of each of `$2` below its like in `$3`, or makes them roots where that is empty.
    pub fn reparent_children(&self) -> String {
        format!(
            "UPDATE {table} AS t SET {parent} = (CASE WHEN m.survivor OPERATOR(pg_catalog.<>) '' THEN m.survivor END)::{id_type}
               FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS m(id, survivor)
              WHERE {org} AND t.{parent} OPERATOR(pg_catalog.=) m.id::{id_type}",
            table = self.table,
            parent = self.parent,
            org = self.in_org("t"),
            id_type = self.id_type,
        )
    }

    /// The condition that a path can hold the id.
    pub fn is_fit(&self, alias: &str) -> String {
        match self.id_type.as_str() {
            "pg_catalog.text" | "character varying" => {
                let id = format!("{alias}.{}::pg_catalog.text", self.id);
                format!(
                    "({id} OPERATOR(pg_catalog.<>) '' AND pg_catalog.strpos({id}, '/') OPERATOR(pg_catalog.=) 0)"
                )
            }
            _ => "true".to_owned(),
        }
    }

    /// Rewrites the rows whose path or depth is not what the links say, from the roots down, however deep they
    /// come to lie. Answers how many.
    pub fn repair(&self) -> String {
        format!(
            "WITH RECURSIVE true_place(id, path, depth) AS (
                 SELECT c.{id}, '/' OPERATOR(pg_catalog.||) c.{id}::pg_catalog.text OPERATOR(pg_catalog.||) '/', 0
                   FROM {table} c WHERE {in_org} AND c.{parent} IS NULL AND {is_fit}
                    AND pg_catalog.octet_length(c.{id}::pg_catalog.text) OPERATOR(pg_catalog.<=) {max_root}
                 UNION ALL
                 SELECT c.{id}, p.path OPERATOR(pg_catalog.||) c.{id}::pg_catalog.text OPERATOR(pg_catalog.||) '/',
                        p.depth OPERATOR(pg_catalog.+) 1
                   FROM true_place p JOIN {table} c ON {in_org} AND c.{parent} OPERATOR(pg_catalog.=) p.id
                  WHERE {is_fit} AND pg_catalog.octet_length(p.path) OPERATOR(pg_catalog.+) pg_catalog.octet_length(c.{id}::pg_catalog.text) OPERATOR(pg_catalog.<=) {max_child}),
             fixed AS (
                 UPDATE {table} AS t SET {path} = p.path, {depth} = p.depth
                   FROM true_place p
                  WHERE {in_org_t} AND t.{id} OPERATOR(pg_catalog.=) p.id
                    AND (t.{path} IS NULL OR t.{path} OPERATOR(pg_catalog.<>) p.path
                         OR t.{depth} IS NULL OR t.{depth} OPERATOR(pg_catalog.<>) p.depth)
                 RETURNING 1)
             SELECT pg_catalog.count(*)::pg_catalog.text FROM fixed",
            id = self.id,
            path = self.path,
            depth = self.depth,
            parent = self.parent,
            table = self.table,
            max_root = path::MAX_BYTES - 2,
            max_child = path::MAX_BYTES - 1,
            is_fit = self.is_fit("c"),
            in_org = self.in_org("c"),
            in_org_t = self.in_org("t"),
        )
    }
}
