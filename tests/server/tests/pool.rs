//! PgBouncer in transaction mode, with the clients of two orgs on one server connection.

use crm_tree_server_tests::{Cluster, sqlstate, wait_for};
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BIND: [(&str, &str); 2] =
    [("SELECT crm_tree.bind_org(1)", "of org 1"), ("SELECT crm_tree.bind_org(2)", "of org 2")];
const PORT: u16 = 6432;

/// A PgBouncer with a single server connection, gone when dropped.
struct Bouncer {
    process: Child,
    host: PathBuf,
}

impl Bouncer {
    fn start(cluster: &Cluster, more: &str) -> Bouncer {
        let host = cluster.host().to_owned();
        // One killed before leaves its socket behind.
        let _ = std::fs::remove_file(host.join(format!(".s.PGSQL.{PORT}")));
        let (config, users) = (host.join("pgbouncer.ini"), host.join("users.txt"));
        std::fs::write(&users, "\"app\" \"\"\n").expect("the cluster's directory is writable");
        std::fs::write(
            &config,
            format!(
                "[databases]\npostgres = host={host}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n\
                 unix_socket_dir = {host}\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\n\
                 default_pool_size = 1\nmin_pool_size = 0\nserver_round_robin = 0\n{more}\n",
                host = host.display(),
                users = users.display()
            ),
        )
        .expect("the cluster's directory is writable");
        let program = std::env::var("CRM_TREE_PGBOUNCER").unwrap_or_else(|_| "/usr/sbin/pgbouncer".into());
        let mut command = match std::env::var("CRM_TREE_RUNAS") {
            Ok(user) if !user.is_empty() => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(&program);
                command
            }
            _ => Command::new(&program),
        };
        let process = command
            .arg(&config)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}; scripts/setup.sh --all-versions fetches it"));
        let bouncer = Bouncer { process, host };
        wait_for("PgBouncer to listen", || {
            bouncer.host.join(format!(".s.PGSQL.{PORT}")).exists().then_some(())
        });
        bouncer
    }

    fn connect(&self) -> Client {
        let mut config = Config::new();
        config.host_path(&self.host).port(PORT).user("app").dbname("postgres");
        config.connect_timeout(Duration::from_secs(10)).connect(NoTls).expect("PgBouncer takes clients")
    }

    /// A client in a process of its own, that can be killed. It says so when it has done all.
    fn psql(&self, psql: &Path, sql: &str) -> Child {
        let mut child = Command::new(psql)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "app", "-d", "postgres"])
            .args(["-p", &PORT.to_string(), "-h"])
            .arg(&self.host)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("psql starts");
        let input = child.stdin.as_mut().expect("piped");
        writeln!(input, "{sql}").expect("psql reads");
        input.flush().expect("psql reads");
        child
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two orgs with a note each, and a role that may bind both.
fn cluster() -> Cluster {
    let cluster = Cluster::start(&[]);
    cluster.psql(
        "postgres",
        "CREATE EXTENSION crm_tree;
         CREATE ROLE app LOGIN;
         CREATE TABLE note (org_id bigint, body text, PRIMARY KEY (org_id, body));
         INSERT INTO note VALUES (1, 'of org 1'), (2, 'of org 2');
         SELECT crm_tree.protect('note');
         GRANT SELECT, INSERT ON note TO app;
         SELECT crm_tree.grant_org('app', 1);
         SELECT crm_tree.grant_org('app', 2);",
    );
    cluster
}

/// The first column of what a statement answers. The simple protocol, since PgBouncer before 1.21 knows
/// nothing of a driver's prepared statements.
fn ask(client: &mut Client, sql: &str) -> Result<Vec<String>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    Ok(messages
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        })
        .collect())
}

/// One transaction of statements; what the last of them answers.
fn transaction(client: &mut Client, statements: &[&str]) -> Result<Vec<String>, postgres::Error> {
    ask(client, "BEGIN")?;
    let mut answer = Ok(vec![]);
    for statement in statements {
        answer = ask(client, statement);
        if answer.is_err() {
            ask(client, "ROLLBACK")?;
            return answer;
        }
    }
    ask(client, "COMMIT")?;
    answer
}

fn refused<T>(result: Result<T, postgres::Error>) -> String {
    sqlstate(result.map(|_| ()))
}

#[test]
fn two_orgs_share_a_connection_and_no_row() {
    let cluster = cluster();
    let bouncer = Bouncer::start(&cluster, "");
    let mut clients = [bouncer.connect(), bouncer.connect()];
    let mut servers = vec![];
    for round in 0..20 {
        for (client, (bind, note)) in clients.iter_mut().zip(BIND) {
            let body = format!("round {round}");
            let insert = format!("INSERT INTO note (body) VALUES ('{body}')");
            let seen = transaction(client, &[bind, &insert, "SELECT body FROM note ORDER BY body"])
                .expect("the transaction is bound");
            assert_eq!(seen.len(), round + 2);
            assert!(seen.contains(&note.to_owned()));
            servers.extend(transaction(client, &["SELECT pg_backend_pid()"]).expect("it needs no binding"));
        }
        for client in &mut clients {
            assert_eq!(refused(ask(client, "SELECT * FROM note")), "42501");
            assert_eq!(refused(ask(client, "INSERT INTO note (body) VALUES ('x')")), "42501");
            assert_eq!(refused(transaction(client, &[BIND[0].0, BIND[1].0])), "42501");
        }
    }
    servers.dedup();
    assert_eq!(servers.len(), 1, "all of it went over one server connection");
}

#[test]
fn a_prepared_statement_serves_whoever_is_bound() {
    let cluster = cluster();
    let bouncer = Bouncer::start(&cluster, "");
    let [mut one, mut two] = [bouncer.connect(), bouncer.connect()];
    let prepare = "PREPARE notes AS SELECT body FROM note ORDER BY body";
    assert_eq!(
        transaction(&mut one, &[BIND[0].0, prepare, "EXECUTE notes"]).expect("it is bound"),
        ["of org 1"]
    );
    // Often enough for a generic plan.
    for _ in 0..8 {
        assert_eq!(
            transaction(&mut two, &[BIND[1].0, "EXECUTE notes"]).expect("it is bound"),
            ["of org 2"],
            "the other client's statement, which is on the shared connection"
        );
        assert_eq!(transaction(&mut one, &[BIND[0].0, "EXECUTE notes"]).expect("it is bound"), ["of org 1"]);
    }
    assert_eq!(refused(transaction(&mut two, &["EXECUTE notes"])), "42501");
    assert_eq!(refused(ask(&mut one, "EXECUTE notes")), "42501");
}

/// What the documentation says to do about them, each of the two ways.
#[test]
fn temporary_tables_carry_nothing_over() {
    let cluster = cluster();
    let copy = "CREATE TEMP TABLE mine AS SELECT * FROM note";
    {
        let bouncer =
            Bouncer::start(&cluster, "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1");
        let [mut one, mut two] = [bouncer.connect(), bouncer.connect()];
        let pid = "SELECT pg_backend_pid()";
        transaction(&mut one, &[BIND[0].0, copy]).expect("it may");
        let server = ask(&mut one, pid).expect("it answers");
        assert_eq!(refused(ask(&mut two, "SELECT * FROM mine")), "42P01");
        assert_eq!(refused(transaction(&mut two, &[BIND[1].0, "SELECT * FROM mine"])), "42P01");
        assert_eq!(ask(&mut two, pid).expect("it answers"), server);
    }
    cluster.psql("postgres", "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC");
    let bouncer = Bouncer::start(&cluster, "");
    let [mut one, mut two] = [bouncer.connect(), bouncer.connect()];
    assert_eq!(refused(transaction(&mut one, &[BIND[0].0, copy])), "42501");
    assert_eq!(refused(ask(&mut two, "SELECT * FROM mine")), "42P01");
}

#[test]
fn a_cursor_does_not_outlive_its_transaction() {
    let cluster = cluster();
    let bouncer = Bouncer::start(&cluster, "");
    let [mut one, mut two] = [bouncer.connect(), bouncer.connect()];
    let declare = "DECLARE held CURSOR WITH HOLD FOR SELECT body FROM note";
    assert_ne!(refused(transaction(&mut one, &[BIND[0].0, declare])), "00000");
    assert_eq!(refused(ask(&mut two, "FETCH ALL FROM held")), "34000");
}

#[test]
fn a_client_killed_in_its_transaction_leaves_nothing() {
    let cluster = cluster();
    let bouncer = Bouncer::start(&cluster, "");
    let psql = PathBuf::from(std::env::var("CRM_TREE_PG_BIN").unwrap_or("/usr/lib/postgresql/15/bin".into()))
        .join("psql");
    let mut two = bouncer.connect();
    for round in 0..5 {
        let mut killed = bouncer.psql(
            &psql,
            &format!(
                "BEGIN;\n{};\nPREPARE mine AS SELECT * FROM note;\nINSERT INTO note (body) VALUES ('of the killed');\n\
                 SET application_name = 'killed {round}';",
                BIND[0].0
            ),
        );
        // It is in its transaction, idle, with all its statements run.
        let server: i32 = wait_for("the client to be where it is killed", || {
            let found = cluster.psql(
                "postgres",
                &format!(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'killed {round}' AND state = 'idle in transaction'"
                ),
            );
            found.parse().ok()
        });
        killed.kill().expect("it runs");
        killed.wait().expect("it is ours");
        assert_eq!(refused(ask(&mut two, "SELECT * FROM note")), "42501");
        assert_eq!(
            transaction(&mut two, &[BIND[1].0, "SELECT body FROM note"]).expect("it is bound"),
            ["of org 2"]
        );
        assert_eq!(
            transaction(&mut two, &[BIND[0].0, "SELECT body FROM note"]).expect("it is bound"),
            ["of org 1"]
        );
        assert_eq!(refused(ask(&mut two, "EXECUTE mine")), "26000");
        let now = ask(&mut two, "SELECT pg_backend_pid()").expect("it answers");
        assert_ne!(now, [server.to_string()], "PgBouncer throws a connection in a transaction away");
    }
}
