//! The guard, the service door and the counters on servers that preload the library, for a database or
//! altogether, and on one that does not.

use crm_tree_server_tests::{Cluster, sqlstate, wait_for};
use postgres::Client;

const SETUP: &str = "
    CREATE EXTENSION crm_tree;
    CREATE ROLE owner NOLOGIN;
    CREATE ROLE app LOGIN;
    CREATE ROLE billing LOGIN;
    CREATE SCHEMA app AUTHORIZATION owner;
    GRANT USAGE ON SCHEMA app TO PUBLIC;
    SET ROLE owner;
    CREATE TABLE app.note (org int, id int, body text, PRIMARY KEY (org, id));
    INSERT INTO app.note SELECT o, i, 'n' FROM generate_series(1, 2) o, generate_series(1, 10000) i;
    SELECT crm_tree.protect('app.note', 'org');
    GRANT SELECT, INSERT, UPDATE, DELETE ON app.note TO app, billing;
    GRANT SELECT ON app.note TO crm_tree_service;
    RESET ROLE;
    CREATE VIEW app.lent AS SELECT * FROM app.note;
    GRANT SELECT ON app.lent TO app;
    SELECT crm_tree.grant_org('app', 1), crm_tree.grant_service_door('billing');";

fn count(client: &mut Client, sql: &str) -> Result<i64, String> {
    match client.query_one(sql, &[]) {
        Ok(row) => Ok(row.get(0)),
        Err(e) => Err(sqlstate(Err(e))),
    }
}

const NOTES: &str = "SELECT count(*) FROM app.note";
const LENT: &str = "SELECT count(*) FROM app.lent";

fn refused() -> Result<i64, String> {
    Err("42501".to_owned())
}

/// Behind the door all orgs are read, also by parallel plans and prepared statements, and after errors;
/// the end of the transaction closes it.
fn door_works(cluster: &Cluster) {
    let mut billing = cluster.connect("billing", "postgres");
    let prepared = billing.prepare("SELECT count(*), current_user::text FROM app.note").unwrap();
    assert_eq!(sqlstate(billing.query(&prepared, &[]).map(|_| ())), "42501", "not open yet");
    for parallel in ["1000", "0"] {
        for end in ["COMMIT", "ROLLBACK"] {
            let costs = format!(
                "BEGIN; SET LOCAL parallel_setup_cost = {parallel}; SET LOCAL parallel_tuple_cost = 0;
                 SET LOCAL min_parallel_table_scan_size = 0;"
            );
            billing.batch_execute(&costs).unwrap();
            billing.batch_execute("SELECT crm_tree.open_service_door('a test')").unwrap();
            let row = billing.query_one(&prepared, &[]).unwrap();
            assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (20000, "crm_tree_service"));
            billing.batch_execute("SAVEPOINT s").unwrap();
            assert_eq!(sqlstate(billing.batch_execute("DELETE FROM app.note")), "25006");
            billing.batch_execute("ROLLBACK TO s").unwrap();
            assert_eq!(billing.query_one(&prepared, &[]).unwrap().get::<_, i64>(0), 20000);
            billing.batch_execute(end).unwrap();
            assert_eq!(sqlstate(billing.query(&prepared, &[]).map(|_| ())), "42501", "closed by {end}");
            let user: String = billing.query_one("SELECT current_user::text", &[]).unwrap().get(0);
            assert_eq!(user, "billing");
        }
    }
    // An error in the middle, and a client that goes in the middle
    billing.batch_execute("BEGIN; SELECT crm_tree.open_service_door('an error')").unwrap();
    assert_eq!(sqlstate(billing.batch_execute("SELECT 1 / 0")), "22012");
    billing.batch_execute("ROLLBACK").unwrap();
    assert_eq!(count(&mut billing, NOTES), refused());
    billing.batch_execute("BEGIN; SELECT crm_tree.open_service_door('a client that goes')").unwrap();
    drop(billing);
    let events =
        cluster.psql("postgres", "SELECT count(*) FROM crm_tree.wall_event WHERE kind = 'service_door'");
    assert_eq!(events, "2", "what was committed is recorded");
    assert_eq!(cluster.log().matches("role \"billing\" opens the service door").count(), 6);
}

#[test]
fn a_plain_server_has_walls_and_a_door_but_no_guard() {
    let cluster = Cluster::start(&[]);
    let mut db = cluster.superuser();
    db.batch_execute(SETUP).unwrap();
    assert_eq!(count(&mut db, NOTES), Ok(20000));
    let mode: String = db.query_one("SELECT current_setting('crm_tree.guard')", &[]).unwrap().get(0);
    assert_eq!(mode, "off", "loaded by a call in the middle of a session");
    let mut app = cluster.connect("app", "postgres");
    assert_eq!(count(&mut app, NOTES), refused());
    assert_eq!(count(&mut app, LENT), Ok(20000), "this is what the guard is for");
    // A superuser may switch it on for his session, workers included.
    db.batch_execute("SET crm_tree.guard = enforce").unwrap();
    assert_eq!(count(&mut db, NOTES), refused());
    door_works(&cluster);
    let row = db.query_one("SELECT scope, note, unbound_refusals FROM crm_tree.stat_walls", &[]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "none");
    assert!(row.get::<_, &str>(1).contains("shared_preload_libraries"));
    assert_eq!(row.get::<_, Option<i64>>(2), None);
}

#[test]
fn a_database_that_preloads_has_the_guard() {
    let cluster = Cluster::start(&[]);
    let mut db = cluster.superuser();
    db.batch_execute(SETUP).unwrap();
    for statement in [
        "CREATE DATABASE other",
        "ALTER DATABASE postgres SET session_preload_libraries = 'crm_tree'",
        "ALTER DATABASE postgres SET crm_tree.guard = 'enforce'",
    ] {
        db.batch_execute(statement).unwrap();
    }
    let mut db = cluster.superuser();
    assert_eq!(count(&mut db, NOTES), refused());
    // An ordinary user's options take the configured value's place; the compiled default is no less.
    let mut app = cluster.connect_with("app", "postgres", "-c crm_tree.guard=off").unwrap();
    assert_eq!(count(&mut app, LENT), refused());
    assert_eq!(sqlstate(app.batch_execute("SET crm_tree.guard = off")), "42501");
    app.batch_execute("RESET ALL").unwrap();
    app.batch_execute("DISCARD ALL").unwrap();
    assert_eq!(count(&mut app, LENT), refused());
    // A superuser's hold.
    let mut db = cluster.connect_with("postgres", "postgres", "-c crm_tree.guard=off").unwrap();
    assert_eq!(count(&mut db, NOTES), Ok(20000));
    let mut elsewhere = cluster.connect("postgres", "other");
    elsewhere.batch_execute("CREATE TABLE t AS SELECT 1").unwrap();
    door_works(&cluster);
}

#[test]
fn a_server_that_preloads_has_guard_and_counters_and_dumps_with_the_guard_off() {
    let cluster = Cluster::start(&[("shared_preload_libraries", "crm_tree")]);
    let mut db = cluster.superuser();
    db.batch_execute("CREATE DATABASE source").unwrap();
    let mut db = cluster.connect("postgres", "source");
    db.batch_execute(SETUP).unwrap();
    assert_eq!(count(&mut db, NOTES), refused());
    let mut app = cluster.connect("app", "source");
    assert_eq!(count(&mut app, LENT), refused());
    assert!(cluster.connect_with("app", "source", "-c crm_tree.guard=off").is_err());
    app.batch_execute("BEGIN; SELECT crm_tree.bind_org(1)").unwrap();
    assert_eq!(count(&mut app, NOTES), Ok(10000));
    assert_eq!(sqlstate(app.batch_execute("INSERT INTO app.note VALUES (2, 0, 'x')")), "42501");
    app.batch_execute("ROLLBACK").unwrap();
    let counted = "SELECT org, wall_denials, guard_refusals FROM crm_tree.stat_walls WHERE scope <> 'other' ORDER BY scope";
    let rows = db.query(counted, &[]).unwrap();
    let rows: Vec<(Option<&str>, i64, i64)> = rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    assert_eq!(rows, [(None, 1, 2), (Some("1"), 1, 0)]);

    // A dump with the guard on fails and leaves nothing out in silence; with it off it is complete, and
    // what it makes is protected at once, in sessions that are there already too.
    const ON: &str = "-c crm_tree.guard=enforce";
    const OFF: &str = "-c crm_tree.guard=off";
    let file = cluster.host().join("dump.sql");
    let file = file.to_str().unwrap();
    let on = cluster.client_with(ON, "pg_dump", &["source"]);
    assert!(!on.status.success());
    let off = cluster.client_with(OFF, "pg_dump", &["source"]);
    assert!(off.status.success(), "{}", String::from_utf8_lossy(&off.stderr));
    std::fs::write(file, off.stdout).unwrap();
    db.batch_execute("CREATE DATABASE target").unwrap();
    let mut there = cluster.connect("postgres", "target");
    let restore = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "target", "-f", file];
    let restore = cluster.client_with(OFF, "psql", &restore);
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    assert_eq!(count(&mut there, NOTES), refused());
    let mut app = cluster.connect("app", "target");
    app.batch_execute("BEGIN; SELECT crm_tree.bind_org(1)").unwrap();
    assert_eq!(count(&mut app, NOTES), Ok(10000));
}

/// What a client leaves open when it goes, or when its server process dies, nobody inherits.
#[test]
fn a_door_left_open_is_shut() {
    let cluster = Cluster::preloaded();
    cluster
        .connect_with("postgres", "postgres", "-c crm_tree.guard=off")
        .unwrap()
        .batch_execute(&SETUP.replace("CREATE EXTENSION crm_tree;", ""))
        .unwrap();
    for killed in [false, true] {
        let mut billing = cluster.connect("billing", "postgres");
        billing.batch_execute("BEGIN; SELECT crm_tree.open_service_door('left open')").unwrap();
        assert_eq!(count(&mut billing, NOTES), Ok(20000));
        let pid: i32 = billing.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        if killed {
            cluster.kill9(pid);
            cluster.await_ready();
        } else {
            drop(billing);
        }
        assert_eq!(count(&mut cluster.connect("billing", "postgres"), NOTES), refused());
    }
    let recorded =
        cluster.psql("postgres", "SELECT count(*) FROM crm_tree.wall_event WHERE kind = 'service_door'");
    assert_eq!(recorded, "0", "what did not commit is in the log alone");
    assert_eq!(cluster.log().matches("role \"billing\" opens the service door").count(), 2);
}

/// Changes of a protected table arrive at a subscriber that enforces the guard.
#[test]
fn logical_replication_goes_on() {
    let preload = ("shared_preload_libraries", "crm_tree");
    let publisher = Cluster::start(&[preload, ("wal_level", "logical")]);
    let subscriber = Cluster::start(&[preload]);
    for cluster in [&publisher, &subscriber] {
        cluster
            .connect_with("postgres", "postgres", "")
            .unwrap()
            .batch_execute(
                "CREATE EXTENSION crm_tree;
                 CREATE TABLE node (org int, id int, parent int, PRIMARY KEY (org, id));
                 SELECT crm_tree.attach_tree('node', 'id', 'parent', 'org'); SELECT crm_tree.protect('node', 'org')",
            )
            .unwrap();
    }
    let mut writer = publisher.connect_with("postgres", "postgres", "-c crm_tree.guard=off").unwrap();
    writer.batch_execute("CREATE PUBLICATION nodes FOR TABLE node").unwrap();
    let source = format!("host={} port=5432 user=postgres dbname=postgres", publisher.host().display());
    let mut reader = subscriber.connect_with("postgres", "postgres", "-c crm_tree.guard=off").unwrap();
    reader
        .batch_execute(&format!(
            "CREATE SUBSCRIPTION nodes CONNECTION '{source}' PUBLICATION nodes WITH (copy_data = false)"
        ))
        .unwrap();
    writer.batch_execute("INSERT INTO node VALUES (1, 1, NULL), (1, 2, 1), (2, 1, NULL)").unwrap();
    writer
        .batch_execute(
            "UPDATE node SET parent = NULL WHERE org = 1 AND id = 2; DELETE FROM node WHERE org = 2",
        )
        .unwrap();
    let rows = "SELECT string_agg(org || ':' || materialized_path, ' ' ORDER BY org, id) FROM node";
    wait_for("the changes to arrive", || {
        let row: Option<String> = reader.query_one(rows, &[]).unwrap().get(0);
        (row.as_deref() == Some("1:/1/ 1:/2/")).then_some(())
    });
    reader.batch_execute("DROP SUBSCRIPTION nodes").unwrap();
}
