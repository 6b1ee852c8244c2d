//! COPY behind the wall: a view that takes the rows, and inserts them into its table as one statement.

use super::wall;
use crate::catalog::{self, Table, ddl, ident, literal, rows};
use crate::error::Refusal;
use crate::pg::load;
use crate::pg::trigger::{Call, Event, Outcome, When};
use crate::pg::{relation, role};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

/// Bytes of an identifier.
const MAX_NAME: usize = 63;

fn view_name(table: &str) -> String {
    let ending = "_load";
    let mut end = table.len().min(MAX_NAME - ending.len());
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", &table[..end])
}

#[pg_extern(sql = false)]
fn create_load_view(table: Oid) -> Oid {
    let table = Table::get(table);
    table.expect_owner();
    if wall::column_of(table.oid).is_none() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{} is not protected", table.shown()),
        )
        .hint(format!("SELECT crm_tree.protect({});", literal(&table.sql())))
        .table(&table.schema, &table.name)
        .raise()
    }
    let name = view_name(&table.name);
    let view = format!("{}.{}", ident(&table.schema), ident(&name));
    // One that somebody else makes meanwhile is in the way of a new one, and not taken for ours.
    let again = if has_view(&table, &name, &view) { "CREATE OR REPLACE" } else { "CREATE" };

    let columns = columns(&table);
    let list: Vec<String> = columns.iter().map(|(column, _)| ident(column)).collect();
    // With the rights, and behind the wall, of whoever loads.
    ddl(&format!(
        "{again} VIEW {view} WITH (security_invoker = true) AS SELECT {} FROM {}",
        list.join(", "),
        table.sql()
    ));
    // It is locked from here on, and whose it was cannot change any more.
    let made = view_oid(&table, &name).expect("just made");
    if ![table.owner, role::current()].contains(&relation::facts(made).owner) {
        refuse_strangers_view(&table, &view)
    }
    for (column, default) in &columns {
        let default = default.as_ref().map_or("DROP DEFAULT".to_owned(), |d| format!("SET DEFAULT {d}"));
        ddl(&format!("ALTER VIEW {view} ALTER COLUMN {} {default}", ident(column)));
    }
    for (trigger, when) in [
        ("crm_tree_load_begin", "BEFORE INSERT ON"),
        ("crm_tree_load", "INSTEAD OF INSERT ON"),
        ("crm_tree_load_end", "AFTER INSERT ON"),
    ] {
        let each = if trigger == "crm_tree_load" { "ROW" } else { "STATEMENT" };
        ddl(&format!(
            "CREATE OR REPLACE TRIGGER {trigger} {when} {view} FOR EACH {each} EXECUTE FUNCTION crm_tree.load()"
        ));
    }
    rows(
        "SELECT pg_catalog.format('ALTER VIEW %s OWNER TO %I', $1, pg_catalog.pg_get_userbyid($2))
          WHERE $2 OPERATOR(pg_catalog.<>) current_user::pg_catalog.regrole::pg_catalog.oid",
        &[view.as_str().into(), table.owner.into()],
        |row| catalog::text(row, 1),
    )
    .iter()
    .for_each(|sql| ddl(sql));
    made
}

fn view_oid(table: &Table, name: &str) -> Option<Oid> {
    rows(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
          WHERE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND c.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name",
        &[table.schema.as_str().into(), name.into()],
        |row| row[1].value::<Oid>().ok().flatten().unwrap_or(Oid::INVALID),
    )
    .pop()
}

/// Replacing a view of the user's own would take it from him; one of another owner's has triggers of his.
/// Answers whether ours is there.
fn has_view(table: &Table, name: &str, view: &str) -> bool {
    let Some(oid) = view_oid(table, name) else { return false };
    if relation::facts(oid).owner != table.owner {
        refuse_strangers_view(table, view)
    }
    if target_of(oid).is_none_or(|target| target.oid != table.oid) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("{view} is there already, and is not the load view of {}", table.shown()),
        )
        .hint(format!("Rename it: ALTER VIEW {view} RENAME TO …;"))
        .table(&table.schema, &table.name)
        .raise()
    }
    true
}

fn refuse_strangers_view(table: &Table, view: &str) -> ! {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!("{view} is there already, and does not belong to the owner of {}", table.shown()),
    )
    .hint(format!(
        "Its triggers would be this one's. Look at them, then ALTER VIEW {view} OWNER TO {}; or rename it.",
        ident(&role::name(table.owner).unwrap_or_default())
    ))
    .table(&table.schema, &table.name)
    .raise()
}

/// The columns that can be inserted, with what stands for a missing value. Values that are always
/// generated are left to the table.
fn columns(table: &Table) -> Vec<(String, Option<String>)> {
    rows(
        "SELECT a.attname::text,
                CASE WHEN a.attidentity OPERATOR(pg_catalog.=) 'd' THEN pg_catalog.format('pg_catalog.nextval(%L::pg_catalog.regclass)',
                               pg_catalog.pg_get_serial_sequence(pg_catalog.format('%I.%I', $2, $3), a.attname::text))
                     ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END
           FROM pg_catalog.pg_attribute a
           LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
            AND a.attgenerated OPERATOR(pg_catalog.=) '' AND a.attidentity OPERATOR(pg_catalog.<>) 'a'
          ORDER BY a.attnum",
        &[table.oid.into(), table.schema.as_str().into(), table.name.as_str().into()],
        |row| (catalog::text(row, 1), catalog::opt_text(row, 2)),
    )
}

/// The table a load view stands before, by what the view reads: names change, and a dump has no oids.
/// None for a relation that is no load view.
fn target_of(view: Oid) -> Option<Table> {
    rows(
        "SELECT DISTINCT d.refobjid
           FROM pg_catalog.pg_rewrite r
           JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                                      AND d.objid OPERATOR(pg_catalog.=) r.oid
           JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.refobjid AND c.relkind IN ('r', 'p')
          WHERE r.ev_class OPERATOR(pg_catalog.=) $1 AND d.deptype OPERATOR(pg_catalog.=) 'n'
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
            AND EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid OPERATOR(pg_catalog.=) $1
                           AND t.tgfoid OPERATOR(pg_catalog.=) 'crm_tree.load'::pg_catalog.regproc)",
        &[view.into()],
        |row| row[1].value::<Oid>().ok().flatten().unwrap_or(Oid::INVALID),
    )
    .pop()
    .map(Table::get)
}

/// The trigger function of load views. Rows go in together: children may come before their parents,
/// and the statement triggers of the table fire once.
pub fn load<'a>(call: &Call<'a>) -> Outcome<'a> {
    let view = call.relation();
    if call.is(When::BeforeStatement) {
        expect_triggers(view);
        load::begin(view);
        return Outcome::Done;
    }
    let begun = if call.is(When::AfterStatement) {
        load::insert(view, &insertion(view))
    } else {
        call.expect(When::InsteadOfRow, &[Event::Insert]);
        load::put(view, call.new_row())
    };
    if !begun {
        refuse_lost_trigger()
    }
    if call.is(When::InsteadOfRow) { Outcome::Keep(call.new_row()) } else { Outcome::Done }
}

fn refuse_lost_trigger() -> ! {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "this load view has lost a trigger",
    )
    .hint("SELECT crm_tree.create_load_view(…) of its table puts it back.")
    .raise()
}

/// Anybody may make triggers of our function on a view of his own: all three or none, as they are
/// made here, or a batch is begun that nothing ends.
fn expect_triggers(view: Oid) {
    // Of tgtype: 1 row, 2 before, 64 instead, 4 insert.
    let whole = rows(
        "SELECT pg_catalog.array_agg(t.tgtype ORDER BY t.tgname COLLATE \"C\") OPERATOR(pg_catalog.=) '{69,6,4}'::pg_catalog.int2[]
                    AND pg_catalog.bool_and(t.tgqual IS NULL AND t.tgenabled IN ('O', 'A')
                    AND t.tgname IN ('crm_tree_load', 'crm_tree_load_begin', 'crm_tree_load_end'))
           FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
          WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.=) 'v'
            AND t.tgfoid OPERATOR(pg_catalog.=) 'crm_tree.load'::pg_catalog.regproc",
        &[view.into()],
        |row| row[1].value::<bool>().ok().flatten().unwrap_or(false),
    );
    if whole != [true] {
        refuse_lost_trigger()
    }
}

fn insertion(view: Oid) -> String {
    let table = target_of(view).unwrap_or_else(|| {
        Refusal::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "this load view has no table").raise()
    });
    let columns: Vec<String> = rows(
        "SELECT a.attname::text FROM pg_catalog.pg_attribute a
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 ORDER BY a.attnum",
        &[view.into()],
        |row| ident(&catalog::text(row, 1)),
    );
    let columns = columns.join(", ");
    format!("INSERT INTO {} ({columns}) SELECT {columns} FROM {}", table.sql(), load::ROWS)
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME, view_name};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_view_has_a_name_that_fits(table in "\\PC{1,63}") {
            prop_assume!(table.len() <= MAX_NAME);
            let name = view_name(&table);
            prop_assert!(name.len() <= MAX_NAME && name.ends_with("_load"));
            prop_assert!(table.len() > MAX_NAME - 5 || name.strip_suffix("_load") == Some(table.as_str()));
        }
    }
}
