//! Telemetry: counts what the wall refused. In shared memory, because a refusal must count although
//! its transaction rolls back.

pub mod counts;

use crate::pg::{session, shmem};
use counts::{Kind, Tally};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

/// Called once, when the library is loaded.
pub fn init() {
    shmem::init(|| count(Kind::WallDenied));
}

/// Counts one, with the org that is bound.
pub fn count(kind: Kind) {
    shmem::add(kind, session::org().as_deref());
}

type Row =
    (String, Option<i64>, Option<String>, i64, i64, i64, i64, i64, i64, i64, Option<TimestampWithTimeZone>);

/// Nothing where nothing is counted.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the signature")]
fn _stat_walls() -> TableIterator<
    'static,
    (
        name!(scope, String),
        name!(database, Option<i64>),
        name!(org, Option<String>),
        name!(unbound_refusals, i64),
        name!(bind_denials, i64),
        name!(wall_denials, i64),
        name!(guard_refusals, i64),
        name!(guard_logged, i64),
        name!(service_door_openings, i64),
        name!(cycle_trips, i64),
        name!(since, Option<TimestampWithTimeZone>),
    ),
> {
    let Some((counts, since)) = shmem::read() else { return TableIterator::new(Vec::new()) };
    let row = |scope: &str, database: Option<u32>, org: Option<String>, tally: Tally| -> Row {
        let [a, b, c, d, e, f, g] = tally.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let since = TimestampWithTimeZone::try_from(since).ok();
        (scope.to_owned(), database.map(i64::from), org, a, b, c, d, e, f, g, since)
    };
    let mut rows = vec![row("all", None, None, counts.all()), row("other", None, None, counts.other())];
    rows.extend(
        counts.orgs().into_iter().map(|(database, org, tally)| row("org", Some(database), Some(org), tally)),
    );
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn reset_stat_walls() {
    shmem::reset()
}
