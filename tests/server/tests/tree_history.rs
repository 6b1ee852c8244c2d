//! The history of a tree that many sessions write to tells what each of them saw.
//!
//! `CRM_TREE_SEED` repeats a run, `CRM_TREE_OPERATIONS` sets its length.

use crm_tree_server_tests::{Cluster, sqlstate};
use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Mutex;

const IDS: i64 = 30;
const ALLOWED: [&str; 6] = ["00000", "40001", "40P01", "23503", "23505", "23514"];

type Links = BTreeMap<i64, Option<i64>>;

/// What a session that had the org alone saw before it committed, and its instant.
struct Seen {
    org: i32,
    at: String,
    links: Links,
}

fn links(client: &mut Client, sql: &str) -> Links {
    client.query(sql, &[]).unwrap().iter().map(|r| (r.get(0), r.get(1))).collect()
}

fn parent(rng: &mut StdRng) -> String {
    if rng.random_bool(0.15) { "NULL::bigint".into() } else { rng.random_range(1..=IDS).to_string() }
}

fn operation(rng: &mut StdRng, org: i32) -> String {
    let (id, parent) = (rng.random_range(1..=IDS), parent(rng));
    match rng.random_range(0..10) {
        0..=3 => format!("UPDATE busy SET parent = {parent} WHERE org = {org} AND id = {id}"),
        4..=6 => format!("INSERT INTO busy (org, id, parent) VALUES ({org}, {id}, {parent})"),
        7 => format!("DELETE FROM busy WHERE org = {org} AND id = {id}"),
        8 => format!(
            "INSERT INTO busy (org, id, parent) VALUES ({org}, {id}, {parent}) ON CONFLICT (org, id) DO UPDATE SET parent = excluded.parent"
        ),
        _ => format!(
            "UPDATE busy SET parent = {parent} WHERE org = {org} AND id IN ({id}, {})",
            rng.random_range(1..=IDS)
        ),
    }
}

/// A few random statements, some under savepoints. Where the last was a move at READ COMMITTED, what
/// the org then looks like.
fn transaction(client: &mut Client, rng: &mut StdRng, org: i32) -> (String, Option<Seen>) {
    let level = *["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"].choose(rng).unwrap();
    let bind = if rng.random_bool(0.8) { format!("SELECT crm_tree.bind_org({org});") } else { String::new() };
    let mut answer = sqlstate(
        client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; {bind} SELECT count(*) FROM busy")),
    );
    for _ in 0..rng.random_range(1..=4) {
        if answer != "00000" {
            break;
        }
        let sql = operation(rng, org);
        if rng.random_bool(0.4) {
            client.batch_execute("SAVEPOINT s").unwrap();
            if sqlstate(client.batch_execute(&sql)) != "00000" || rng.random_bool(0.5) {
                answer = sqlstate(client.batch_execute("ROLLBACK TO s"));
            } else if rng.random_bool(0.5) {
                answer = sqlstate(client.batch_execute("RELEASE s"));
            }
        } else {
            answer = sqlstate(client.batch_execute(&sql));
        }
    }
    let mut seen = None;
    if answer == "00000" && level == "READ COMMITTED" && rng.random_bool(0.5) {
        let id = rng.random_range(1..=IDS);
        answer = sqlstate(
            client.batch_execute(&format!("UPDATE busy SET parent = NULL WHERE org = {org} AND id = {id}")),
        );
        if answer == "00000" {
            // The instant is where the transaction ended an edge. (Not where one begins: an edge that it
            // ended and took up again is its own row too, and began before.)
            let at = client
                .query(
                    &format!(
                        "SELECT max(valid_to)::text FROM busy_history
                          WHERE org = {org} AND crm_tree._is_own_xid(xmin::text)"
                    ),
                    &[],
                )
                .unwrap()[0]
                .get::<_, Option<String>>(0);
            seen = at.map(|at| Seen {
                org,
                at,
                links: links(client, &format!("SELECT id, parent FROM busy WHERE org = {org}")),
            });
        }
    }
    let commit = rng.random_bool(0.9);
    if answer == "00000" {
        answer = sqlstate(client.batch_execute(if commit { "COMMIT" } else { "ROLLBACK" }));
    }
    let _ = client.batch_execute("ROLLBACK");
    let committed = commit && answer == "00000";
    (answer, seen.filter(|_| committed))
}

/// The paths that the links of a recorded state say.
fn paths(links: &Links) -> BTreeMap<i64, String> {
    let path = |id: i64| {
        let mut chain = vec![id];
        while let Some(parent) = links[chain.last().unwrap()] {
            chain.push(parent);
        }
        chain.iter().rev().fold("/".to_owned(), |p, id| format!("{p}{id}/"))
    };
    links.keys().map(|id| (*id, path(*id))).collect()
}

#[test]
fn the_history_of_any_interleaving_is_what_was_seen() {
    let seed: u64 =
        std::env::var("CRM_TREE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("CRM_TREE_SEED={seed}");
    let total: u64 = std::env::var("CRM_TREE_OPERATIONS").ok().and_then(|s| s.parse().ok()).unwrap_or(4_000);
    let cluster = Cluster::start(&[("max_connections", "40"), ("deadlock_timeout", "10ms")]);
    let mut client = cluster.superuser();
    client
        .batch_execute(
            "CREATE EXTENSION crm_tree;
             CREATE TABLE busy (org int NOT NULL, id bigint NOT NULL, parent bigint, PRIMARY KEY (org, id));
             SELECT crm_tree.attach_tree('busy', 'id', 'parent', 'org', history => true, on_delete => 'adopt');",
        )
        .unwrap();
    let all_seen = Mutex::new(Vec::new());
    let threads = 6;
    std::thread::scope(|scope| {
        for t in 0..threads {
            let (cluster, all_seen) = (&cluster, &all_seen);
            scope.spawn(move || {
                let mut client = cluster.superuser();
                let mut rng = StdRng::seed_from_u64(seed.wrapping_add(t));
                for _ in 0..total / threads {
                    let org = rng.random_range(1..=2);
                    let (answer, seen) = transaction(&mut client, &mut rng, org);
                    assert!(
                        ALLOWED.contains(&answer.as_str()),
                        "undocumented SQLSTATE {answer}, seed {seed}"
                    );
                    all_seen.lock().unwrap().extend(seen);
                }
            });
        }
    });
    let wrong = client.query(WRONG, &[]).unwrap();
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} {:?}",
        wrong.len(),
        wrong.iter().map(|r| r.get::<_, String>(0)).collect::<Vec<_>>()
    );
    let all_seen = all_seen.into_inner().unwrap();
    println!("{} states were seen", all_seen.len());
    assert!(all_seen.len() as u64 > total / 50, "the sessions must see something");
    for seen in all_seen {
        let Seen { org, at, links: was } = &seen;
        let kept = links(
            &mut client,
            &format!(
                "SELECT id, parent FROM busy_history
                  WHERE org = {org} AND valid_from <= '{at}' AND (valid_to > '{at}' OR valid_to IS NULL)"
            ),
        );
        assert_eq!(&kept, was, "org {org} at {at}, seed {seed}");
        let mut told = BTreeMap::new();
        client.batch_execute(&format!("BEGIN; SELECT crm_tree.bind_org({org})")).unwrap();
        for (id, _) in was.iter().filter(|(_, parent)| parent.is_none()) {
            let sql = format!("SELECT id::bigint, path FROM crm_tree.subtree_as_of('busy', '{id}', '{at}')");
            told.extend(
                client.query(&sql, &[]).unwrap().iter().map(|r| (r.get::<_, i64>(0), r.get::<_, String>(1))),
            );
        }
        client.batch_execute("COMMIT").unwrap();
        assert_eq!(told, paths(was), "subtree_as_of of org {org} at {at}, seed {seed}");
    }
}

/// Overlaps, open rows that are not the table's, edges that stood while the parent was not there,
/// gaps that no other row of the node explains.
const WRONG: &str = "
    SELECT 'overlap ' || a::text FROM busy_history a JOIN busy_history b ON a.org = b.org AND a.id = b.id AND a.ctid <> b.ctid
       AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)
    UNION ALL
    SELECT 'open ' || coalesce(t::text, h::text) FROM busy t
      FULL JOIN (SELECT * FROM busy_history WHERE valid_to IS NULL) h ON h.org = t.org AND h.id = t.id
     WHERE t.id IS NULL OR h.id IS NULL OR t.parent IS DISTINCT FROM h.parent
    UNION ALL
    SELECT 'no parent ' || c::text FROM busy_history c WHERE c.parent IS NOT NULL
       AND NOT tstzmultirange(tstzrange(c.valid_from, c.valid_to))
            <@ (SELECT range_agg(tstzrange(p.valid_from, p.valid_to)) FROM busy_history p WHERE p.org = c.org AND p.id = c.parent)
    UNION ALL
    SELECT 'path ' || (c).id FROM crm_tree.check_tree('busy') c";
