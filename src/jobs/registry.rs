//! The jobs as they are registered: adding, altering, deleting, and when each is due.

use super::schedule::{self, Schedule};
use crate::catalog::literal;
use crate::error::{Refusal, given};
use crate::pg::{role, worker};
use chrono::{DateTime, Utc};
use pgrx::datum::{DatumWithOid, Interval, TimestampWithTimeZone};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

/// A job, as `crm_tree.job` has it.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: i64,
    pub name: String,
    /// Schema-qualified and quoted, so that a dump carries it.
    pub proc: String,
    pub proc_owner: String,
    pub schedule: String,
    pub timezone: String,
    /// The jsonb as text: numbers keep every digit.
    pub config: String,
    pub per_org: bool,
    pub owner: Oid,
    pub owner_name: String,
    pub as_superuser: bool,
    pub enabled: bool,
    pub next_run: Option<DateTime<Utc>>,
}

/// Column `n` (from 1), None where null. A column of another type than asked for is a mistake here.
pub fn get<T: FromDatum + IntoDatum>(row: &SpiHeapTupleData, n: usize) -> Option<T> {
    row.get::<T>(n).unwrap_or_else(|e| error!("column {n} of a jobs query: {e}"))
}

/// Runs a statement as whoever we are now, never read-only, and reads its rows.
pub fn query<T>(sql: &str, args: &[DatumWithOid<'_>], read: impl Fn(&SpiHeapTupleData) -> T) -> Vec<T> {
    Spi::connect_mut(|client| match client.update(sql, None, args) {
        Ok(rows) => rows.map(|row| read(&row)).collect(),
        Err(e) => error!("{e}: {sql}"),
    })
}

/// The same on the registries, which no role but the extension's owner may touch.
pub fn registry<T>(sql: &str, args: &[DatumWithOid<'_>], read: impl Fn(&SpiHeapTupleData) -> T) -> Vec<T> {
    role::as_extension_owner(|| query(sql, args, read))
}

const COLUMNS: &str =
    "job_id, name, proc, proc_owner::pg_catalog.text, schedule, timezone, config::pg_catalog.text,
    per_org, owner::pg_catalog.oid, owner_name::pg_catalog.text, as_superuser, enabled, next_run";

fn read_job(row: &SpiHeapTupleData) -> Job {
    let text = |n| get::<String>(row, n).unwrap_or_default();
    let flag = |n| get::<bool>(row, n).unwrap_or(false);
    Job {
        id: get(row, 1).unwrap_or(0),
        name: text(2),
        proc: text(3),
        proc_owner: text(4),
        schedule: text(5),
        timezone: text(6),
        config: text(7),
        per_org: flag(8),
        owner: get(row, 9).unwrap_or(Oid::INVALID),
        owner_name: text(10),
        as_superuser: flag(11),
        enabled: flag(12),
        next_run: get::<TimestampWithTimeZone>(row, 13).and_then(to_utc),
    }
}

impl Job {
    fn find(name: &str) -> Option<Job> {
        let sql = format!("SELECT {COLUMNS} FROM crm_tree.job WHERE name OPERATOR(pg_catalog.=) $1");
        registry(&sql, &[name.into()], read_job).pop()
    }

    pub fn by_id(id: i64) -> Option<Job> {
        let sql = format!("SELECT {COLUMNS} FROM crm_tree.job WHERE job_id OPERATOR(pg_catalog.=) $1");
        registry(&sql, &[id.into()], read_job).pop()
    }

    /// The jobs that wait for a worker, the longest waiting first.
    pub fn due() -> Vec<Job> {
        let sql = format!(
            "SELECT {COLUMNS} FROM crm_tree.job
              WHERE enabled AND next_run OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()
                AND (launched_at IS NULL
                     OR launched_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 minute'::pg_catalog.interval))
              ORDER BY next_run"
        );
        registry(&sql, &[], read_job)
    }

    /// The job of this name, if the caller may alter or run it; the refusal otherwise.
    pub fn of_caller(name: &str) -> Job {
        let Some(job) = Self::find(name) else {
            Refusal::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("job {name:?} does not exist"))
                .hint("SELECT name FROM crm_tree.job_list; shows yours.")
                .raise()
        };
        job.expect_owner();
        job
    }

    /// Refuses a caller who may not alter or run the job.
    pub fn expect_owner(&self) {
        let caller = role::current();
        if !role::is_superuser(caller) && !role::has_privileges_of(caller, self.owner) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of job {:?}", self.name),
            )
            .detail(format!("It belongs to role \"{}\".", self.owner_name))
            .raise()
        }
    }

    /// Why the job may not run as things stand, None if it may.
    pub fn obstacle(&self) -> Option<Refusal> {
        self.function().err().map(|refusal| *refusal)
    }

    /// The job's function as things stand, or why it may not run.
    pub fn function(&self) -> Result<Oid, Box<Refusal>> {
        let name = &self.name;
        if role::name(self.owner).as_deref() != Some(self.owner_name.as_str()) {
            return Err(Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("the owner of job {name:?} is not role \"{}\" any more", self.owner_name),
            )
            .detail("The role was dropped or renamed; oid and name must both be those the job was given.")
            .hint(format!("SELECT crm_tree.alter_job({}, owner => '<role>');", literal(name)))
            .into());
        }
        if role::is_superuser(self.owner) && !self.as_superuser {
            return Err(Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("the owner of job {name:?}, role \"{}\", is a superuser", self.owner_name),
            )
            .hint(format!("SELECT crm_tree.alter_job({}, owner => '<another role>');", literal(name)))
            .into());
        }
        match Proc::named(&self.proc) {
            None => Err(Refusal::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!("function {}(jsonb) of job {name:?} does not exist", self.proc),
            )
            .hint(format!("SELECT crm_tree.alter_job({}, proc => '<function>');", literal(name)))
            .into()),
            // Whoever may create functions in that schema must not slip one in under the old name.
            Some(now) if now.owner != self.proc_owner => Err(Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!(
                    "function {} of job {name:?} now belongs to role \"{}\", it was \"{}\"",
                    self.proc, now.owner, self.proc_owner
                ),
            )
            .hint(format!(
                "If that is meant: SELECT crm_tree.alter_job({}, proc => {});",
                literal(name),
                literal(&self.proc)
            ))
            .into()),
            Some(now) => Ok(now.oid),
        }
    }

    /// When the job is due after a start now. None where its schedule has no further time.
    pub fn following_run(&self) -> Option<DateTime<Utc>> {
        let now = now();
        let zone = schedule::zone(&self.timezone)?;
        parse(&self.schedule).next_from(zone, self.next_run.unwrap_or(now), now)
    }
}

/// The function of a job.
struct Proc {
    oid: Oid,
    name: String,
    owner: String,
}

const PROC: &str =
    "SELECT p.oid, pg_catalog.format('%I.%I', n.nspname, p.proname), pg_catalog.pg_get_userbyid(p.proowner)::pg_catalog.text
       FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
      WHERE p.prokind OPERATOR(pg_catalog.=) 'f' AND NOT p.proretset
        AND p.prorettype OPERATOR(pg_catalog.=) 'pg_catalog.jsonb'::pg_catalog.regtype
        AND p.pronargs OPERATOR(pg_catalog.=) 1 AND p.proargtypes[0] OPERATOR(pg_catalog.=) 'pg_catalog.jsonb'::pg_catalog.regtype";

impl Proc {
    fn read(row: &SpiHeapTupleData) -> Proc {
        Proc {
            oid: get(row, 1).unwrap_or(Oid::INVALID),
            name: get(row, 2).unwrap_or_default(),
            owner: get(row, 3).unwrap_or_default(),
        }
    }

    fn named(name: &str) -> Option<Proc> {
        let sql = format!(
            "{PROC} AND p.oid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure($1 OPERATOR(pg_catalog.||) '(pg_catalog.jsonb)')::pg_catalog.oid"
        );
        // As the extension's owner: the caller need not have USAGE on the schema to be told.
        registry(&sql, &[name.into()], Self::read).pop()
    }

    /// The function, if it has a job's signature and both the caller and `owner` may execute it.
    fn checked(oid: Oid, owner: Oid) -> Proc {
        let sql = format!("{PROC} AND p.oid OPERATOR(pg_catalog.=) $1");
        let Some(proc) = query(&sql, &[oid.into()], Self::read).pop() else {
            let shown = Spi::get_one_with_args::<String>(
                "SELECT $1::pg_catalog.regprocedure::pg_catalog.text",
                &[oid.into()],
            );
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION,
                format!("{} cannot be a job's function", shown.ok().flatten().unwrap_or_default()),
            )
            .detail("It must take one jsonb and return jsonb.")
            .hint("CREATE FUNCTION my_job(config jsonb) RETURNS jsonb …")
            .raise()
        };
        for role in [role::current(), owner] {
            if !role::may_execute(role, proc.oid) {
                let name = role::name(role).unwrap_or_default();
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                    format!("role \"{name}\" may not execute {}(jsonb)", proc.name),
                )
                .hint(format!(
                    "GRANT EXECUTE ON FUNCTION {}(jsonb) TO \"{name}\"; and USAGE on its schema.",
                    proc.name
                ))
                .raise()
            }
        }
        proc
    }
}

pub fn now() -> DateTime<Utc> {
    std::time::SystemTime::now().into_utc()
}

trait IntoUtc {
    fn into_utc(self) -> DateTime<Utc>;
}

impl IntoUtc for std::time::SystemTime {
    fn into_utc(self) -> DateTime<Utc> {
        let since = self.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        DateTime::from_timestamp_micros(since.as_micros() as i64).unwrap_or_default()
    }
}

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH: i64 = 946_684_800_000_000;

fn to_utc(at: TimestampWithTimeZone) -> Option<DateTime<Utc>> {
    let micros: i64 = at.into();
    if matches!(micros, i64::MIN | i64::MAX) {
        return None;
    }
    DateTime::from_timestamp_micros(micros.checked_add(EPOCH)?)
}

pub fn to_timestamp(at: DateTime<Utc>) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(at.timestamp_micros().checked_sub(EPOCH)?).ok()
}

fn parse(text: &str) -> Schedule {
    let parsed = if schedule::looks_like_cron(text) {
        Schedule::cron(text)
    } else {
        match text.parse::<Interval>() {
            Ok(i) => Schedule::every(i.months(), i.days(), i.micros()),
            Err(_) => Err("It is neither a cron expression nor an interval.".into()),
        }
    };
    parsed.unwrap_or_else(|why| {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid schedule {text:?}"),
        )
        .detail(why)
        .hint("Examples: '0 3 * * *' (each night at three), '*/15 8-18 * * MON-FRI', '@daily', '15 minutes', '1 day'.")
        .raise()
    })
}

fn zone(name: &str) -> chrono_tz::Tz {
    schedule::zone(name).unwrap_or_else(|| {
        Refusal::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("unknown time zone {name:?}"))
            .hint(
                "Use a name of the IANA database, for example 'UTC', 'Europe/Berlin' or 'America/New_York'.",
            )
            .raise()
    })
}

fn next(schedule: &str, timezone: &str, after: DateTime<Utc>) -> TimestampWithTimeZone {
    let (parsed, zone) = (parse(schedule), zone(timezone));
    parsed.next(zone, after).and_then(to_timestamp).unwrap_or_else(|| {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("schedule {schedule:?} never comes after {after}"),
        )
        .hint("February has no 30th: check day and month.")
        .raise()
    })
}

#[pg_extern(sql = false)]
fn next_run(schedule: &str, timezone: &str, after: TimestampWithTimeZone) -> TimestampWithTimeZone {
    let Some(after) = to_utc(after) else {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
            "cannot search a schedule from infinity",
        )
        .hint("Pass a moment, for example now().")
        .raise()
    };
    next(schedule, timezone, after)
}

/// The role a job is to belong to, if the caller may give it away to that role.
fn owner_oid(name: Option<&str>, allow_superuser: bool) -> (Oid, String) {
    let caller = role::current();
    let name = name.map(str::to_owned).or_else(|| role::name(caller)).expect("the caller has a name");
    let found = query(
        "SELECT oid FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name",
        &[name.as_str().into()],
        |row| get::<Oid>(row, 1),
    );
    let Some(Some(owner)) = found.into_iter().next() else {
        Refusal::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
            .hint(format!("Create it first: CREATE ROLE \"{name}\" LOGIN;"))
            .raise()
    };
    if !role::is_superuser(caller) {
        // What SET ROLE would need: privileges that are only inherited do not make one that role.
        let mode = if cfg!(feature = "pg15") { "MEMBER" } else { "SET" };
        let may = Spi::get_one_with_args::<bool>(
            "SELECT pg_catalog.pg_has_role($1, $2, $3)",
            &[caller.into(), owner.into(), mode.into()],
        );
        if may != Ok(Some(true)) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be able to SET ROLE \"{name}\" to give it a job"),
            )
            .hint("Leave the owner out to own the job yourself.")
            .raise()
        }
    }
    if role::is_superuser(owner) && !(allow_superuser && role::is_superuser(caller)) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("role \"{name}\" is a superuser, and a job that runs as one passes every wall"),
        )
        .hint("Name another role (owner => 'nightly'), or say that it is meant: allow_superuser => true.")
        .raise()
    }
    (owner, name)
}

fn checked_config(config: &pgrx::JsonB) {
    if !config.0.is_object() {
        Refusal::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "a job's config must be a JSON object")
            .hint("For example '{}' or '{\"orgs\": [\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"]}'.")
            .raise()
    }
}

fn checked_name(name: &str) {
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{name:?} cannot be a job's name"),
        )
        .hint("One to 200 bytes without control characters, for example 'nightly paths'.")
        .raise()
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn add_job(
    name: Option<&str>,
    proc: Option<Oid>,
    schedule: Option<&str>,
    timezone: Option<&str>,
    config: Option<pgrx::JsonB>,
    owner: Option<&str>,
    per_org: Option<bool>,
    allow_superuser: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> i64 {
    let (name, proc, config) = (given(name, "name"), given(proc, "proc"), given(config, "config"));
    let (schedule, timezone) = (given(schedule, "schedule"), given(timezone, "timezone"));
    let (per_org, allow_superuser) = (given(per_org, "per_org"), given(allow_superuser, "allow_superuser"));
    checked_name(name);
    checked_config(&config);
    let config = worker::jsonb_argument(fcinfo, 4);
    let first = next(schedule, timezone, now());
    let (owner, owner_name) = owner_oid(owner, allow_superuser);
    let proc = Proc::checked(proc, owner);
    let id = registry(
        "INSERT INTO crm_tree.job (name, proc, proc_owner, schedule, timezone, config, per_org, owner, owner_name, as_superuser, next_run)
         VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.jsonb, $7, $8::pg_catalog.oid::pg_catalog.regrole, $9, $10, $11)
         ON CONFLICT (name) DO NOTHING RETURNING job_id",
        &[
            name.into(),
            proc.name.into(),
            proc.owner.into(),
            schedule.into(),
            timezone.into(),
            config.into(),
            per_org.into(),
            owner.into(),
            owner_name.into(),
            allow_superuser.into(),
            first.into(),
        ],
        |row| get::<i64>(row, 1),
    );
    let Some(Some(id)) = id.into_iter().next() else {
        Refusal::new(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, format!("job {name:?} exists already"))
            .constraint("job_name_key")
            .hint("Change it with crm_tree.alter_job(), or choose another name.")
            .raise()
    };
    if !worker::is_preloaded() {
        notice_not_preloaded();
    }
    id
}

fn notice_not_preloaded() {
    pgrx::ereport!(
        NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        "no worker runs jobs on this server: crm_tree is not in shared_preload_libraries",
        "Preload it and restart, or run the job from a scheduler of yours: CALL crm_tree.run_job('<name>');"
    );
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn alter_job(
    name: Option<&str>,
    schedule: Option<&str>,
    timezone: Option<&str>,
    config: Option<pgrx::JsonB>,
    enabled: Option<bool>,
    proc: Option<Oid>,
    owner: Option<&str>,
    next_run: Option<TimestampWithTimeZone>,
    allow_superuser: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    let (name, allow_superuser) = (given(name, "name"), given(allow_superuser, "allow_superuser"));
    let job = Job::of_caller(name);
    if let Some(config) = &config {
        checked_config(config);
    }
    let config = worker::jsonb_argument(fcinfo, 3);
    let (owner, owner_name, as_superuser) = match owner {
        None => (job.owner, job.owner_name.clone(), job.as_superuser),
        Some(_) => {
            let (owner, name) = owner_oid(owner, allow_superuser);
            (owner, name, allow_superuser)
        }
    };
    // A new owner must be able to run the old function; the same owner's need not be asked again.
    let proc = match proc {
        Some(oid) => Proc::checked(oid, owner),
        None if owner != job.owner => match Proc::named(&job.proc) {
            Some(old) => Proc::checked(old.oid, owner),
            None => job.obstacle().expect("the function is gone").raise(),
        },
        None => Proc { oid: Oid::INVALID, name: job.proc.clone(), owner: job.proc_owner.clone() },
    };
    let next_run = next_run.or_else(|| {
        (schedule.is_some() || timezone.is_some() || (enabled == Some(true) && !job.enabled))
            .then(|| next(schedule.unwrap_or(&job.schedule), timezone.unwrap_or(&job.timezone), now()))
    });
    registry(
        "UPDATE crm_tree.job SET schedule = COALESCE($2, schedule), timezone = COALESCE($3, timezone),
                config = COALESCE($4::pg_catalog.jsonb, config), enabled = COALESCE($5, enabled), proc = $6, proc_owner = $7,
                owner = $8::pg_catalog.oid::pg_catalog.regrole, owner_name = $9, as_superuser = $10,
                next_run = COALESCE($11, next_run), launched_at = NULL
          WHERE job_id OPERATOR(pg_catalog.=) $1",
        &[
            job.id.into(),
            schedule.into(),
            timezone.into(),
            config.into(),
            enabled.into(),
            proc.name.into(),
            proc.owner.into(),
            owner.into(),
            owner_name.into(),
            as_superuser.into(),
            next_run.into(),
        ],
        |_| (),
    );
}

/// A run in progress goes on to its end; its history stays.
#[pg_extern(sql = false)]
fn delete_job(name: &str) {
    let job = Job::of_caller(name);
    registry("DELETE FROM crm_tree.job WHERE job_id OPERATOR(pg_catalog.=) $1", &[job.id.into()], |_| ());
}

/// Deletes what is older than `config.keep_days` (90) from the history of the caller's jobs.
#[pg_extern(sql = false)]
fn prune_job_history(config: pgrx::JsonB) -> pgrx::JsonB {
    let keep = match config.0.get("keep_days") {
        None => 90,
        Some(days) => {
            days.as_i64().and_then(|days| i32::try_from(days).ok()).filter(|days| *days >= 1).unwrap_or_else(
                || {
                    Refusal::new(
                        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                        format!("invalid keep_days {days}"),
                    )
                    .hint("A whole number of days, at least one: '{\"keep_days\": 30}'.")
                    .raise()
                },
            )
        }
    };
    let caller = role::current();
    let pruned = registry(
        "WITH gone AS (
             DELETE FROM crm_tree.job_run
              WHERE status OPERATOR(pg_catalog.<>) 'running'
                AND started_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(days => $1))
                AND pg_catalog.pg_has_role($2, owner::pg_catalog.oid, 'USAGE') RETURNING 1)
         SELECT pg_catalog.count(*) FROM gone",
        &[keep.into(), caller.into()],
        |row| get::<i64>(row, 1).unwrap_or(0),
    );
    pgrx::JsonB(serde_json::json!({ "runs_pruned": pruned.first() }))
}
