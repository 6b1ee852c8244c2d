//! Trees under random statements: one session against a model, many sessions against an oracle.
//!
//! `CRM_TREE_SEED` repeats a run, `CRM_TREE_OPERATIONS` sets its length.

use crm_tree_server_tests::{Cluster, operations, seed, sqlstate};
use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

const MAX_DEPTH: usize = 8;
const IDS: i64 = 40;

/// Every row whose path or depth is not what a walk along the links says, and every row no walk
/// reaches. Shares no code with the extension.
fn wrong_rows(client: &mut Client, table: &str) -> Vec<String> {
    let sql = format!(
        "WITH RECURSIVE w AS (
             SELECT org, id, '/' || id || '/' AS p, 0 AS d FROM {table} WHERE parent IS NULL
             UNION ALL
             SELECT c.org, c.id, w.p || c.id || '/', w.d + 1 FROM w JOIN {table} c ON c.org = w.org AND c.parent = w.id)
         SELECT t::text FROM {table} t LEFT JOIN w ON w.org = t.org AND w.id = t.id
          WHERE w.p IS DISTINCT FROM t.materialized_path OR w.d IS DISTINCT FROM t.depth"
    );
    client.query(&sql, &[]).unwrap().iter().map(|r| r.get(0)).collect()
}

/// The same by the links alone, paths left out: every row no walk from a root reaches, or only too deep.
fn off_the_forest(client: &mut Client, table: &str) -> Vec<String> {
    let sql = format!(
        "WITH RECURSIVE w AS (
             SELECT org, id, 0 AS d FROM {table} WHERE parent IS NULL
             UNION ALL
             SELECT c.org, c.id, w.d + 1 FROM w JOIN {table} c ON c.org = w.org AND c.parent = w.id)
         SELECT t::text FROM {table} t LEFT JOIN w ON w.org = t.org AND w.id = t.id WHERE w.id IS NULL OR w.d > {MAX_DEPTH}"
    );
    client.query(&sql, &[]).unwrap().iter().map(|r| r.get(0)).collect()
}

/// What readers are told, where paths are deferred: against a walk along the links.
fn wrong_answers(client: &mut Client, table: &str) -> i64 {
    let sql = format!(
        "WITH RECURSIVE w AS (
             SELECT org, id, parent, '/' || id || '/' AS p, 0 AS d FROM {table} WHERE parent IS NULL
             UNION ALL
             SELECT c.org, c.id, c.parent, w.p || c.id || '/', w.d + 1 FROM w JOIN {table} c ON c.org = w.org AND c.parent = w.id),
         roots AS (SELECT DISTINCT id FROM w WHERE parent IS NULL),
         told AS (
             SELECT s.id, s.parent, s.path, s.depth FROM roots, crm_tree.subtree('{table}', roots.id::text) s),
         -- Of an id that is a root in one org only the other's part comes along, under its own root too.
         expected AS (SELECT DISTINCT id::text, parent::text, p, d FROM w)
         SELECT count(*) FROM (
             (SELECT * FROM expected EXCEPT SELECT * FROM told) UNION ALL (SELECT * FROM told EXCEPT SELECT * FROM expected)) x"
    );
    client.query_one(&sql, &[]).unwrap().get(0)
}

/// Paths that were deferred are right again, and no org is left flagged.
fn repair(client: &mut Client, table: &str) {
    client.batch_execute(&format!("SELECT crm_tree.repair_tree('{table}')")).unwrap();
    expect_no_flags(client);
}

fn expect_no_flags(client: &mut Client) {
    let flagged: i64 = client.query_one("SELECT count(*) FROM crm_tree.stale_org", &[]).unwrap().get(0);
    assert_eq!(flagged, 0, "a repair ends the deferral");
}

fn assert_right(client: &mut Client, table: &str, what: &str) {
    let wrong = wrong_rows(client, table);
    assert!(wrong.is_empty(), "{what}: {} wrong rows, first {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    let found: i64 = client
        .query_one(&format!("SELECT count(*) FROM crm_tree.check_tree('{table}')"), &[])
        .unwrap()
        .get(0);
    assert_eq!(found, 0, "{what}: check_tree disagrees with the oracle");
}

fn make_tree(client: &mut Client, table: &str, partitioned: bool, on_delete: &str) {
    let suffix = if partitioned { "PARTITION BY HASH (org)" } else { "" };
    let mut sql = format!(
        "CREATE TABLE {table} (org int NOT NULL, id bigint NOT NULL, parent bigint, note text, PRIMARY KEY (org, id)) {suffix};"
    );
    if partitioned {
        for n in 0..3 {
            sql += &format!(
                "CREATE TABLE {table}_{n} PARTITION OF {table} FOR VALUES WITH (MODULUS 3, REMAINDER {n});"
            );
        }
    }
    sql += &format!(
        "SELECT crm_tree.attach_tree('{table}', 'id', 'parent', 'org', max_depth => {MAX_DEPTH}, on_delete => '{on_delete}');"
    );
    client.batch_execute(&sql).unwrap();
}

type Model = BTreeMap<i64, Option<i64>>;

/// What a statement that leaves these links must answer: None is success.
fn verdict(model: &Model) -> Option<&'static str> {
    let mut worst = None;
    for id in model.keys() {
        let mut at = *id;
        let mut seen = BTreeSet::from([at]);
        while let Some(parent) = model[&at] {
            if !model.contains_key(&parent) {
                return Some("23503");
            }
            if !seen.insert(parent) {
                worst = Some("23514");
                break;
            }
            at = parent;
        }
        if seen.len() > MAX_DEPTH + 1 {
            worst = Some("23514");
        }
    }
    worst
}

fn show(parent: Option<i64>) -> String {
    parent.map_or("NULL::bigint".into(), |p| p.to_string())
}

/// A random statement on one org, and the links it leaves.
fn statement(rng: &mut StdRng, table: &str, org: i32, model: &Model) -> (String, Model) {
    let mut after = model.clone();
    let ids: Vec<i64> = model.keys().copied().collect();
    let mut all: Vec<i64> = (1..=IDS).collect();
    all.shuffle(rng);
    let count = rng.random_range(1..=5);
    let parent = |rng: &mut StdRng, others: &[i64]| match rng.random_range(0..10) {
        0 => None,
        1..=5 => ids.choose(rng).copied(),
        6..=8 => others.choose(rng).copied(),
        _ => Some(rng.random_range(1..=IDS)),
    };
    let pick: Vec<i64> = match rng.random_range(0..6) {
        0 => all.iter().copied().filter(|id| !model.contains_key(id)).take(count).collect(),
        1 | 2 => ids.choose_multiple(rng, count).copied().collect(),
        _ => all.iter().copied().take(count).collect(),
    };
    let rows: Vec<(i64, Option<i64>)> = pick.iter().map(|id| (*id, parent(rng, &pick))).collect();
    let values = rows.iter().map(|(id, p)| format!("({id}, {})", show(*p))).collect::<Vec<_>>().join(", ");
    let fresh = pick.iter().all(|id| !model.contains_key(id));
    let known = pick.iter().all(|id| model.contains_key(id));
    if rows.is_empty() {
        return ("SELECT 1".into(), after);
    }
    if fresh {
        for (id, p) in &rows {
            after.insert(*id, *p);
        }
        return (
            format!(
                "INSERT INTO {table} (org, id, parent) SELECT {org}, i, p FROM (VALUES {values}) v(i, p)"
            ),
            after,
        );
    }
    if known && rng.random_bool(0.25) {
        for (id, _) in &rows {
            after.remove(id);
        }
        let list = pick.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        return (format!("DELETE FROM {table} WHERE org = {org} AND id IN ({list})"), after);
    }
    for (id, p) in &rows {
        if !known || model.contains_key(id) {
            after.insert(*id, *p);
        }
    }
    let sql = if known && rng.random_bool(0.6) {
        format!(
            "UPDATE {table} t SET parent = v.p FROM (VALUES {values}) v(i, p) WHERE t.org = {org} AND t.id = v.i"
        )
    } else if rng.random_bool(0.5) {
        format!(
            "MERGE INTO {table} t USING (VALUES {values}) v(i, p) ON t.org = {org} AND t.id = v.i
             WHEN MATCHED THEN UPDATE SET parent = v.p
             WHEN NOT MATCHED THEN INSERT (org, id, parent) VALUES ({org}, v.i, v.p)"
        )
    } else {
        format!(
            "INSERT INTO {table} (org, id, parent) SELECT {org}, i, p FROM (VALUES {values}) v(i, p)
             ON CONFLICT (org, id) DO UPDATE SET parent = excluded.parent"
        )
    };
    (sql, after)
}

/// Each statement succeeds exactly when the links it leaves are a tree, and fails with the right
/// SQLSTATE and nothing changed when they are not.
fn against_the_model(table: &str, partitioned: bool, count: u64) {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.superuser();
    client.batch_execute("CREATE EXTENSION crm_tree").unwrap();
    make_tree(&mut client, table, partitioned, "restrict");
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut models: BTreeMap<i32, Model> = BTreeMap::from([(1, Model::new()), (2, Model::new())]);
    let (mut done, mut refused, mut deferred) = (0, 0, 0);
    for n in 0..count {
        // Paths are deferred now and then, for as long as it takes until a repair comes along.
        let defer = if rng.random_bool(0.06) { "on" } else { "off" };
        client.batch_execute(&format!("SET crm_tree.defer_paths = {defer}")).unwrap();
        if rng.random_bool(0.02) {
            repair(&mut client, table);
        }
        let org = rng.random_range(1..=2);
        let (sql, after) = statement(&mut rng, table, org, &models[&org]);
        let expected = verdict(&after);
        if rng.random_bool(0.1) {
            client.batch_execute("BEGIN; SAVEPOINT a").unwrap();
            let _ = client.batch_execute(&sql);
            client.batch_execute("ROLLBACK TO a").unwrap();
        }
        let answer = sqlstate(client.batch_execute(&sql));
        let _ = client.batch_execute("COMMIT");
        match expected {
            None => {
                assert_eq!(
                    answer, "00000",
                    "statement {n} of seed {seed}: {sql}\nlinks before: {:?}",
                    models[&org]
                );
                models.insert(org, after);
                done += 1;
            }
            // A statement can be wrong in two ways at once; which one is met first is not promised.
            Some(code) => {
                assert!(
                    answer == code || (answer.starts_with("235") && code == "23503"),
                    "statement {n} of seed {seed} answered {answer}, not {code}: {sql}\nlinks before: {:?}",
                    models[&org]
                );
                refused += 1;
            }
        }
        if n % 100 == 99 {
            let flagged: i64 =
                client.query_one("SELECT count(*) FROM crm_tree.stale_org", &[]).unwrap().get(0);
            deferred += i64::from(flagged > 0);
            let wrong = wrong_answers(&mut client, table);
            assert_eq!(wrong, 0, "readers after statement {n} of seed {seed}: {sql}");
            repair(&mut client, table);
            assert_right(&mut client, table, &format!("after statement {n} of seed {seed}: {sql}"));
        }
    }
    repair(&mut client, table);
    assert_right(&mut client, table, &format!("at the end of seed {seed}"));
    for (org, model) in &models {
        let links: Model = client
            .query(&format!("SELECT id, parent FROM {table} WHERE org = {org}"), &[])
            .unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1)))
            .collect();
        assert_eq!(&links, model, "the links of org {org} of seed {seed}");
    }
    println!(
        "{done} statements done, {refused} refused, paths deferred at {deferred} of {} looks",
        count / 100
    );
    assert!(done > count / 5 && refused > count / 20, "the statements must try both");
    assert!(count < 1000 || deferred > 0, "and some of them with deferred paths");
}

#[test]
fn a_statement_is_judged_by_the_links_it_leaves() {
    against_the_model("plain", false, operations(10_000));
}

#[test]
fn the_same_on_a_partitioned_table() {
    against_the_model("parted", true, operations(10_000));
}

/// Beside success: serialization failures, deadlocks, what a tree refuses, and merges of nodes that
/// are not there or are one.
const ALLOWED: [&str; 8] = ["00000", "40001", "40P01", "23503", "23505", "23514", "P0002", "22023"];

/// How many nodes are their own ancestors, over edges of both kinds.
const TURNING: &str = "
WITH RECURSIVE edge AS (SELECT org, id AS c, parent AS p FROM busy WHERE parent IS NOT NULL UNION ALL SELECT org, child, parent FROM busy_link),
     up(org, id, at) AS (SELECT org, c, p FROM edge UNION SELECT up.org, up.id, e.p FROM up JOIN edge e ON e.org = up.org AND e.c = up.at)
SELECT count(*) FROM up WHERE id = at";

/// Sessions at mixed isolation levels write to the same orgs of two trees, one of them partitioned,
/// one with second parents. Whatever commits, every path is what the links say, and no operation
/// fails but with a documented SQLSTATE.
#[test]
fn no_interleaving_commits_a_wrong_path() {
    let cluster = Cluster::start(&[("max_connections", "40"), ("deadlock_timeout", "10ms")]);
    let mut client = cluster.superuser();
    client.batch_execute("CREATE EXTENSION crm_tree").unwrap();
    for (table, partitioned) in [("busy", false), ("busy_parts", true)] {
        make_tree(&mut client, table, partitioned, "restrict");
        for org in 1..=2 {
            client
                .batch_execute(&format!(
                    "INSERT INTO {table} (org, id, parent) SELECT {org}, g, CASE WHEN g > 3 THEN g / 3 END FROM generate_series(1, {IDS}) g"
                ))
                .unwrap();
        }
    }
    client
        .batch_execute(
            "CREATE TABLE busy_link (org int NOT NULL, parent bigint NOT NULL, child bigint NOT NULL, PRIMARY KEY (org, parent, child));
             SELECT crm_tree.attach_links('busy_link', 'busy', 'parent', 'child', 'org')",
        )
        .unwrap();
    let seed = seed();
    let total = operations(6_000);
    let threads = 8;
    let (committed, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for t in 0..threads {
            let (cluster, committed, failed) = (&cluster, &committed, &failed);
            scope.spawn(move || {
                let mut client = cluster.superuser();
                let mut rng = StdRng::seed_from_u64(seed.wrapping_add(t));
                for _ in 0..total / threads {
                    let answer = transaction(&mut client, &mut rng);
                    assert!(
                        ALLOWED.contains(&answer.as_str()),
                        "undocumented SQLSTATE {answer}, seed {seed}"
                    );
                    let counter = if answer == "00000" { committed } else { failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let (committed, failed) = (committed.into_inner(), failed.into_inner());
    println!("{committed} committed, {failed} refused, {:.0} a second", total as f64 / seconds);
    for table in ["busy", "busy_parts"] {
        let lost = off_the_forest(&mut client, table);
        assert!(lost.is_empty(), "the links of seed {seed} are no forest: {:?}", &lost[..lost.len().min(5)]);
        let wrong = wrong_answers(&mut client, table);
        assert_eq!(wrong, 0, "readers of {table} after {total} operations of seed {seed}");
    }
    for table in ["busy", "busy_parts"] {
        client.batch_execute(&format!("SELECT crm_tree.repair_tree('{table}')")).unwrap();
    }
    expect_no_flags(&mut client);
    for table in ["busy", "busy_parts"] {
        assert_right(&mut client, table, &format!("after {total} operations of seed {seed}"));
    }
    let turning: i64 = client.query_one(TURNING, &[]).unwrap().get(0);
    assert_eq!(turning, 0, "nodes that are their own ancestors, seed {seed}");
    assert!(committed > total / 5, "the sessions must get work done");
}

/// One operation: a transaction of up to three statements, some of them in savepoints. Answers the
/// SQLSTATE it ended with.
fn transaction(client: &mut Client, rng: &mut StdRng) -> String {
    let mut run = |sql: &str| sqlstate(client.batch_execute(sql));
    let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"].choose(rng).unwrap();
    let (org, table) = (rng.random_range(1..=2), if rng.random_bool(0.6) { "busy" } else { "busy_parts" });
    let bound = rng.random_bool(0.7);
    let bind = if bound { format!("SELECT crm_tree.bind_org({org});") } else { String::new() };
    let mut answer = run(&format!("BEGIN ISOLATION LEVEL {level}; {bind} SELECT count(*) FROM {table}"));
    if rng.random_bool(0.1) {
        answer = run("SET LOCAL crm_tree.defer_paths = on");
    }
    for _ in 0..rng.random_range(1..=3) {
        if answer != "00000" {
            break;
        }
        let sql = random_write(rng, table, org, bound);
        if rng.random_bool(0.2) {
            let _ = run("SAVEPOINT s");
            if run(&sql) != "00000" || rng.random_bool(0.5) {
                answer = run("ROLLBACK TO s");
            }
        } else {
            answer = run(&sql);
        }
    }
    if answer == "00000" {
        answer = run(if rng.random_bool(0.9) { "COMMIT" } else { "ROLLBACK" });
    }
    let _ = run("ROLLBACK");
    answer
}

fn random_write(rng: &mut StdRng, table: &str, org: i32, bound: bool) -> String {
    let (id, other) = (rng.random_range(1..=IDS + 20), rng.random_range(1..=IDS + 20));
    let parent = show(rng.random_bool(0.9).then(|| rng.random_range(1..=IDS + 20)));
    match rng.random_range(0..16) {
        0..=3 => format!("UPDATE {table} SET parent = {parent} WHERE org = {org} AND id = {id}"),
        4..=6 => format!("INSERT INTO {table} (org, id, parent) VALUES ({org}, {id}, {parent})"),
        7 => format!(
            "DELETE FROM {table} WHERE org = {org} AND id = {id}
                AND NOT EXISTS (SELECT FROM {table} c WHERE c.org = {org} AND c.parent = {id})"
        ),
        8 => format!("UPDATE {table} SET parent = {parent} WHERE org = {org} AND id IN ({id}, {other})"),
        9 => format!(
            "INSERT INTO {table} (org, id, parent) VALUES ({org}, {id}, {parent}) ON CONFLICT (org, id) DO UPDATE SET parent = excluded.parent"
        ),
        10 => format!(
            "MERGE INTO {table} t USING (VALUES ({id}::bigint, {parent})) v(i, p) ON t.org = {org} AND t.id = v.i
             WHEN MATCHED THEN UPDATE SET parent = v.p WHEN NOT MATCHED THEN INSERT (org, id, parent) VALUES ({org}, v.i, v.p)"
        ),
        // Unbound, an id that both orgs have names no node.
        11 if bound => format!("SELECT crm_tree.merge_nodes('{table}', '{id}', '{other}')"),
        12 | 13 => format!("INSERT INTO busy_link VALUES ({org}, {id}, {other}) ON CONFLICT DO NOTHING"),
        15 => format!("SELECT crm_tree.repair_tree('{table}', '{org}')"),
        14 => format!("DELETE FROM busy_link WHERE org = {org} AND child = {id}"),
        _ => format!("UPDATE {table} SET note = 'x' WHERE org = {org} AND id = {id}"),
    }
}
