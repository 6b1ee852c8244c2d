//! Rollups under random statements of an application's session, against recursive queries that share
//! no code with the extension. `CRM_TREE_SEED` repeats a run, `CRM_TREE_OPERATIONS` sets its length.

use crm_tree_server_tests::{Cluster, operations, seed, sqlstate};
use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

/// What each account's rollup is in each mode, from the edges and figures alone. `$1` is the org,
/// `$2` the day.
const ORACLE: &str = "
WITH RECURSIVE
 own AS (SELECT a.account_id AS id, f.arr_usd AS own
           FROM crm.account a LEFT JOIN crm.fct_account_arr_snapshot f
             ON f.org_id = a.org_id AND f.account_id = a.account_id AND f.snapshot_date = $2
          WHERE a.org_id = $1),
 tree AS (SELECT parent_account_id AS p, account_id AS c, ownership_pct * 0.01 AS w FROM crm.account
           WHERE org_id = $1 AND parent_account_id IS NOT NULL),
 edge AS (SELECT * FROM tree UNION ALL
          SELECT parent_account_id, child_account_id, ownership_pct * 0.01 FROM crm.account_link WHERE org_id = $1),
 tree_reach(top, id) AS (SELECT id, id FROM own UNION SELECT r.top, t.c FROM tree_reach r JOIN tree t ON t.p = r.id),
 reach(top, id) AS (SELECT id, id FROM own UNION SELECT r.top, e.c FROM reach r JOIN edge e ON e.p = r.id),
 way(top, id, w) AS (SELECT id, id, 1::numeric FROM own UNION ALL SELECT y.top, e.c, y.w * e.w FROM way y JOIN edge e ON e.p = y.id),
 tree_rest AS (SELECT c AS id, 1 - sum(w) AS rest FROM tree GROUP BY c),
 rest AS (SELECT c AS id, 1 - sum(w) AS rest FROM edge GROUP BY c),
 weighted AS (SELECT y.top AS id, sum(y.w * coalesce(o.own, 0)) AS total FROM way y JOIN own o USING (id) GROUP BY y.top),
 more AS (SELECT r.top, count(*) AS edges FROM reach r JOIN edge e ON e.p = r.id GROUP BY r.top)
SELECT 'primary' AS mode, r.top AS account_id, coalesce(sum(o.own), 0) AS total_usd, count(*) AS accounts, 0::bigint AS duplicates_suppressed,
       coalesce(sum(o.own * t.rest) FILTER (WHERE r.id <> r.top), 0) AS unallocated_usd, count(*) FILTER (WHERE o.own IS NULL) AS missing
  FROM tree_reach r JOIN own o USING (id) LEFT JOIN tree_rest t USING (id) GROUP BY r.top
UNION ALL
SELECT 'distinct', r.top, coalesce(sum(o.own), 0), count(*), coalesce(max(m.edges), 0) - count(*) + 1,
       coalesce(sum(o.own * t.rest) FILTER (WHERE r.id <> r.top), 0), count(*) FILTER (WHERE o.own IS NULL)
  FROM reach r JOIN own o USING (id) LEFT JOIN rest t USING (id) LEFT JOIN more m USING (top) GROUP BY r.top
UNION ALL
SELECT 'weighted', r.top, max(w.total), count(*), 0,
       coalesce(sum(below.total * t.rest) FILTER (WHERE r.id <> r.top), 0), count(*) FILTER (WHERE o.own IS NULL)
  FROM reach r JOIN own o USING (id) LEFT JOIN rest t USING (id)
  JOIN weighted w ON w.id = r.top JOIN weighted below ON below.id = r.id GROUP BY r.top";

/// The same from arr_rollup and from arr_rollup_tree, as the session that asks sees them.
const ANSWERS: &str = "
SELECT m.mode, a.account_id, t.total_usd, t.accounts, CASE WHEN m.mode = 'distinct' THEN t.duplicates_suppressed ELSE 0 END AS duplicates_suppressed,
       t.unallocated_usd, t.missing
  FROM unnest('{primary,distinct,weighted}'::text[]) AS m(mode), crm.account a, crm.arr_rollup(a.account_id, $1, m.mode) t
 WHERE t.as_of = $1 AND t.source = 'path'";
const TREE_ANSWERS: &str = "
SELECT m.mode, t.account_id, t.total_usd, t.descendants + 1, CASE WHEN m.mode = 'distinct' THEN t.duplicates_suppressed ELSE 0 END,
       t.unallocated_usd, t.missing
  FROM unnest('{primary,distinct,weighted}'::text[]) AS m(mode), crm.arr_rollup_tree(NULL, $1, m.mode) t
 WHERE t.as_of = $1 AND t.source = 'path'";

struct Org {
    id: Uuid,
    accounts: Vec<Uuid>,
}

fn id(rng: &mut StdRng) -> Uuid {
    Uuid::from_bytes(rng.random())
}

/// A random statement, and the accounts that are gone or new when it succeeds.
fn statement(rng: &mut StdRng, org: &Org) -> (String, Vec<Uuid>, Option<Uuid>) {
    let some = |rng: &mut StdRng| org.accounts.choose(rng).copied().unwrap_or_default();
    let parent = |rng: &mut StdRng| {
        if rng.random_bool(0.15) { "NULL".to_owned() } else { format!("'{}'", some(rng)) }
    };
    let percent =
        |rng: &mut StdRng| format!("{}.{:04}", rng.random_range(0..100), rng.random_range(0..10_000));
    let insert = |rng: &mut StdRng, count: usize| {
        // Each below the one before, in an order of its own.
        let new: Vec<Uuid> = (0..count).map(|_| id(rng)).collect();
        let mut rows: Vec<String> = new
            .iter()
            .enumerate()
            .map(|(n, id)| {
                let above = if n == 0 { parent(rng) } else { format!("'{}'", new[n - 1]) };
                format!("('{id}', {above}, {}, 'x')", percent(rng))
            })
            .collect();
        rows.reverse();
        let sql = format!(
            "INSERT INTO crm.account (account_id, parent_account_id, ownership_pct, name) VALUES {}",
            rows.join(", ")
        );
        (sql, new, None)
    };
    if org.accounts.len() < 10 {
        return insert(rng, 3);
    }
    let sql = match rng.random_range(0..20) {
        0..=2 if org.accounts.len() < 60 => {
            let count = rng.random_range(1..=3);
            return insert(rng, count);
        }
        3..=5 => {
            let gone = some(rng);
            let sql = format!(
                "DELETE FROM crm.fct_account_arr_snapshot WHERE account_id = '{gone}'
                    AND NOT EXISTS (SELECT FROM crm.account WHERE parent_account_id = '{gone}');
                 DELETE FROM crm.account WHERE account_id = '{gone}'"
            );
            return (sql, vec![], Some(gone));
        }
        6..=10 => format!(
            "UPDATE crm.account SET parent_account_id = {} WHERE account_id = '{}'",
            parent(rng),
            some(rng)
        ),
        11 => format!(
            "UPDATE crm.account SET parent_account_id = {}, ownership_pct = {} WHERE account_id IN ('{}', '{}', '{}')",
            parent(rng),
            percent(rng),
            some(rng),
            some(rng),
            some(rng)
        ),
        12 => {
            format!("UPDATE crm.account SET ownership_pct = {} WHERE account_id = '{}'", percent(rng), some(rng))
        }
        13 | 14 => format!(
            "INSERT INTO crm.account_link (parent_account_id, child_account_id, ownership_pct) VALUES ('{}', '{}', {})
             ON CONFLICT (org_id, parent_account_id, child_account_id) DO UPDATE SET ownership_pct = excluded.ownership_pct",
            some(rng),
            some(rng),
            rng.random_range(0..40)
        ),
        15 | 16 => format!("DELETE FROM crm.account_link WHERE child_account_id = '{}'", some(rng)),
        17 | 18 => format!(
            "INSERT INTO crm.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
             VALUES (date '2026-01-31' - {}, '{}', {}.{:02})
             ON CONFLICT (org_id, snapshot_date, account_id) DO UPDATE SET arr_usd = excluded.arr_usd",
            rng.random_range(0..2),
            some(rng),
            rng.random_range(-500..100_000),
            rng.random_range(0..100)
        ),
        _ => format!("DELETE FROM crm.fct_account_arr_snapshot WHERE account_id = '{}'", some(rng)),
    };
    (sql, vec![], None)
}

/// How many answers differ from the oracle's, and how many there are.
fn compare(admin: &mut Client, app: &mut Client, org: Uuid, n: u64, seed: u64) -> i64 {
    type Line = (String, Uuid, String, i64, i64, String, i64);
    let lines = |client: &mut Client, sql: &str, org: Option<&Uuid>| -> Vec<Line> {
        let sql = format!(
            "SELECT q.mode, q.account_id, trim_scale(q.total_usd)::text, q.accounts, q.duplicates_suppressed,
                    trim_scale(q.unallocated_usd)::text, q.missing
               FROM ({sql}) q (mode, account_id, total_usd, accounts, duplicates_suppressed, unallocated_usd, missing) ORDER BY 1, 2"
        )
        .replace("$2", "date '2026-01-31'");
        let sql = if org.is_some() { sql } else { sql.replace("$1", "date '2026-01-31'") };
        let rows = match org {
            Some(org) => client.query(&sql, &[org]),
            None => client.query(&sql, &[]),
        };
        rows.unwrap()
            .iter()
            .map(|r| (r.get(0), r.get(1), r.get(2), r.get(3), r.get(4), r.get(5), r.get(6)))
            .collect()
    };
    let day: bool = admin
        .query_one(
            "SELECT EXISTS (SELECT FROM crm.fct_account_arr_snapshot WHERE org_id = $1 AND snapshot_date = '2026-01-31')",
            &[&org],
        )
        .unwrap()
        .get(0);
    if !day {
        return 0;
    }
    let expected = lines(admin, ORACLE, Some(&org));
    app.batch_execute(&format!("BEGIN; SELECT crm_tree.bind_org('{org}'::uuid)")).unwrap();
    let one_by_one = lines(app, ANSWERS, None);
    let all = lines(app, TREE_ANSWERS, None);
    app.batch_execute("COMMIT").unwrap();
    for (what, answers) in [("arr_rollup", &one_by_one), ("arr_rollup_tree", &all)] {
        assert_eq!(answers.len(), expected.len(), "{what} after statement {n} of seed {seed}");
        for (answer, expected) in answers.iter().zip(&expected) {
            assert_eq!(answer, expected, "{what} after statement {n} of seed {seed}");
        }
    }
    expected.len() as i64
}

const WRONG_PATHS: &str = "
WITH RECURSIVE w AS (
    SELECT org_id, account_id, '/' || account_id || '/' AS p, 0 AS d FROM crm.account WHERE parent_account_id IS NULL
    UNION ALL
    SELECT c.org_id, c.account_id, w.p || c.account_id || '/', w.d + 1
      FROM w JOIN crm.account c ON c.org_id = w.org_id AND c.parent_account_id = w.account_id)
SELECT count(*) FROM crm.account a LEFT JOIN w USING (org_id, account_id)
 WHERE w.p IS DISTINCT FROM a.materialized_path OR w.d IS DISTINCT FROM a.depth";

#[test]
fn every_rollup_is_what_a_recursive_query_says() {
    let cluster = Cluster::start(&[]);
    let mut admin = cluster.superuser();
    let orgs = [Uuid::from_u128(1), Uuid::from_u128(2)];
    admin
        .batch_execute(
            "CREATE EXTENSION crm_tree; SELECT crm_tree.create_crm();
             CREATE ROLE app LOGIN; SELECT crm.grant_app('app')",
        )
        .unwrap();
    for org in orgs {
        admin
            .batch_execute(&format!(
                "SELECT crm_tree.create_org('Org {org}', '{org}'); SELECT crm_tree.grant_org('app', '{org}'::uuid)"
            ))
            .unwrap();
    }
    let mut app = cluster.connect("app", "postgres");
    let (seed, count) = (seed(), operations(10_000));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut orgs = orgs.map(|id| Org { id, accounts: vec![] });
    let (mut done, mut refused, mut compared) = (0, 0, 0);
    for n in 0..count {
        let org = &mut orgs[rng.random_range(0..2)];
        let (sql, new, gone) = statement(&mut rng, org);
        app.batch_execute(&format!("BEGIN; SELECT crm_tree.bind_org('{}'::uuid)", org.id)).unwrap();
        if rng.random_bool(0.1) {
            app.batch_execute("SAVEPOINT a").unwrap();
            let _ = app.batch_execute(&sql);
            app.batch_execute("ROLLBACK TO a").unwrap();
        }
        let answer = sqlstate(app.batch_execute(&sql));
        app.batch_execute("COMMIT").unwrap();
        match answer.as_str() {
            "00000" => {
                org.accounts.extend(new);
                org.accounts.retain(|id| Some(*id) != gone);
                done += 1;
            }
            "23503" | "23514" => refused += 1,
            _ => panic!("statement {n} of seed {seed} answered {answer}: {sql}"),
        }
        if n % 500 == 499 || n + 1 == count {
            let id = org.id;
            compared += compare(&mut admin, &mut app, id, n, seed);
            let wrong: i64 = admin.query_one(WRONG_PATHS, &[]).unwrap().get(0);
            let found: i64 = admin
                .query_one("SELECT count(*) FROM crm_tree.check_tree('crm.account')", &[])
                .unwrap()
                .get(0);
            assert_eq!((wrong, found), (0, 0), "after statement {n} of seed {seed}");
        }
    }
    println!("{done} statements done, {refused} refused, {compared} rollups compared, each two ways");
    assert!(done > count / 3 && refused > count / 50 && compared > 0, "the statements must try both");
}
