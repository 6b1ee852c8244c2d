//! How a table is a tree: its columns, types and rules, as the triggers' arguments say.

use crate::catalog::ident;
use crate::error::Refusal;
use crate::pg::{relation, trigger};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The names in the order in which triggers carry them as arguments.
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
}

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
    pub on_delete: OnDelete,
    /// Attribute numbers in the relation the trigger fired on.
    pub org: i16,
    pub id: i16,
    pub parent: i16,
    pub path: i16,
    pub depth: i16,
}

thread_local! {
    static SHAPES: RefCell<HashMap<Oid, Rc<Shape>>> = RefCell::new(HashMap::new());
}

impl Shape {
    pub fn of(call: &trigger::Call<'_>) -> Rc<Shape> {
        let relation = call.relation();
        if relation::changed() {
            SHAPES.with(|s| s.borrow_mut().clear());
        }
        if let Some(shape) = SHAPES.with(|s| s.borrow().get(&relation).cloned()) {
            return shape;
        }
        let shape = Rc::new(Shape::read(relation, &call.args()));
        SHAPES.with(|s| s.borrow_mut().insert(relation, shape.clone()));
        shape
    }

    fn read(relation: Oid, args: &[String]) -> Shape {
        let root = relation::partition_root(relation);
        let table = relation::facts(root);
        let [org, id, parent, path, depth, max_depth, on_delete] = args else {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                format!("a tree trigger of {}.{} has {} arguments", table.schema, table.name, args.len()),
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
        Shape {
            root,
            owner: table.owner,
            org: number(org),
            id: number(id),
            parent: number(parent),
            path: number(path),
            depth: number(depth),
            org_type: relation::column_type(relation, number(org)),
            id_type: relation::column_type(relation, number(id)),
            columns: Columns {
                org: org.clone(),
                id: id.clone(),
                parent: parent.clone(),
                path: path.clone(),
                depth: depth.clone(),
            },
            max_depth: max_depth.parse().unwrap_or(32),
            on_delete: OnDelete::parse(on_delete).unwrap_or(OnDelete::Restrict),
            schema: table.schema,
            name: table.name,
        }
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
        Sql {
            table: table.to_owned(),
            org: ident(&c.org),
            id: ident(&c.id),
            parent: ident(&c.parent),
            path: ident(&c.path),
            depth: ident(&c.depth),
            org_type: org_type.to_owned(),
            id_type: id_type.to_owned(),
            max_depth,
        }
    }

    /// The condition `alias.org = $1`.
    pub fn in_org(&self, alias: &str) -> String {
        format!("{alias}.{} = $1::{}", self.org, self.org_type)
    }

    /// `$2` one id → path, depth.
    pub fn place_of(&self) -> String {
        format!(
            "SELECT t.{path}::text, t.{depth}::text FROM {table} t WHERE {org} AND t.{id} = $2::{id_type}",
            path = self.path,
            depth = self.depth,
            table = self.table,
            org = self.in_org("t"),
            id = self.id,
            id_type = self.id_type,
        )
    }

    /// `$2` ids → id, parent, path of those that exist.
    pub fn nodes(&self) -> String {
        format!(
            "SELECT t.{id}::text, t.{parent}::text, t.{path}::text FROM {table} t
              WHERE {org} AND t.{id} = ANY ($2::text[]::{id_type}[])",
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
            "UPDATE {table} AS t SET {path} = $4 || substr(t.{path}, $5), {depth} = t.{depth} + $6
              WHERE {org} AND t.{path} >= $2 AND t.{path} < $3",
            table = self.table,
            path = self.path,
            depth = self.depth,
            org = self.in_org("t"),
        )
    }

    /// The same for many ranges that do not overlap, each argument an array.
    pub fn rewrite_many(&self) -> String {
        format!(
            "UPDATE {table} AS t SET {path} = m.target || substr(t.{path}, m.keep), {depth} = t.{depth} + m.gain
               FROM unnest($2, $3, $4, $5, $6) AS m(source, source_end, target, keep, gain)
              WHERE {org} AND t.{path} >= m.source AND t.{path} < m.source_end",
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
               FROM unnest($2, $3, $4) AS m(id, path, depth)
              WHERE {org} AND t.{id} = m.id::{id_type}",
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
    pub fn fill_unset(&self) -> String {
        format!(
            "WITH RECURSIVE placed(id, path, depth) AS (
                 SELECT c.{id}, coalesce(p.{path}, '/') || c.{id}::text || '/', coalesce(p.{depth} + 1, 0)
                   FROM {table} c LEFT JOIN {table} p ON p.{org} = c.{org} AND p.{id} = c.{parent}
                  WHERE {in_org} AND c.{path} IS NULL AND (c.{parent} IS NULL OR p.{path} IS NOT NULL)
                    AND coalesce(p.{depth} + 1, 0) <= {max}
                 UNION ALL
                 SELECT c.{id}, placed.path || c.{id}::text || '/', placed.depth + 1
                   FROM placed JOIN {table} c ON {in_org} AND c.{parent} = placed.id
                  WHERE c.{path} IS NULL AND placed.depth < {max})
             UPDATE {table} AS t SET {path} = placed.path, {depth} = placed.depth
               FROM placed WHERE {in_org_t} AND t.{id} = placed.id",
            id = self.id,
            path = self.path,
            depth = self.depth,
            parent = self.parent,
            table = self.table,
            org = self.org,
            max = self.max_depth,
            in_org = self.in_org("c"),
            in_org_t = self.in_org("t"),
        )
    }

    /// Ids of rows without a path, at most `$2`.
    pub fn unset(&self) -> String {
        format!(
            "SELECT t.{id}::text FROM {table} t WHERE {org} AND t.{path} IS NULL LIMIT $2",
            id = self.id,
            table = self.table,
            org = self.in_org("t"),
            path = self.path,
        )
    }

    /// Of the ids `$2`, the one deepest in the tree that exists.
    pub fn nearest_survivor(&self) -> String {
        format!(
            "SELECT t.{id}::text FROM {table} t WHERE {org} AND t.{id} = ANY ($2::text[]::{id_type}[])
              ORDER BY array_position($2, t.{id}::text) DESC LIMIT 1",
            id = self.id,
            table = self.table,
            org = self.in_org("t"),
            id_type = self.id_type,
        )
    }

    /// Hangs the children of `$2` below `$3`, or makes them roots where `$3` is empty.
    pub fn reparent_children(&self) -> String {
        format!(
            "UPDATE {table} AS t SET {parent} = nullif($3, '')::{id_type} WHERE {org} AND t.{parent} = $2::{id_type}",
            table = self.table,
            parent = self.parent,
            org = self.in_org("t"),
            id_type = self.id_type,
        )
    }

    /// Rewrites the rows whose path or depth is not what the links say, from the roots down.
    /// Answers how many.
    pub fn repair(&self) -> String {
        format!(
            "WITH RECURSIVE true_place(id, path, depth) AS (
                 SELECT c.{id}, '/' || c.{id}::text || '/', 0 FROM {table} c WHERE {in_org} AND c.{parent} IS NULL
                 UNION ALL
                 SELECT c.{id}, p.path || c.{id}::text || '/', p.depth + 1
                   FROM true_place p JOIN {table} c ON {in_org} AND c.{parent} = p.id
                  WHERE p.depth < {max}),
             fixed AS (
                 UPDATE {table} AS t SET {path} = p.path, {depth} = p.depth
                   FROM true_place p
                  WHERE {in_org_t} AND t.{id} = p.id
                    AND (t.{path} IS DISTINCT FROM p.path OR t.{depth} IS DISTINCT FROM p.depth)
                 RETURNING 1)
             SELECT count(*)::text FROM fixed",
            id = self.id,
            path = self.path,
            depth = self.depth,
            parent = self.parent,
            table = self.table,
            max = self.max_depth,
            in_org = self.in_org("c"),
            in_org_t = self.in_org("t"),
        )
    }
}
