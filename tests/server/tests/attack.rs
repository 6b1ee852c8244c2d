//! Random statements of an application's session over two orgs, both of which it may bind: whatever
//! becomes visible (rows, notices, errors, COPY) or changes belongs to the org that is bound.
//!
//! Each row's secret names its org, so a leak shows in any text that reaches the client. `CRM_TREE_SEED`
//! repeats a run, `CRM_TREE_OPERATIONS` sets its length.

use crm_tree_server_tests::{Cluster, operations, seed};
use postgres::{Client, SimpleQueryMessage};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

const SETUP: &str = "
CREATE EXTENSION crm_tree;
CREATE ROLE owner NOLOGIN;
CREATE ROLE app LOGIN;
CREATE SCHEMA app AUTHORIZATION owner;
CREATE SCHEMA lair AUTHORIZATION app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
SET ROLE owner;
CREATE TABLE app.account (org int, id int, parent int, secret text, PRIMARY KEY (org, id));
CREATE TABLE app.task (org int, id int, account int, secret text, PRIMARY KEY (org, id),
    FOREIGN KEY (org, account) REFERENCES app.account ON DELETE CASCADE);
CREATE TABLE app.step (org int, id int, task int, secret text, PRIMARY KEY (org, id),
    FOREIGN KEY (org, task) REFERENCES app.task ON DELETE CASCADE);
CREATE TABLE app.fact (org int, day date, id int, secret text, PRIMARY KEY (org, day, id)) PARTITION BY RANGE (day);
CREATE TABLE app.fact_1 PARTITION OF app.fact FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE app.fact_2 PARTITION OF app.fact FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE app.note (org int, id int, secret text, PRIMARY KEY (org, id));
CREATE TABLE app.note_long (pages int) INHERITS (app.note);
-- By indexes that find rows roughly, order them, or hold one org alone.
CREATE TABLE app.rough (org int, id int, secret text COLLATE \"C\", ring circle, place point, PRIMARY KEY (org, id));
CREATE INDEX ON app.rough (secret);
CREATE INDEX ON app.rough USING hash (secret);
CREATE INDEX ON app.rough USING brin (org, secret);
CREATE INDEX ON app.rough USING gist (ring);
CREATE INDEX ON app.rough USING spgist (place);
CREATE INDEX ON app.rough (secret) WHERE org = 1;
CREATE INDEX ON app.rough (secret) WHERE org = 2;
INSERT INTO app.rough SELECT o, i, format('secret-of-%s-r%s', o, i), circle(point(100 * o + i, 0), 1), point(100 * o + i, 0) FROM generate_series(1, 2) o, generate_series(1, 30) i;
INSERT INTO app.account SELECT o, i, NULLIF(i / 3, 0), format('secret-of-%s-a%s', o, i) FROM generate_series(1, 2) o, generate_series(1, 25) i;
INSERT INTO app.task SELECT o, i, 1 + i % 25, format('secret-of-%s-t%s', o, i) FROM generate_series(1, 2) o, generate_series(1, 30) i;
INSERT INTO app.step SELECT o, i, 1 + i % 30, format('secret-of-%s-s%s', o, i) FROM generate_series(1, 2) o, generate_series(1, 40) i;
INSERT INTO app.fact SELECT o, date '2026-01-01' + i, i, format('secret-of-%s-f%s', o, i) FROM generate_series(1, 2) o, generate_series(1, 50) i;
INSERT INTO app.note SELECT o, i, format('secret-of-%s-n%s', o, i) FROM generate_series(1, 2) o, generate_series(1, 10) i;
INSERT INTO app.note_long SELECT o, i + 100, format('secret-of-%s-l%s', o, i), i FROM generate_series(1, 2) o, generate_series(1, 10) i;
SELECT crm_tree.attach_tree('app.account', 'id', 'parent', 'org', history => true);
SELECT crm_tree.protect(t::regclass, 'org') FROM unnest('{app.account,app.task,app.step,app.fact,app.note,app.rough}'::text[]) t;
CREATE VIEW app.of_owner AS SELECT org, id, secret FROM app.account;
CREATE VIEW app.of_invoker WITH (security_invoker = true) AS SELECT t.org, t.id, s.secret FROM app.task t LEFT JOIN app.step s ON s.task = t.id;
CREATE FUNCTION app.definer() RETURNS TABLE (org int, id int, secret text) LANGUAGE sql SECURITY DEFINER AS 'SELECT org, id, secret FROM app.note';
-- Fired by the application's rows, and by the rows that path maintenance rewrites.
CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'a trigger on % sees %', TG_TABLE_NAME, (SELECT string_agg(secret, ' ') FROM app.step);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON app.account FOR EACH ROW EXECUTE FUNCTION app.tell();
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON app.task FOR EACH ROW EXECUTE FUNCTION app.tell();
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO app;
RESET ROLE;
SELECT crm_tree.grant_org('app', o) FROM generate_series(1, 2) o;
SET ROLE app;
CREATE FUNCTION lair.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN RAISE NOTICE ''leaked %'', $1; RETURN true; END';
CREATE FUNCTION lair.leak(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN RAISE NOTICE ''leaked %'', $1; RETURN $1 < $2; END';
CREATE OPERATOR lair.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.leak, RESTRICT = scalarltsel);
-- Says now this and now that; and tells of an org, without a look at any row.
CREATE FUNCTION lair.lies() RETURNS int STABLE LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN RETURN 1 + floor(random() * 2); END';
CREATE FUNCTION lair.tells(int) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN RAISE NOTICE ''there is secret-of-%'', $1; RETURN true; END';
-- Says the bound org a number of times, and the other from then on; is counted; is here, and from then on there.
CREATE FUNCTION lair.turns() RETURNS int STABLE LANGUAGE plpgsql AS $$
DECLARE
    calls int := current_setting('lair.turned')::int;
BEGIN
    PERFORM set_config('lair.turned', (calls + 1)::text, true);
    RETURN CASE WHEN calls < current_setting('lair.truths')::int THEN crm_tree.current_org_bigint() ELSE 3 - crm_tree.current_org_bigint() END;
END $$;
CREATE FUNCTION lair.counts(answer text) RETURNS text STABLE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lair.counted', (current_setting('lair.counted')::int + 1)::text, true);
    RETURN answer;
END $$;
CREATE FUNCTION lair.moves() RETURNS point STABLE LANGUAGE plpgsql AS 'BEGIN RETURN point(300 * random(), 0); END';
CREATE FUNCTION lair.asked(question text, word text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    PERFORM set_config('lair.turned', '0', true), set_config('lair.counted', '0', true);
    BEGIN
        EXECUTE replace(question, '%', quote_literal(word)) INTO answer;
    EXCEPTION WHEN OTHERS THEN
        answer := SQLSTATE;
    END;
    RETURN concat(answer, ' by ', current_setting('lair.counted'));
END $$;
-- Is anything else for a word that is there than for one that is not?
CREATE FUNCTION lair.differs(question text, there text, nowhere text, truths int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lair.truths', truths::text, true);
    IF lair.asked(question, there) <> lair.asked(question, nowhere) THEN
        RAISE NOTICE 'there is %', there;
    END IF;
END $$;
CREATE VIEW lair.mine AS SELECT org, id, secret FROM app.fact WHERE lair.leak(secret);
CREATE FUNCTION lair.look() RETURNS TABLE (org int, id int, secret text) LANGUAGE plpgsql AS
    'BEGIN RETURN QUERY SELECT a.org, a.id, t.secret FROM app.account a LEFT JOIN app.task t ON t.account = a.id; END';
RESET ROLE;";

/// What the preload adds: a trigger that a foreign key's cascade reaches is run past row security by
/// PostgreSQL; the guard refuses what it reads there.
const UNDER_THE_GUARD: &str = "
CREATE TRIGGER told AFTER DELETE ON app.task FOR EACH ROW EXECUTE FUNCTION app.tell();
CREATE TRIGGER told AFTER DELETE ON app.step FOR EACH ROW EXECUTE FUNCTION app.tell();";

const SOURCES: [&str; 15] = [
    "app.account",
    "app.task",
    "app.step",
    "app.fact",
    "app.fact_1",
    "app.note",
    "ONLY app.note",
    "app.note_long",
    "app.rough",
    "app.of_owner",
    "app.of_invoker",
    "lair.mine",
    "app.definer()",
    "lair.look()",
    "(SELECT crm_tree.current_org_bigint()::int AS org, id::int, path AS secret FROM crm_tree.subtree('app.account', '1') s)",
];

const PREPARED: [&str; 5] = [
    "SELECT org, id, secret FROM app.account WHERE id = $1",
    "SELECT t.*, f.* FROM app.task t JOIN app.fact f ON f.id = t.id WHERE t.id < $1",
    "SELECT string_agg(secret, ',') FROM app.step WHERE id > $1",
    "UPDATE app.note SET secret = secret WHERE id <= $1 RETURNING *",
    "SELECT * FROM lair.look() WHERE id <= $1",
];

/// Generates statements, as the org that is bound or is to be attacked.
struct Writer<'r> {
    rng: &'r mut StdRng,
    mine: i32,
    other: i32,
    bound: bool,
}

impl Writer<'_> {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(self.rng).expect("not empty")
    }

    fn source(&mut self) -> &'static str {
        SOURCES.choose(self.rng).expect("not empty")
    }

    /// A condition on the row `a`: some would tell what the wall hides if they were asked of it.
    fn condition(&mut self, a: &str) -> String {
        let (other, n, source) = (self.other, self.rng.random_range(0..60), self.source());
        match self.rng.random_range(0..15) {
            0 => format!("{a}.org = {other}"),
            1 => format!("{a}.org <> crm_tree.current_org_bigint()"),
            2 => format!("lair.leak({a}.secret)"),
            3 => format!("{a}.secret OPERATOR(lair.<<<) 'z'"),
            4 => format!("{a}.secret LIKE 'secret_of_{other}%'"),
            5 => format!("1 / (CASE WHEN {a}.org = {other} THEN 0 ELSE 1 END) = 1"),
            6 => format!("{a}.id IN (SELECT id FROM {source} x)"),
            7 => format!("EXISTS (SELECT FROM {source} x WHERE x.id = {a}.id AND lair.leak(x.secret))"),
            8 => format!("(SELECT count(*) FROM {source} x WHERE x.org = {other}) = 0"),
            9 => format!("NOT {a}.secret ~ 'of_{other}'"),
            10 => format!("{a}.id BETWEEN {n} AND {n} + 10"),
            11 => format!("{a}.org = lair.lies()"),
            12 => format!("{a}.org = lair.lies() AND {a}.id < {n}"),
            13 => format!("CASE WHEN {a}.org = {other} THEN lair.tells({other}) ELSE true END"),
            _ => "true".to_owned(),
        }
    }

    fn select(&mut self) -> String {
        let (one, two) = (self.source(), self.source());
        let (ca, cb) = (self.condition("a"), self.condition("b"));
        match self.rng.random_range(0..12) {
            0 => format!("SELECT a.* FROM {one} a WHERE {ca} ORDER BY a.id"),
            1 => format!("SELECT a.secret, b.secret FROM {one} a JOIN {two} b ON a.id = b.id WHERE {ca} AND {cb}"),
            2 => format!("SELECT a.id, b FROM {one} a FULL JOIN {two} b ON a.id = b.id AND a.org = b.org"),
            3 => format!("WITH x AS MATERIALIZED (SELECT * FROM {one} a WHERE {ca}) SELECT x.*, (SELECT max(b.secret) FROM {two} b) FROM x LIMIT 40"),
            4 => format!("SELECT a.org, string_agg(a.secret, ' ') FROM {one} a WHERE {ca} GROUP BY a.org HAVING count(*) > 0"),
            5 => format!("SELECT json_agg(a), min(a.secret), count(DISTINCT a.org) FROM {one} a WHERE {ca}"),
            6 => format!("SELECT a.secret, row_number() OVER (PARTITION BY a.org ORDER BY a.secret) FROM {one} a LIMIT 30"),
            7 => format!("SELECT a.id, l.secret FROM {one} a, LATERAL (SELECT b.secret FROM {two} b WHERE b.id = a.id AND {cb} LIMIT 2) l"),
            8 => format!("SELECT org, id, secret FROM {one} a WHERE {ca} UNION ALL SELECT org, id, secret FROM {two} b WHERE {cb} LIMIT 60"),
            9 => "WITH RECURSIVE w AS (SELECT org, id, secret FROM app.account WHERE parent IS NULL
                  UNION ALL SELECT c.org, c.id, c.secret FROM w JOIN app.account c ON c.parent = w.id) SELECT * FROM w LIMIT 200".to_owned(),
            10 => format!("SELECT * FROM app.task a WHERE {ca} FOR UPDATE SKIP LOCKED"),
            _ => format!("SELECT a.* FROM app.fact a TABLESAMPLE BERNOULLI (60) WHERE {ca}"),
        }
    }

    /// A writing statement, whose text names the other org where it can.
    fn write(&mut self) -> String {
        let (mine, other, n) = (self.mine, self.other, self.rng.random_range(1..40));
        let org = if self.rng.random_bool(0.2) { other } else { mine };
        let table = self.pick(&["app.account", "app.task", "app.step", "app.note"]);
        let (link, to) = match table {
            "app.account" => ("parent", "NULLIF($n / 4, 0)"),
            "app.task" => ("account", "1 + $n % 20"),
            "app.step" => ("task", "1 + $n % 20"),
            _ => ("secret", "secret"),
        };
        let to = to.replace("$n", &n.to_string());
        let (ca, cb, source) = (self.condition("a"), self.condition("b"), self.source());
        let returning = self.pick(&["", "RETURNING *", "RETURNING lair.leak(secret)"]);
        let row = format!("secret-of-{mine}-w{n}");
        let columns = if table == "app.note" {
            "org, id, secret".to_owned()
        } else {
            format!("org, id, {link}, secret")
        };
        let values = |org: i32, id: &str| {
            if table == "app.note" {
                format!("{org}, {id}, '{row}'")
            } else {
                format!("{org}, {id}, {to}, '{row}'")
            }
        };
        match self.rng.random_range(0..12) {
            0 | 1 => format!("INSERT INTO {table} ({columns}) VALUES ({}) {returning}", values(org, &n.to_string())),
            2 => format!(
                "INSERT INTO {table} ({columns}) VALUES ({}) ON CONFLICT (org, id) DO UPDATE SET secret = excluded.secret {returning}",
                values(org, &n.to_string())
            ),
            3 => format!("INSERT INTO app.fact SELECT {org}, date '2026-01-05' + b.id % 40, b.id, '{row}' FROM {source} b WHERE {cb} ON CONFLICT DO NOTHING"),
            4 => format!("UPDATE {table} a SET {link} = {} WHERE a.id = {n} AND {ca} {}", if link == "secret" { "a.secret" } else { &to }, returning.replace("(secret", "(a.secret")),
            5 => format!("UPDATE {table} a SET org = {other} WHERE a.id = {n}"),
            6 => format!("UPDATE {table} a SET secret = a.secret FROM {source} b WHERE a.id = b.id AND {cb} AND a.id < {n}"),
            7 => format!("DELETE FROM {table} a WHERE a.id = {n} AND {ca} {}", returning.replace("(secret", "(a.secret")),
            8 => format!("DELETE FROM app.fact a USING {source} b WHERE a.id = b.id AND b.id = {n} AND {cb}"),
            9 => format!(
                "MERGE INTO {table} a USING (SELECT DISTINCT b.id FROM {source} b WHERE {cb} AND b.id < 40) x ON a.id = x.id
                 WHEN MATCHED AND a.id > 35 THEN DELETE WHEN MATCHED THEN UPDATE SET secret = a.secret
                 WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({})",
                values(org, "x.id")
            ),
            10 => format!("WITH gone AS (DELETE FROM app.step a WHERE {ca} AND a.id = {n} RETURNING *) SELECT * FROM gone"),
            _ => format!("UPDATE app.account SET parent = {} WHERE id = {n}", self.rng.random_range(1..25)),
        }
    }

    /// An attempt to be another than who is bound. Whether it is refused or not, nothing may come of it.
    fn forge(&mut self) -> String {
        let other = self.other;
        // Unbound, binding is no attack: the role may.
        match self.rng.random_range(if self.bound { 0 } else { 3 }..10) {
            0 => format!("SELECT crm_tree.bind_org({other})"),
            1 => format!(
                "DO $$ BEGIN PERFORM crm_tree.unbind(); PERFORM crm_tree.bind_org({other}); EXCEPTION WHEN OTHERS THEN PERFORM 1; END $$"
            ),
            2 => format!(
                "DO $$ BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN PERFORM crm_tree.bind_org({other}); END; END $$"
            ),
            3 => format!("SELECT set_config('crm_tree.org', '{other}', true)"),
            4 => format!("SET LOCAL crm_tree.org = '{other}'"),
            5 => "RESET ALL".to_owned(),
            6 => "SET row_security = off".to_owned(),
            7 => format!("SELECT crm_tree.bind_session({other})"),
            8 => "SET LOCAL session_replication_role = replica".to_owned(),
            _ => "SET LOCAL ROLE owner".to_owned(),
        }
    }

    /// A question whose answer, or its price, would tell what the other org has.
    fn question(&mut self) -> String {
        let (other, n, truths) = (self.other, self.rng.random_range(1..=30), self.rng.random_range(0..8));
        let mut switch = || self.pick(&["on", "off"]).to_owned();
        let (index, bitmap, only) = (switch(), switch(), switch());
        let condition = self.pick(&[
            "a.secret = lair.counts(%)",
            "a.secret = % AND a.secret <= lair.counts('z')",
            "a.secret >= % AND a.secret <= lair.counts('z')",
            "a.secret >= lair.counts(%)",
            "a.ring @> point(0, length(lair.counts(%)))",
            "a.place <@ box(point(0, -1), point(300, length(lair.counts(%))))",
            "a.id > 0 AND CASE WHEN a.secret = % THEN lair.counts('') = '' END",
        ]);
        let org =
            self.pick(&["true", "a.org = lair.turns()", "lair.turns() = a.org", "a.org = 1", "a.org = 2"]);
        let rows = self.pick(&[
            "SELECT count(*) FROM app.rough a WHERE",
            "SELECT count(*) FROM app.account b LEFT JOIN app.rough a ON a.id = b.id AND",
            "SELECT max(a.secret) FROM app.rough a WHERE",
            "WITH u AS (UPDATE app.rough a SET id = a.id WHERE false RETURNING id) SELECT count(*) FROM u, app.rough a WHERE",
            "SELECT count(*) FROM (SELECT FROM app.rough a ORDER BY a.place <-> point(3, 4)) b, app.rough a WHERE",
            "SELECT count(*) FROM (SELECT FROM app.rough a ORDER BY a.ring <-> lair.moves()) b, app.rough a WHERE",
        ]);
        format!(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = {index}; SET LOCAL enable_bitmapscan = {bitmap}; SET LOCAL enable_indexonlyscan = {only};
             SELECT lair.differs($q${rows} {condition} AND {org}$q$, 'secret-of-{other}-r{n}', 'secret-of-{other}-r{n}!', {truths});
             SET LOCAL enable_seqscan = on"
        )
    }

    fn statement(&mut self, n: u64) -> String {
        let select = self.select();
        match self.rng.random_range(0..36) {
            0..=11 => select,
            12..=20 => self.write(),
            21 => self.forge(),
            22 | 23 => format!("EXECUTE p{}({})", self.rng.random_range(0..PREPARED.len()), self.rng.random_range(1..50)),
            24 => format!("COPY ({select}) TO STDOUT"),
            25 => format!("COPY {} TO STDOUT", self.pick(&["app.account", "app.fact_1", "app.note", "app.account_history"])),
            26 => format!("DECLARE c{n} CURSOR FOR {select}; FETCH 5 FROM c{n}; MOVE FORWARD 3 IN c{n}; FETCH ALL FROM c{n}"),
            27 => format!("DECLARE h CURSOR WITH HOLD FOR {select}"),
            28 => format!(
                "SET LOCAL force_parallel_mode = on; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;
                 SET LOCAL min_parallel_table_scan_size = 0; SELECT count(*), min(secret), max(secret) FROM {} a; {select}",
                self.pick(&["app.account", "app.fact", "app.step", "app.note"])
            ),
            29 => format!(
                "DO $$ DECLARE r record; BEGIN FOR r IN {select} LOOP RAISE NOTICE 'looped %', r; END LOOP;
                 EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'caught % %', SQLERRM, (SELECT string_agg(secret, ' ') FROM app.note); END $$"
            ),
            31..=34 => self.question(),
            30 => format!("EXPLAIN (ANALYZE, COSTS off, TIMING off) {select}"),
            _ => format!("CREATE TEMP TABLE t{n} ON COMMIT DROP AS SELECT secret FROM {} a; TABLE t{n}", self.source()),
        }
    }
}

/// What reached the client: its texts, and the SQLSTATE if it is an error.
fn ask(client: &mut Client, sql: &str) -> (Vec<String>, Option<String>) {
    if sql.starts_with("COPY ") {
        let mut text = String::new();
        // An error after the first rows comes to the reader.
        let copied = client.copy_out(sql).and_then(|mut reader| match reader.read_to_string(&mut text) {
            Ok(_) => Ok(()),
            Err(e) => {
                Err(*e.into_inner().expect("an error of the server").downcast().expect("of this client"))
            }
        });
        let (mut texts, code) = copied.map_or_else(|e| refusal(&e), |()| (vec![], None));
        texts.push(text);
        return (texts, code);
    }
    match client.simple_query(sql) {
        Ok(messages) => {
            let texts = messages
                .iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).filter_map(|i| row.get(i)).collect::<Vec<_>>().join("|"))
                    }
                    _ => None,
                })
                .collect();
            (texts, None)
        }
        Err(e) => refusal(&e),
    }
}

fn refusal(e: &postgres::Error) -> (Vec<String>, Option<String>) {
    let Some(db) = e.as_db_error() else { panic!("the connection failed: {e}") };
    let parts = [Some(db.message()), db.detail(), db.hint(), db.where_()];
    (parts.into_iter().flatten().map(str::to_owned).collect(), Some(db.code().code().to_owned()))
}

/// Orgs whose secrets the text shows.
fn shown(text: &str) -> impl Iterator<Item = i32> {
    text.split("secret-of-").skip(1).filter_map(|rest| rest.chars().next()?.to_digit(10).map(|d| d as i32))
}

/// The rows of an org, as one word; and how many rows there are that tell of another org than theirs.
const REFEREE: &str = "
SELECT md5(string_agg(line, E'\\n' ORDER BY line) FILTER (WHERE org = 1)), md5(string_agg(line, E'\\n' ORDER BY line) FILTER (WHERE org = 2)),
       count(*) FILTER (WHERE secret NOT LIKE 'secret-of-' || org || '-%')
  FROM (SELECT org, secret, 'a' || a::text AS line FROM app.account a UNION ALL SELECT org, secret, 't' || t::text FROM app.task t
        UNION ALL SELECT org, secret, 's' || s::text FROM app.step s UNION ALL SELECT org, secret, 'f' || f::text FROM app.fact f
        UNION ALL SELECT org, secret, 'n' || n::text FROM app.note n UNION ALL SELECT org, secret, 'r' || r::text FROM app.rough r) every";

fn referee(client: &mut Client) -> [Option<String>; 2] {
    let row = client.query_one(REFEREE, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(2), 0, "rows that crossed over");
    [row.get(0), row.get(1)]
}

fn attack(preloaded: bool, count: u64) {
    let preload: &[(&str, &str)] = if preloaded { &[("shared_preload_libraries", "crm_tree")] } else { &[] };
    let cluster = Cluster::start(preload);
    let mut superuser = cluster.superuser();
    superuser.batch_execute(SETUP).unwrap();
    if preloaded {
        superuser.batch_execute(UNDER_THE_GUARD).unwrap();
    }
    superuser.batch_execute("SET crm_tree.guard = off").unwrap();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let ear = heard.clone();
    let mut app = cluster.connect_listening("app", "postgres", move |notice| {
        ear.lock().unwrap().push(format!("{} {}", notice.message(), notice.detail().unwrap_or_default()));
    });
    for (n, sql) in PREPARED.iter().enumerate() {
        app.batch_execute(&format!("BEGIN; SELECT crm_tree.bind_org(1); PREPARE p{n}(int) AS {sql}; COMMIT"))
            .unwrap();
    }
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    app.batch_execute(&format!("SELECT setseed({})", rng.random_range(-1.0..1.0))).unwrap();
    let mut before = referee(&mut superuser);
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    let (mut n, mut secrets) = (0, 0);
    while n < count {
        let mine = rng.random_range(1..=2);
        let bound = rng.random_bool(0.9);
        app.batch_execute("BEGIN").unwrap();
        if bound {
            app.batch_execute(&format!("SELECT crm_tree.bind_org({mine})")).unwrap();
        }
        for _ in 0..rng.random_range(1..12) {
            n += 1;
            let sql = Writer { rng: &mut rng, mine, other: 3 - mine, bound }.statement(n);
            app.batch_execute("SAVEPOINT s").unwrap();
            let (mut texts, code) = ask(&mut app, &sql);
            texts.append(&mut heard.lock().unwrap());
            for text in &texts {
                for org in shown(text) {
                    secrets += 1;
                    assert!(
                        bound && org == mine,
                        "statement {n} of seed {seed}, bound {bound} to {mine}, shows org {org}: {sql}\n{text}"
                    );
                }
            }
            let code = code.unwrap_or_else(|| "00000".to_owned());
            assert!(
                code != "22012" && !code.starts_with("XX") && !code.starts_with("57P"),
                "statement {n} of seed {seed}, bound to {mine}, answered {code}: {sql}\n{texts:?}"
            );
            let back = code != "00000" || rng.random_bool(0.2);
            *answers.entry(code).or_default() += 1;
            app.batch_execute(if back { "ROLLBACK TO s" } else { "RELEASE s" }).unwrap();
        }
        // A holdable cursor of an unbound transaction is filled, and refused, by the COMMIT.
        let _ = app.batch_execute(if rng.random_bool(0.9) { "COMMIT" } else { "ROLLBACK" });
        app.batch_execute("RESET ROLE; RESET row_security").unwrap();
        let after = referee(&mut superuser);
        for org in 1..=2 {
            assert!(
                (bound && org == mine) || after[org as usize - 1] == before[org as usize - 1],
                "a transaction bound {bound} to {mine} changed org {org}, before statement {n} of seed {seed}"
            );
        }
        before = after;
    }
    println!("{n} statements, {secrets} secrets of the bound org seen, answers: {answers:?}");
    assert!(answers["00000"] > count / 3 && secrets > count, "the statements must see and do something");
}

#[test]
fn no_statement_shows_or_changes_another_org() {
    attack(false, operations(10_000));
}

#[test]
fn nor_under_the_guard() {
    attack(true, operations(10_000));
}
