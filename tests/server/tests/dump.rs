//! A dump and its restore carry the walls, the trees, the grants and every figure.

use crm_tree_server_tests::{Cluster, sqlstate};

const ORG_A: &str = "00000000-0000-0000-0000-00000000000a";
const ORG_B: &str = "00000000-0000-0000-0000-00000000000b";

/// A CRM with data of two orgs, and a table of the user's own with integer tenants.
fn fill(cluster: &Cluster) {
    cluster.psql("postgres", "CREATE DATABASE source");
    cluster.psql(
        "source",
        "CREATE ROLE app LOGIN;
         CREATE EXTENSION crm_tree;
         SELECT crm_tree.create_crm('crm', org_partitions => 2);
         SELECT crm.grant_app('app');
         CREATE TABLE public.company (tenant int NOT NULL, id bigint NOT NULL, boss bigint, name text, PRIMARY KEY (tenant, id));
         SELECT crm_tree.attach_tree('public.company', 'id', 'boss', 'tenant', on_delete => 'adopt');
         SELECT crm_tree.protect('public.company', 'tenant');
         GRANT SELECT, INSERT, UPDATE, DELETE ON public.company TO app;
         CREATE TABLE public.plan (org text NOT NULL, id int NOT NULL, parent int, PRIMARY KEY (org, id)) PARTITION BY LIST (org);
         CREATE TABLE public.plan_1 PARTITION OF public.plan FOR VALUES IN ('1');
         CREATE TABLE public.plan_2 (id int NOT NULL, dropped int, org text NOT NULL, parent int) PARTITION BY HASH (id);
         ALTER TABLE public.plan_2 DROP COLUMN dropped;
         CREATE TABLE public.plan_2_0 PARTITION OF public.plan_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE public.plan_2_1 PARTITION OF public.plan_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         ALTER TABLE public.plan ATTACH PARTITION public.plan_2 FOR VALUES IN ('2');
         CREATE POLICY theirs ON public.plan_1 FOR SELECT USING (id > 0);
         SELECT crm_tree.attach_tree('public.plan', 'id', 'parent', 'org', history => true), crm_tree.protect('public.plan', 'org');
         CREATE POLICY narrow ON public.plan_2_1 AS RESTRICTIVE FOR DELETE USING (id > 1);
         INSERT INTO public.plan SELECT t, g, nullif(g / 2, 0) FROM generate_series(1, 20) g, generate_series(1, 2) t;
         INSERT INTO public.company SELECT t, g, nullif(g / 2, 0), 'c' || g FROM generate_series(1, 40) g, generate_series(1, 2) t;
         SELECT crm_tree.grant_org('app', 1);
         BEGIN; SET LOCAL crm_tree.defer_paths = on; UPDATE public.company SET boss = 3 WHERE tenant = 2 AND id = 2; COMMIT;",
    );
    for (org, name) in [(ORG_A, "A"), (ORG_B, "B")] {
        cluster.psql(
            "source",
            &format!(
                "SELECT crm_tree.create_org('{name}', '{org}');
                 SELECT crm_tree.grant_org('app', '{org}'::uuid);
                 BEGIN;
                 SELECT crm_tree.bind_org('{org}'::uuid);
                 INSERT INTO crm.role (role_id, parent_role_id, name) VALUES
                     (md5('boss')::uuid, NULL, 'boss'), (md5('rep')::uuid, md5('boss')::uuid, 'rep');
                 INSERT INTO crm.app_user (user_id, email, display_name, role_id) VALUES
                     ('ann', 'ann@example.com', 'Ann', md5('boss')::uuid), ('bob', 'bob@example.com', 'Bob', md5('rep')::uuid);
                 INSERT INTO crm.account (account_id, parent_account_id, name, owner_user_id)
                     SELECT md5(g::text)::uuid, CASE WHEN g > 1 THEN md5((g / 3 + 1)::text)::uuid END, 'account ' || g, 'bob'
                       FROM generate_series(1, 60) g;
                 COMMIT;
                 BEGIN;
                 SELECT crm_tree.bind_org('{org}'::uuid, 'ann');
                 UPDATE crm.account SET parent_account_id = md5('5')::uuid, ownership_pct = 60 WHERE account_id = md5('9')::uuid;
                 INSERT INTO crm.account_link (parent_account_id, child_account_id, ownership_pct) VALUES (md5('2')::uuid, md5('9')::uuid, 40);
                 INSERT INTO crm.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
                     SELECT '2026-06-30', account_id, 100 FROM crm.account WHERE org_id = crm_tree.current_org();
                 INSERT INTO crm.stage (stage, position, outcome) VALUES ('lead', 1, 'open'), ('won', 2, 'won');
                 INSERT INTO crm.opportunity (opportunity_id, account_id, owner_user_id, name)
                     VALUES (md5('deal')::uuid, md5('7')::uuid, 'bob', 'deal');
                 INSERT INTO crm.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd, changed_by) VALUES
                     (md5('e1')::uuid, md5('deal')::uuid, '2026-05-01', 'lead', 10, 'bob'),
                     (md5('e2')::uuid, md5('deal')::uuid, '2026-05-11', 'won', 10, 'bob');
                 SELECT * FROM crm.recompute_sharing('full');
                 COMMIT;"
            ),
        );
    }
}

/// The lines in an order that does not depend on oids.
fn sorted(lines: &str) -> String {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What must be the same on both sides, each as one text.
fn facts(cluster: &Cluster, database: &str) -> Vec<(&'static str, String)> {
    let bound = |org: &str, sql: &str| {
        let script =
            format!("BEGIN; DO $$ BEGIN PERFORM crm_tree.bind_org('{org}'::uuid); END $$; {sql}; COMMIT;");
        sorted(&cluster.psql(database, &script))
    };
    let mut facts = vec![
        ("policies", "SELECT polrelid::regclass, polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy"),
        ("row security", "SELECT oid::regclass, relrowsecurity, relforcerowsecurity, relowner::regrole, regexp_replace(relacl::text, 'm/', '/', 'g') FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text IN ('crm', 'public')"),
        ("triggers", "SELECT tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"),
        ("constraints", "SELECT conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace::regnamespace::text IN ('crm', 'public') AND conrelid <> 0 AND contype <> 'n' AND conparentid = 0"),
        ("functions", "SELECT oid::regprocedure, prosecdef, provolatile, proconfig, proacl, proowner::regrole FROM pg_proc WHERE pronamespace = 'crm'::regnamespace"),
        ("walls", "SELECT relation, org_column FROM crm_tree.wall"),
        ("trees", "SELECT relation, org_column, id_column, parent_column, path_column, depth_column, max_depth, on_delete, history FROM crm_tree.tree"),
        ("links", "SELECT relation, tree, org_column, parent_column, child_column, pct_column, tree_pct_column FROM crm_tree.tree_links"),
        ("second parents", "SELECT org_id, parent_account_id, child_account_id, ownership_pct FROM crm.account_link"),
        ("grants", "SELECT org, role, role_name, for_session FROM crm_tree.org_grant"),
        ("orgs", "SELECT org_id, name FROM crm_tree.org"),
        ("instances", "SELECT schema, owner, template_version FROM crm_tree.crm_instance"),
        ("accounts", "SELECT org_id, account_id, parent_account_id, materialized_path, depth FROM crm.account"),
        ("history", "SELECT org, id, parent, valid_from, valid_to, prev_to, changed_by FROM crm.account_history"),
        ("deferred paths", "SELECT relation, org FROM crm_tree.stale_org"),
        ("companies below another, by links", "SELECT n.* FROM crm_tree.subtree('public.company', '3') n"),
        ("companies", "SELECT tenant, id, boss, materialized_path, depth FROM public.company"),
        ("plans", "SELECT org, id, parent, materialized_path, depth FROM public.plan"),
        ("events", "SELECT org_id, event_id, changed_at, to_stage FROM crm.fct_stage_change"),
        ("access", "SELECT org_id, account_id, user_id, granted_via, permission_level FROM crm.bridge_account_user_access"),
        ("problems", "SELECT * FROM crm_tree.check_tree('crm.account') UNION ALL SELECT * FROM crm_tree.check_tree('public.company') UNION ALL SELECT * FROM crm_tree.check_tree('public.plan')"),
    ]
    .into_iter()
    .map(|(name, sql)| (name, sorted(&cluster.psql(database, sql))))
    .collect::<Vec<_>>();
    for org in [ORG_A, ORG_B] {
        facts.push((
            "totals",
            bound(
                org,
                "SELECT a.account_id, r.* FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.org_id = crm_tree.current_org()",
            ),
        ));
        facts.push((
            "totals of the tree before the move",
            bound(
                org,
                "SELECT a.account_id, r.* FROM crm.account a, LATERAL crm.arr_rollup_as_of(a.account_id, '2026-06-30',
                    (SELECT min(h.valid_from) FROM crm.account_history h WHERE h.org = crm_tree.current_org())) r WHERE a.org_id = crm_tree.current_org()",
            ),
        ));
        facts.push(("totals of the tree", bound(org, "SELECT * FROM crm.arr_rollup_tree()")));
        facts.push(("visits", bound(org, "SELECT opportunity_id, stage, entered, \"left\" FROM crm.time_in_stage(as_of => '2026-06-01')")));
        facts.push(("drift", bound(org, "SELECT * FROM crm.sharing_drift()")));
    }
    facts
}

/// Dumps the database `source` of one cluster and restores it as `target` of another, or the same.
fn restore(from: &Cluster, to: &Cluster) {
    let file = to.host().join("dump.sql");
    std::fs::write(&file, from.client("pg_dump", &["source"]).stdout).unwrap();
    to.psql("postgres", "CREATE DATABASE target");
    to.client("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "target", "-f", file.to_str().unwrap()]);
}

fn filled() -> (Cluster, Vec<(&'static str, String)>) {
    let cluster = Cluster::preloaded();
    fill(&cluster);
    let before = facts(&cluster, "source");
    let empty =
        before.iter().filter(|(name, value)| value.is_empty() && !["problems", "drift"].contains(name));
    assert_eq!(empty.count(), 0, "a fact that is empty proves nothing: {before:?}");
    (cluster, before)
}

fn assert_same(before: &[(&str, String)], after: Vec<(&str, String)>) {
    for ((name, was), (_, is)) in before.iter().zip(after) {
        assert_eq!(*was, is, "{name} after the restore");
    }
}

#[test]
fn a_restored_dump_is_the_same_database() {
    let (cluster, before) = filled();
    restore(&cluster, &cluster);
    assert_same(&before, facts(&cluster, "target"));
    assert_at_work(&cluster);
}

/// Each worker holds its own partition, and none may wait for another's.
#[test]
fn a_parallel_restore_is_the_same_database() {
    let (cluster, before) = filled();
    let holes = "SELECT code, object FROM crm_tree.audit_walls() WHERE severity = 'fix' AND code <> 'wall_not_watched' ORDER BY 1, 2";
    let holes_before = cluster.psql("source", holes);
    let dump = cluster.host().join("dump.d");
    let dump = dump.to_str().unwrap();
    cluster.client("pg_dump", &["-Fd", "-f", dump, "source"]);
    for jobs in ["2", "4", "8", "8"] {
        cluster.psql("postgres", "CREATE DATABASE target");
        cluster.client("pg_restore", &["--exit-on-error", "-j", jobs, "-d", "target", dump]);
        assert_eq!(cluster.psql("target", holes), holes_before, "holes after -j {jobs}");
        // Two workers that end a wall at once do not see each other's part of it: the audit tells.
        let unwatched = "SELECT count(*) FROM crm_tree.wall w WHERE NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = w.relation)";
        let told = "SELECT count(*) FROM crm_tree.audit_walls() WHERE code = 'wall_not_watched'";
        assert_eq!(cluster.psql("target", told), cluster.psql("target", unwatched));
        assert_eq!(cluster.psql("target", "SELECT * FROM crm_tree.check_restore()"), "");
        assert_eq!(cluster.psql("target", told), "0");
        assert_same(&before, facts(&cluster, "target"));
        cluster.psql("postgres", "DROP DATABASE target");
    }
}

/// What a restore that went on after errors has lost is told.
#[test]
fn a_lost_base_policy_is_told() {
    let cluster = Cluster::preloaded();
    cluster.psql(
        "postgres",
        "CREATE TABLE a (org_id int NOT NULL, id int, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
         CREATE TABLE a_1 PARTITION OF a FOR VALUES IN (1);
         CREATE POLICY theirs ON a_1 FOR SELECT USING (true);
         SELECT crm_tree.protect('a');",
    );
    assert_eq!(cluster.psql("postgres", "SELECT * FROM crm_tree.check_restore()"), "");
    cluster.psql("postgres", "DROP POLICY crm_tree_base ON a; DROP POLICY crm_tree_base_update ON a_1");
    let told = "SELECT code, object, fix FROM crm_tree.check_restore() ORDER BY object";
    assert_eq!(
        cluster.psql("postgres", told),
        "base_policy_missing|public.a|SELECT crm_tree.protect('public.a', 'org_id');
base_policy_missing|public.a_1|SELECT crm_tree.protect('public.a', 'org_id');"
    );
    cluster.psql("postgres", "SELECT crm_tree.protect('a', 'org_id')");
    assert_eq!(cluster.psql("postgres", told), "");
}

/// The data come after the triggers, which are switched off and on again for them.
#[test]
fn a_schema_and_then_its_data_are_restored() {
    let (cluster, before) = filled();
    let dump = cluster.host().join("dump.d");
    let dump = dump.to_str().unwrap();
    cluster.client("pg_dump", &["-Fd", "-f", dump, "source"]);
    cluster.psql("postgres", "CREATE DATABASE target");
    cluster.client("pg_restore", &["--exit-on-error", "-s", "-d", "target", dump]);
    cluster.client("pg_restore", &["--exit-on-error", "-a", "--disable-triggers", "-d", "target", dump]);
    assert_eq!(cluster.psql("target", "SELECT * FROM crm_tree.check_restore()"), "");
    assert_same(&before, facts(&cluster, "target"));
}

/// Ordinary DDL on parts of one wall waits for nobody who holds another part.
#[test]
fn ddl_on_two_partitions_does_not_wait() {
    let cluster = Cluster::preloaded();
    cluster.psql(
        "postgres",
        "CREATE TABLE a (org_id int NOT NULL, id int, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
         CREATE TABLE a_1 PARTITION OF a FOR VALUES IN (1);
         CREATE TABLE a_2 PARTITION OF a FOR VALUES IN (2);
         SELECT crm_tree.protect('a');",
    );
    let mut one = cluster.superuser();
    let mut two = cluster.superuser();
    one.batch_execute(
        "SET lock_timeout = '2s'; BEGIN; CREATE POLICY narrow ON a_1 AS RESTRICTIVE USING (id > 0);",
    )
    .unwrap();
    two.batch_execute(
        "SET lock_timeout = '2s'; BEGIN; CREATE POLICY narrow ON a_2 AS RESTRICTIVE USING (id > 0);",
    )
    .unwrap();
    one.batch_execute("CREATE POLICY narrow ON a AS RESTRICTIVE USING (id > 0); COMMIT").unwrap();
    two.batch_execute("COMMIT").unwrap();
    assert_eq!(cluster.psql("postgres", "SELECT count(*) FROM crm_tree._wall_faults()"), "0");
}

/// The policies that ask our functions go with them: what stays may not open a table.
#[test]
fn tables_are_closed_when_the_extension_goes() {
    let cluster = Cluster::preloaded();
    cluster.psql(
        "postgres",
        "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN SUPERUSER; CREATE ROLE maker LOGIN",
    );
    let make = |name: &str| {
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        let mut client = cluster.connect("other", name);
        client
            .batch_execute(
                "SET crm_tree.guard = off;
                 CREATE EXTENSION crm_tree;
                 -- His is the extension alone.
                 SET ROLE postgres;
                 CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO app;
                 CREATE TABLE s.ours (org_id int NOT NULL, id int, PRIMARY KEY (org_id, id));
                 CREATE TABLE s.theirs (org_id int NOT NULL, id int, PRIMARY KEY (org_id, id));
                 CREATE POLICY p ON s.theirs FOR SELECT USING (id > 0);
                 CREATE TABLE s.parted (org_id int NOT NULL, id int, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
                 CREATE TABLE s.parted_1 PARTITION OF s.parted FOR VALUES IN (1);
                 CREATE TABLE s.parted_2 PARTITION OF s.parted FOR VALUES IN (2);
                 CREATE POLICY p ON s.parted_1 TO app USING (id > 0);
                 -- A wall of somebody's own making, that asks through a function.
                 CREATE TABLE s.made (org_id int NOT NULL, id int);
                 ALTER TABLE s.made ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE FUNCTION s.org() RETURNS bigint STABLE RETURN crm_tree.current_org_bigint();
                 CREATE POLICY p ON s.made USING (id > 0);
                 CREATE POLICY q ON s.made AS RESTRICTIVE USING (org_id = s.org());
                 CREATE TABLE s.by_view (org_id int NOT NULL, id int);
                 ALTER TABLE s.by_view ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE VIEW s.me AS SELECT crm_tree.current_org_bigint() AS org;
                 CREATE POLICY p ON s.by_view USING (id > 0);
                 CREATE POLICY q ON s.by_view AS RESTRICTIVE USING (org_id = (SELECT org FROM s.me));
                 CREATE TABLE s.free (org_id int NOT NULL, id int);
                 ALTER TABLE s.free ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY p ON s.free USING (id > 0);
                 INSERT INTO s.ours VALUES (1, 1), (2, 1);
                 INSERT INTO s.theirs VALUES (1, 1), (2, 1);
                 INSERT INTO s.parted VALUES (1, 1), (2, 1);
                 INSERT INTO s.made VALUES (1, 1), (2, 1);
                 INSERT INTO s.by_view VALUES (1, 1), (2, 1);
                 INSERT INTO s.free VALUES (1, 1), (2, 1);
                 SELECT crm_tree.protect('s.ours'), crm_tree.protect('s.theirs'), crm_tree.protect('s.parted');
                 SELECT crm_tree.grant_org('app', 1);
                 GRANT SELECT ON ALL TABLES IN SCHEMA s TO app;
                 GRANT SELECT ON s.ours TO maker;",
            )
            .unwrap();
        client
    };
    let closing = "SELECT count(*) FROM pg_policy WHERE polname = 'crm_tree_walled_off'";

    let mut kept = make("kept");
    let ours = cluster.psql("kept", "SELECT polrelid::regclass, polname FROM pg_policy ORDER BY 1, 2");
    // PostgreSQL's own error, and what is dropped besides leaves no trace.
    assert_eq!(sqlstate(kept.batch_execute("DROP EXTENSION crm_tree")), "2BP01");
    kept.batch_execute(
        "CREATE SCHEMA x; DROP SCHEMA x; CREATE EXTENSION hstore; DROP EXTENSION hstore;
         DROP OWNED BY maker; BEGIN; DROP EXTENSION crm_tree CASCADE; ROLLBACK; BEGIN; DROP SCHEMA s CASCADE; ROLLBACK;",
    )
    .unwrap();
    assert_eq!(cluster.psql("kept", "SELECT polrelid::regclass, polname FROM pg_policy ORDER BY 1, 2"), ours);
    assert_eq!(cluster.psql("kept", "SELECT count(*) FROM crm_tree.closed_for_drop"), "0");
    assert_eq!(cluster.psql("kept", "SELECT count(*) FROM crm_tree._wall_faults()"), "0");
    // Nothing is locked for what plainly is another, nor for who cannot drop the extension.
    let mut reader = cluster.connect("app", "kept");
    reader.batch_execute("BEGIN; SELECT crm_tree.bind_org(1); SELECT * FROM s.theirs").unwrap();
    let mut maker = cluster.connect("maker", "kept");
    maker.batch_execute("SET lock_timeout = '2s'; DROP OWNED BY maker").unwrap();
    kept.batch_execute("SET lock_timeout = '2s'; CREATE SCHEMA x").unwrap();
    kept.batch_execute("DROP SCHEMA IF EXISTS x, y CASCADE").unwrap();
    drop((kept, reader, maker));
    cluster.psql("postgres", "DROP DATABASE kept");

    for (name, ddl) in [
        ("by_extension", "DROP EXTENSION crm_tree CASCADE"),
        ("by_schema", "DROP SCHEMA crm_tree CASCADE"),
        ("by_language", "DROP EXTENSION plpgsql CASCADE"),
        ("by_owner", "DROP OWNED BY other CASCADE"),
        ("as_replica", "SET session_replication_role = replica; DROP EXTENSION crm_tree CASCADE"),
    ] {
        let mut client = make(name);
        client.batch_execute(ddl).unwrap();
        assert_eq!(
            cluster.psql(name, "SELECT count(*) FROM pg_extension WHERE extname = 'crm_tree'"),
            "0",
            "{name}"
        );
        let mut app = cluster.connect("app", name);
        for table in ["ours", "theirs", "parted", "parted_1", "parted_2", "made", "by_view"] {
            let sql = format!("SELECT count(*) FROM s.{table}");
            let n: i64 = app.query_one(&sql, &[]).unwrap().get(0);
            assert_eq!(n, 0, "{table} after {ddl}");
        }
        let n: i64 = app.query_one("SELECT count(*) FROM s.free", &[]).unwrap().get(0);
        assert_eq!(n, 2, "what never asked the extension is as it was");
        assert_eq!(cluster.psql(name, closing), "4", "{name}");
    }
    // protect() opens them again, each to its org.
    cluster.psql("by_extension", "DROP SCHEMA crm_tree; CREATE EXTENSION crm_tree; SELECT crm_tree.protect('s.theirs'), crm_tree.grant_org('app', 1)");
    assert_eq!(cluster.psql("by_extension", closing), "3");
    let mut app = cluster.connect("app", "by_extension");
    app.batch_execute("BEGIN; SELECT crm_tree.bind_org(1)").unwrap();
    let n: i64 = app.query_one("SELECT count(*) FROM s.theirs", &[]).unwrap().get(0);
    assert_eq!(n, 1);
}

#[test]
#[ignore = "needs PostgreSQL 18 too: scripts/test.sh restore18"]
fn a_dump_of_15_restores_on_18() {
    let (cluster, before) = filled();
    let newer = std::env::var_os("CRM_TREE_PG18_BIN").expect("CRM_TREE_PG18_BIN names its programs");
    let newer = Cluster::start_of(newer.into(), &[("shared_preload_libraries", "crm_tree")]);
    let roles = newer.host().join("roles.sql");
    std::fs::write(&roles, cluster.client("pg_dumpall", &["--roles-only"]).stdout).unwrap();
    // One of them is there already.
    newer.client("psql", &["-X", "-q", "-d", "postgres", "-f", roles.to_str().unwrap()]);
    restore(&cluster, &newer);
    assert_same(&before, facts(&newer, "target"));
    assert_at_work(&newer);
}

/// The walls, trees, links and histories of the database `target` do their work.
fn assert_at_work(cluster: &Cluster) {
    // Nothing was healed on the way, and the last statement of each wall set the watch on it.
    let unwatched = "SELECT count(*) FROM crm_tree._wall_family() f WHERE NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = f.relation)";
    assert_eq!(cluster.psql("target", unwatched), "0");
    assert_eq!(cluster.psql("target", "SELECT count(*) FROM crm_tree.check_restore()"), "0");
    assert_eq!(cluster.psql("target", "SELECT DISTINCT kind FROM crm_tree.wall_event"), "stands");

    // The restored walls and triggers do their work, for an ordinary role.
    let mut app = cluster.connect("app", "target");
    let refused = app.query("SELECT * FROM crm.account", &[]).unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501", "an unbound session is refused");
    app.batch_execute(&format!(
        "BEGIN; SELECT crm_tree.bind_org('{ORG_A}'::uuid);
         UPDATE crm.account SET parent_account_id = NULL WHERE account_id = md5('2')::uuid; COMMIT;
         BEGIN; SELECT crm_tree.bind_org(1); DELETE FROM public.company WHERE id = 2; COMMIT;"
    ))
    .unwrap();
    cluster.psql("target", "SELECT crm_tree.repair_tree('public.company')");
    assert_eq!(cluster.psql("target", "SELECT count(*) FROM crm_tree.stale_org"), "0");
    let problems = "SELECT count(*) FROM (SELECT * FROM crm_tree.check_tree('crm.account') UNION ALL SELECT * FROM crm_tree.check_tree('public.company')) p";
    assert_eq!(cluster.psql("target", problems), "0");
    assert_eq!(
        cluster.psql("target", "SELECT parent_account_id IS NULL AND depth = 0 FROM crm.account WHERE org_id::text LIKE '%a' AND account_id = md5('2')::uuid"),
        "t"
    );
    assert_eq!(
        cluster.psql("target", "SELECT count(*), count(*) FILTER (WHERE valid_to IS NULL AND parent IS NULL) FROM crm.account_history WHERE org::text LIKE '%a' AND id = md5('2')::uuid"),
        "2|1",
        "the restored history goes on"
    );
    assert_eq!(cluster.psql("target", "SELECT boss FROM public.company WHERE tenant = 1 AND id = 4"), "1");
    // Second parents: 2 owns a part of 9, so 2 cannot come to lie below it.
    let circle = app
        .batch_execute(&format!(
            "BEGIN; SELECT crm_tree.bind_org('{ORG_A}'::uuid);
             UPDATE crm.account SET parent_account_id = md5('9')::uuid WHERE account_id = md5('2')::uuid;"
        ))
        .unwrap_err();
    assert_eq!(circle.as_db_error().unwrap().constraint(), Some("crm_tree_no_cycle"));
    app.batch_execute("ROLLBACK").unwrap();
    let other = app.batch_execute("BEGIN; SELECT crm_tree.bind_org(2);").unwrap_err();
    assert_eq!(other.code().unwrap().code(), "42501", "no grant came out of the restore");

    // What is dropped or switched off is found.
    for ddl in [
        "DROP TRIGGER crm_tree_lock_insert ON public.company",
        "ALTER TABLE crm.account DISABLE TRIGGER \"A_crm_tree_settle_update\"",
    ] {
        cluster.psql("target", ddl);
    }
    let missing = "SELECT 'company', count(*) FROM crm_tree.check_tree('public.company') WHERE problem = 'trigger_missing'
                   UNION ALL SELECT 'account', count(*) FROM crm_tree.check_tree('crm.account') WHERE problem = 'trigger_missing' ORDER BY 1";
    let found = cluster.psql("target", missing);
    assert!(!found.contains("|0"), "check_tree misses a trigger: {found}");
}

/// A server killed in the middle of writing comes back with right paths.
#[test]
fn a_crash_leaves_no_wrong_path() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.superuser();
    client
        .batch_execute(
            "CREATE EXTENSION crm_tree;
             CREATE TABLE t (org int NOT NULL, id bigint NOT NULL, parent bigint, PRIMARY KEY (org, id));
             SELECT crm_tree.attach_tree('t', 'id', 'parent', 'org');
             INSERT INTO t SELECT 1, g, nullif(g / 3, 0) FROM generate_series(1, 3000) g;",
        )
        .unwrap();
    let mut open = cluster.superuser();
    open.batch_execute("BEGIN; UPDATE t SET parent = 2 WHERE id = 4;").unwrap();
    let pid: i32 = open.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    cluster.kill9(pid);
    cluster.await_ready();
    let mut client = cluster.superuser();
    let parent: i64 = client.query_one("SELECT parent FROM t WHERE org = 1 AND id = 4", &[]).unwrap().get(0);
    assert_eq!(parent, 1, "the killed transaction left nothing");
    client.batch_execute("UPDATE t SET parent = 2 WHERE org = 1 AND id = 4").unwrap();
    let problems: i64 =
        client.query_one("SELECT count(*) FROM crm_tree.check_tree('t')", &[]).unwrap().get(0);
    assert_eq!(problems, 0);
}
