//! A private server for each test, and what the tests share.
//!
//! The server has its own data directory and listens on a unix socket there only. PostgreSQL refuses
//! to run as root: set `CRM_TREE_RUNAS` to the system user that is to run it. `CRM_TREE_PG_BIN` names
//! the directory of `initdb` and `pg_ctl`, `CRM_TREE_RUN_DIR` where clusters are made (both the test
//! and that user must be able to enter it).

use postgres::error::DbError;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A running server, gone with its files when dropped.
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    /// The server's own programs. Clients are those of `CRM_TREE_PG_BIN`, whatever the server.
    bin: PathBuf,
}

/// The one superuser of a test cluster.
pub const SUPERUSER: &str = "postgres";

fn bin() -> PathBuf {
    std::env::var_os("CRM_TREE_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// A command of the server's, as the user that may run it.
fn server_command(program: &Path) -> Command {
    let mut command = match std::env::var("CRM_TREE_RUNAS") {
        Ok(user) if !user.is_empty() => {
            let mut command = Command::new("runuser");
            command.args(["-u", &user, "--"]).arg(program);
            command
        }
        _ => Command::new(program),
    };
    // It would add backtraces to the DETAIL of errors.
    command.env_remove("RUST_BACKTRACE");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.current_dir("/").output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl Cluster {
    /// A fresh server with these settings, in addition to those every test cluster has.
    pub fn start(conf: &[(&str, &str)]) -> Cluster {
        Self::start_of(bin(), conf)
    }

    /// The same of the server whose programs are in this directory.
    pub fn start_of(bin: PathBuf, conf: &[(&str, &str)]) -> Cluster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = std::env::var_os("CRM_TREE_RUN_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a unix socket has room for about a hundred bytes.
        let dir = base.join(format!("ct{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the run directory can be made");
        if let Ok(user) = std::env::var("CRM_TREE_RUNAS")
            && !user.is_empty()
        {
            run(Command::new("chown").arg(&user).arg(&dir));
        }
        let cluster = Cluster { dir, port: 5432, bin };
        run(server_command(&cluster.bin.join("initdb"))
            .args(["--no-sync", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"])
            .args(["--username", SUPERUSER, "-D"])
            .arg(cluster.data()));
        let mut lines = String::new();
        for (name, value) in [
            ("listen_addresses", ""),
            ("fsync", "off"),
            ("max_worker_processes", "16"),
            ("unix_socket_directories", cluster.dir.to_str().expect("a UTF-8 path")),
        ]
        .iter()
        .chain(conf)
        {
            lines.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        // The file is there already and keeps its owner.
        let path = cluster.data().join("postgresql.auto.conf");
        std::fs::write(&path, lines).expect("the data directory is writable");
        cluster.start_again();
        cluster
    }

    /// A server with crm_tree preloaded that looks for jobs every second, and the extension in the
    /// database `postgres`. Its superuser looks over the walls: the guard is off for him.
    pub fn preloaded() -> Cluster {
        let cluster =
            Self::start(&[("shared_preload_libraries", "crm_tree"), ("crm_tree.launcher_naptime", "1")]);
        cluster
            .superuser()
            .batch_execute("CREATE EXTENSION crm_tree; ALTER ROLE postgres SET crm_tree.guard = off")
            .expect("it installs");
        cluster
    }

    /// Starts the server after it was stopped.
    pub fn start_again(&self) {
        run(server_command(&self.bin.join("pg_ctl"))
            .args(["start", "--wait", "--silent", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(self.log_file()));
    }

    /// Stops the server as a power cut would: no checkpoint, no goodbye.
    pub fn stop_immediate(&self) {
        self.stop("immediate");
    }

    pub fn stop(&self, mode: &str) {
        run(server_command(&self.bin.join("pg_ctl"))
            .args(["stop", "--wait", "--silent", "-m", mode, "-D"])
            .arg(self.data()));
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where the socket is: what `psql -h` takes.
    pub fn host(&self) -> &Path {
        &self.dir
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.dir).port(self.port).user(user).dbname(database);
        config.connect_timeout(Duration::from_secs(10));
        config
    }

    pub fn connect(&self, user: &str, database: &str) -> Client {
        self.try_connect(user, database).unwrap_or_else(|e| panic!("{user} to {database}: {e}"))
    }

    pub fn try_connect(&self, user: &str, database: &str) -> Result<Client, postgres::Error> {
        self.config(user, database).connect(NoTls)
    }

    /// With options as a client gives them in PGOPTIONS.
    pub fn connect_with(&self, user: &str, database: &str, options: &str) -> Result<Client, postgres::Error> {
        self.config(user, database).options(options).connect(NoTls)
    }

    /// With an ear for what the server says beside its answers.
    pub fn connect_listening(
        &self,
        user: &str,
        database: &str,
        listen: impl Fn(DbError) + Send + Sync + 'static,
    ) -> Client {
        let mut config = self.config(user, database);
        config.notice_callback(listen);
        config.connect(NoTls).unwrap_or_else(|e| panic!("{user} to {database}: {e}"))
    }

    pub fn superuser(&self) -> Client {
        self.connect(SUPERUSER, "postgres")
    }

    /// Waits until the server takes connections again, after a crash.
    pub fn await_ready(&self) {
        wait_for("the server to come back", || {
            self.try_connect(SUPERUSER, "postgres").ok().filter(|client| !client.is_closed())
        });
    }

    fn client_command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(bin().join(program));
        command
            .env("PGHOST", &self.dir)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .args(args);
        command
    }

    /// Runs a client program of this server's version (psql, pg_dump) and returns its output.
    pub fn client(&self, program: &str, args: &[&str]) -> Output {
        run(&mut self.client_command(program, args))
    }

    /// The same with these PGOPTIONS, and however it ends.
    pub fn client_with(&self, options: &str, program: &str, args: &[&str]) -> Output {
        let mut command = self.client_command(program, args);
        command
            .env("PGOPTIONS", options)
            .current_dir("/")
            .output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// What psql prints, unaligned and without headers; it stops at the first error.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let args = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql];
        String::from_utf8_lossy(&self.client("psql", &args).stdout).trim().to_owned()
    }

    /// Kills a server process outright, and waits until the server has noticed and taken all the
    /// others down: until then it still takes connections.
    pub fn kill9(&self, pid: i32) {
        let crashes = || self.log().matches("all server processes terminated; reinitializing").count();
        let before = crashes();
        run(Command::new("kill").args(["-9", &pid.to_string()]));
        wait_for("the server to notice", || (crashes() > before).then_some(()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = server_command(&self.bin.join("pg_ctl"))
            .args(["stop", "--wait", "--silent", "-m", "immediate", "-D"])
            .arg(self.data())
            .current_dir("/")
            .output();
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Asks again until there is an answer; panics after a minute.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The first row of a query, or None.
pub fn first(client: &mut Client, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Option<Row> {
    client.query(sql, args).unwrap_or_else(|e| panic!("{sql}: {e:?}")).into_iter().next()
}

/// The SQLSTATE a statement fails with.
pub fn sqlstate(result: Result<(), postgres::Error>) -> String {
    match result {
        Ok(()) => "00000".into(),
        Err(e) => e.code().map_or_else(|| e.to_string(), |code| code.code().to_owned()),
    }
}

/// The seed of a random run: `CRM_TREE_SEED`, or a new one. It is printed.
pub fn seed() -> u64 {
    let seed = std::env::var("CRM_TREE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("CRM_TREE_SEED={seed}");
    seed
}

/// How long a random run is: `CRM_TREE_OPERATIONS`, or so many.
pub fn operations(default: u64) -> u64 {
    std::env::var("CRM_TREE_OPERATIONS").ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}
