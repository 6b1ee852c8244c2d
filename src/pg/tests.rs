//! The safe faces, tried inside a server. Each test is a transaction that is rolled back.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use crate::pg::{role, scan, spi, xact};
    use pgrx::prelude::*;

    fn ddl(sql: &str) {
        Spi::run(sql).expect("the statement runs");
    }

    fn text(sql: &str) -> Option<String> {
        Spi::get_one::<String>(sql).expect("the query runs")
    }

    fn role_id(name: &str) -> pg_sys::Oid {
        Spi::get_one_with_args("SELECT oid FROM pg_roles WHERE rolname = $1", &[name.into()])
            .expect("the query runs")
            .expect("the role exists")
    }

    #[pg_test]
    fn an_error_gives_the_role_back() {
        ddl("CREATE ROLE test_owner");
        let (before, owner) = (role::current(), role_id("test_owner"));
        let seen = PgTryBuilder::new(|| {
            role::as_table_owner(owner, || {
                assert_eq!(role::current(), owner);
                error!("out of here")
            })
        })
        .catch_others(|_| role::current())
        .execute();
        assert_eq!(seen, before);
    }

    #[pg_test]
    fn the_owner_has_no_rights_but_his_own() {
        ddl("CREATE ROLE test_owner; CREATE TABLE secret (a int)");
        role::as_table_owner(role_id("test_owner"), || {
            assert_eq!(
                text("SELECT has_table_privilege('secret', 'SELECT')::text").as_deref(),
                Some("false")
            );
        });
    }

    #[pg_test]
    fn a_kept_plan_follows_its_table() {
        ddl("CREATE TABLE public.kept (a int, b text); INSERT INTO public.kept VALUES (1, 'one'), (2, NULL)");
        let ask = || spi::read::<2>("SELECT a::text, b FROM public.kept ORDER BY a", vec![]);
        assert_eq!(ask(), [[Some("1".into()), Some("one".into())], [Some("2".into()), None]]);
        ddl("DELETE FROM public.kept WHERE a = 2; ALTER TABLE public.kept ALTER COLUMN b TYPE varchar(10)");
        let ask = || spi::read::<2>("SELECT a::text, b::text FROM public.kept ORDER BY a", vec![]);
        assert_eq!(ask(), [[Some("1".into()), Some("one".into())]]);
    }

    #[pg_test]
    fn a_scan_finds_the_rows_of_its_key_alone() {
        ddl(
            "SELECT crm_tree.grant_org(r, o) FROM (VALUES ('pg_database_owner', 7), ('pg_monitor', 7), ('pg_monitor', 70)) g (r, o)",
        );
        let mut found = 0;
        scan::by_text_key(c"org_grant", c"org_grant_org", "7", |row| {
            assert_eq!(row.shown(c"org").as_deref(), Some("7"));
            found += 1;
            false
        });
        assert_eq!(found, 2);
        assert!(!scan::by_text_key(c"org_grant", c"org_grant_org", "8", |_| true));
    }

    #[pg_test]
    fn a_snapshot_is_kept_where_the_isolation_says_so() {
        assert!(!xact::keeps_one_snapshot(), "the test runs at READ COMMITTED");
    }

    #[pg_test(error = "this transaction is bound to org \"1\" and cannot be bound to org \"2\"")]
    fn a_savepoint_does_not_free_the_transaction() {
        ddl("DO $$ BEGIN
                 BEGIN PERFORM crm_tree.bind_org(1); RAISE EXCEPTION 'back'; EXCEPTION WHEN raise_exception THEN END;
                 PERFORM crm_tree.bind_org(2);
             END $$");
    }

    #[pg_test]
    fn paths_that_are_none_are_null() {
        for path in ["", "/", "a", "/a", "//", "/a//b/"] {
            let depth = Spi::get_one_with_args::<i32>("SELECT crm_tree.path_depth($1)", &[path.into()]);
            assert_eq!(depth, Ok(None), "{path:?}");
        }
        assert_eq!(Spi::get_one("SELECT crm_tree.path_depth('/a/b/')"), Ok(Some(1)));
    }
}
