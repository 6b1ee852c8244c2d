//! What the template ships is planned, as the walled role, with index conditions that lead with the org.
//! auto_explain tells the plan of every statement, those inside functions and triggers too.

use crm_tree_server_tests::Cluster;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const SETUP: &str = "
CREATE EXTENSION crm_tree;
SELECT crm_tree.create_crm();
CREATE ROLE app LOGIN;
SELECT crm.grant_app('app'), crm_tree.grant_org('app', '*');";

/// An org with a sales organisation, 300 accounts in a tree, second parents, figures and deals.
const FILL: &str = "
INSERT INTO crm.role (role_id, name) VALUES (uuid_of('r', 1), 'CRO');
INSERT INTO crm.role (role_id, parent_role_id, name) SELECT uuid_of('r', i), uuid_of('r', 1), 'VP ' || i FROM generate_series(2, 5) i;
INSERT INTO crm.app_user (user_id, display_name, role_id) SELECT 'u' || i, 'User', uuid_of('r', 1 + i % 5) FROM generate_series(1, 20) i;
INSERT INTO crm.account (account_id, parent_account_id, name, owner_user_id, ownership_pct)
SELECT uuid_of('a', i), CASE WHEN i > 3 THEN uuid_of('a', i / 3) END, 'Account ' || i, 'u' || (1 + i % 20), 90 FROM generate_series(1, 300) i;
INSERT INTO crm.account_link (parent_account_id, child_account_id, ownership_pct) SELECT uuid_of('a', i), uuid_of('a', 200 + i), 5 FROM generate_series(20, 40) i;
INSERT INTO crm.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) SELECT current_date - 31 * m, uuid_of('a', i), i FROM generate_series(1, 300) i, generate_series(0, 3) m;
INSERT INTO crm.stage (stage, position, outcome) VALUES ('lead', 1, 'open'), ('won', 2, 'won');
INSERT INTO crm.opportunity (opportunity_id, account_id, name) SELECT uuid_of('o', i), uuid_of('a', i), 'Deal ' || i FROM generate_series(1, 300) i;
INSERT INTO crm.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd)
SELECT uuid_of('e', i), uuid_of('o', 1 + i % 300), now() - interval '1 day' * (i % 60), CASE WHEN i % 2 = 0 THEN 'lead' ELSE 'won' END, i FROM generate_series(1, 600) i;
INSERT INTO crm.account_share (account_id, user_id, permission_level) SELECT uuid_of('a', i), 'u' || (1 + i % 20), 'edit' FROM generate_series(1, 20) i;
SELECT * FROM crm.recompute_sharing('full');";

/// Reading and writing statements of an application.
const STATEMENTS: [&str; 32] = [
    "SELECT * FROM crm.arr_rollup(uuid_of('a', 4))",
    // As arr_rollup() sums more than a thousand accounts up.
    "SELECT * FROM crm._arr_of(array_fill(uuid_of('a', 4), '{1001}'), array_fill(100.0, '{1001}'), uuid_of('a', 4), current_date)",
    "SELECT * FROM crm.arr_rollup(uuid_of('a', 4), NULL, 'weighted')",
    "SELECT * FROM crm.arr_rollup(uuid_of('a', 4), NULL, 'primary')",
    "SELECT count(*) FROM crm.arr_rollup_tree(uuid_of('a', 4))",
    "SELECT count(*) FROM crm.arr_rollup_tree()",
    "SELECT * FROM crm.arr_rollup_as_of(uuid_of('a', 4), current_date, now())",
    "SELECT crm.org_total()",
    "SELECT crm.refresh_arr_snapshot_status()",
    "SELECT * FROM crm.account_with_root WHERE account_id = uuid_of('a', 7)",
    "SELECT * FROM crm_tree.rollup('crm.account', 'SELECT account_id, 1 FROM crm.account WHERE org_id = crm_tree.current_org()') LIMIT 1",
    "SELECT count(*) FROM crm_tree.subtree('crm.account', uuid_of('a', 4)::text)",
    "SELECT count(*) FROM crm_tree.ancestors('crm.account', uuid_of('a', 200)::text)",
    "SELECT count(*) FROM crm_tree.children('crm.account', uuid_of('a', 4)::text)",
    "SELECT count(*) FROM crm_tree.leaves('crm.account', uuid_of('a', 4)::text)",
    "SELECT * FROM crm_tree.lowest_common_ancestor('crm.account', uuid_of('a', 200)::text, uuid_of('a', 100)::text)",
    "SELECT * FROM crm_tree.preview_move('crm.account', uuid_of('a', 40)::text, uuid_of('a', 2)::text)",
    "SELECT count(*) FROM crm.current_stage",
    "SELECT * FROM crm.current_stage WHERE opportunity_id = uuid_of('o', 5)",
    "SELECT count(*) FROM crm.time_in_stage()",
    "SELECT count(*) FROM crm.time_in_stage(uuid_of('o', 5))",
    "SELECT count(*) FROM crm.stage_durations()",
    "SELECT count(*) FROM crm.stage_durations(account_id => uuid_of('a', 4))",
    "SELECT count(*) FROM crm.pipeline_rollup(uuid_of('a', 4))",
    "SELECT crm.check_access('u3', uuid_of('a', 100), 'read')",
    "SELECT count(*) FROM crm.list_accounts('u3')",
    "SELECT count(*) FROM crm.list_users(uuid_of('a', 100))",
    "SELECT crm.explain_access('u3', uuid_of('a', 100))",
    "SELECT count(*) FROM crm.sharing_drift()",
    "UPDATE crm.account SET parent_account_id = uuid_of('a', 2) WHERE account_id = uuid_of('a', 40)",
    "DELETE FROM crm.account_link WHERE child_account_id = uuid_of('a', 220)",
    "SELECT crm.merge_account(uuid_of('a', 299), uuid_of('a', 298))",
];

/// The org's column: of the template's tables, of a history.
const ORG: [&str; 2] = ["org_id", "org"];

/// Reads of protected relations below this plan that an index led by the org does not bound.
fn unled<'p>(
    plan: &'p Value,
    leads: &BTreeMap<String, String>,
    relations: &BTreeSet<String>,
    found: &mut Vec<&'p Value>,
) {
    let text = |key: &str| plan[key].as_str().unwrap_or_default();
    let wrong = match text("Node Type") {
        "Seq Scan" | "Tid Range Scan" | "Sample Scan" => relations.contains(text("Relation Name")),
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => {
            leads.get(text("Index Name")).is_some_and(|lead| {
                !ORG.contains(&lead.as_str()) || !text("Index Cond").contains(&format!("({lead} = "))
            })
        }
        _ => false,
    };
    if wrong {
        found.push(plan);
    }
    for below in plan["Plans"].as_array().into_iter().flatten() {
        unled(below, leads, relations, found);
    }
}

/// Whether anything is sorted in this plan.
fn sorts(plan: &Value) -> bool {
    let below = || plan["Plans"].as_array().into_iter().flatten();
    plan["Node Type"].as_str().is_some_and(|node| node.contains("Sort")) || below().any(sorts)
}

#[test]
fn every_query_of_the_template_is_led_by_the_org() {
    let cluster = Cluster::start(&[
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_nested_statements", "on"),
        ("auto_explain.log_format", "json"),
        ("auto_explain.log_level", "notice"),
        ("jit", "off"),
    ]);
    let mut superuser = cluster.superuser();
    superuser.batch_execute(SETUP).unwrap();
    superuser
        .batch_execute(
            "CREATE FUNCTION public.uuid_of(kind text, i int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
                 RETURN (lpad(to_hex(ascii(kind)), 8, '0') || '-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid",
        )
        .unwrap();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let ear = heard.clone();
    let mut app = cluster.connect_listening("app", "postgres", move |notice| {
        ear.lock().unwrap().push(notice.message().to_owned())
    });
    for org in 1..=3 {
        superuser
            .batch_execute(&format!(
                "SELECT crm_tree.create_org('Org {org}', '00000000-0000-4000-8000-00000000000{org}')"
            ))
            .unwrap();
        let bind = format!("SELECT crm_tree.bind_org('00000000-0000-4000-8000-00000000000{org}'::uuid)");
        app.batch_execute(&format!("BEGIN; {bind}; {FILL}; COMMIT")).unwrap();
    }
    // The facts of other orgs, so many that their day is worth an estimate.
    superuser
        .batch_execute(
            "SET session_replication_role = replica;
             INSERT INTO crm.fct_account_arr_snapshot (org_id, snapshot_date, account_id, arr_usd)
             SELECT uuid_of('x', o), current_date, uuid_of('a', i), i FROM generate_series(1, 20) o, generate_series(1, 3000) i;
             RESET session_replication_role",
        )
        .unwrap();
    superuser.batch_execute("VACUUM ANALYZE").unwrap();
    let leads: BTreeMap<String, String> = superuser
        .query(
            "SELECT n.relname::text, a.attname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
               JOIN pg_class n ON n.oid = i.indexrelid
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
              WHERE c.relnamespace = 'crm'::regnamespace",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let relations: BTreeSet<String> = superuser
        .query("SELECT relname::text FROM pg_class WHERE relnamespace = 'crm'::regnamespace AND relkind IN ('r', 'p') AND relrowsecurity", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(relations.len() > 50 && leads.len() > 50, "the template's tables and partitions");

    heard.lock().unwrap().clear();
    let mut plans = 0;
    let mut wrong = String::new();
    for statement in STATEMENTS {
        // The small tables of this test would be read in full; what counts is what can be done.
        app.batch_execute(
            "BEGIN; SELECT crm_tree.bind_org('00000000-0000-4000-8000-000000000002'::uuid);
             SET LOCAL enable_seqscan = off",
        )
        .unwrap();
        heard.lock().unwrap().clear();
        app.batch_execute(statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
        app.batch_execute("ROLLBACK").unwrap();
        for message in heard.lock().unwrap().drain(..) {
            let Some((_, json)) = message.split_once("plan:\n") else { continue };
            let told: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
            plans += 1;
            let mut found = Vec::new();
            unled(&told["Plan"], &leads, &relations, &mut found);
            for node in found {
                let query = told["Query Text"].as_str().unwrap_or_default();
                wrong.push_str(&format!(
                    "{statement}\n  in {query}\n  {} of {} {} on {}\n",
                    node["Node Type"], node["Relation Name"], node["Index Name"], node["Index Cond"]
                ));
            }
        }
    }
    assert!(plans > 3 * STATEMENTS.len(), "only {plans} plans were told");
    assert!(wrong.is_empty(), "not led by the org:\n{wrong}");

    // Whether a day has facts is one row of the index, not the day sorted; as a server on flash memory plans it.
    app.batch_execute(
        "DISCARD PLANS; BEGIN; SET LOCAL random_page_cost = 1.1; SELECT crm_tree.bind_org('00000000-0000-4000-8000-000000000002'::uuid)",
    )
    .unwrap();
    heard.lock().unwrap().clear();
    app.batch_execute("SELECT crm._snapshot_day(NULL); ROLLBACK").unwrap();
    let told = heard.lock().unwrap();
    let facts = told
        .iter()
        .find(|message| message.contains("fct_account_arr_snapshot"))
        .expect("the plan of the day's facts");
    let (_, json) = facts.split_once("plan:\n").unwrap();
    assert!(!sorts(&serde_json::from_str::<Value>(json).unwrap()["Plan"]), "{json}");
}
