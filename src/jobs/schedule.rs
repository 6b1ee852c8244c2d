//! When a job is due: cron expressions and intervals, both on the clock of a named time zone.
//! Pure: no server needed.

use chrono::{DateTime, Days, Duration, LocalResult, Months, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Cron(Box<Cron>),
    Every(Every),
}

/// An interval in PostgreSQL's three parts. Months and days are steps of the calendar (a day is 23 or
/// 25 hours where clocks change), the rest is time that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    months: u32,
    days: u32,
    micros: i64,
}

/// Does the text have the form of a cron expression? Everything else is taken for an interval.
/// `1 day 2 hours 3 minutes` has six words too, but in a cron expression the second is a number or `*`.
pub fn looks_like_cron(text: &str) -> bool {
    let text = text.trim();
    if let Some(nickname) = text.strip_prefix('@') {
        return nickname.starts_with(|c: char| c.is_ascii_alphabetic());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    matches!(fields.len(), 5 | 6)
        && fields[1].starts_with(|c: char| c.is_ascii_digit() || matches!(c, '*' | '?'))
}

/// A time zone by its name in the IANA database, in any case of letters.
pub fn zone(name: &str) -> Option<Tz> {
    name.parse()
        .ok()
        .or_else(|| chrono_tz::TZ_VARIANTS.iter().copied().find(|tz| tz.name().eq_ignore_ascii_case(name)))
}

impl Schedule {
    /// Five fields (minute, hour, day, month, weekday), six with seconds first, or `@daily` and its kin.
    /// Where both day and weekday are given either fits, as in every cron.
    pub fn cron(text: &str) -> Result<Schedule, String> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        parser
            .parse(text)
            .map(|cron| Schedule::Cron(Box::new(cron)))
            .map_err(|why| format!("{}.", why.to_string().trim_end_matches('.')))
    }

    /// At least one second, no part below zero: `1 month -3 days` has no order of its own.
    pub fn every(months: i32, days: i32, micros: i64) -> Result<Schedule, String> {
        let (Ok(months), Ok(days)) = (u32::try_from(months), u32::try_from(days)) else {
            return Err("A part of it is below zero.".into());
        };
        if micros < 0 {
            return Err("A part of it is below zero.".into());
        }
        if months == 0 && days == 0 && micros < 1_000_000 {
            return Err("It is shorter than a second.".into());
        }
        Ok(Schedule::Every(Every { months, days, micros }))
    }

    /// The first time after `after`. For an interval, one interval on. None where there is none
    /// (`0 0 30 2 *`) or it lies past what a timestamp holds.
    pub fn next(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Schedule::Cron(cron) => {
                let next = cron.find_next_occurrence(&after.with_timezone(&zone), false).ok()?;
                let next = next.with_timezone(&Utc);
                (next > after).then_some(next)
            }
            Schedule::Every(every) => every.steps(zone, after, 1),
        }
    }

    /// The first time after `now` for a job that was due at `anchor`: an interval keeps its beat, so
    /// that late starts do not add up; times that passed meanwhile are not made up for.
    pub fn next_from(&self, zone: Tz, anchor: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Schedule::Cron(_) => self.next(zone, now.max(anchor)),
            Schedule::Every(every) => every.next_from(zone, anchor, now),
        }
    }
}

impl Every {
    /// `count` intervals after `from`, counted from there, so that a month's end comes back.
    fn steps(&self, zone: Tz, from: DateTime<Utc>, count: u32) -> Option<DateTime<Utc>> {
        let mut at = from;
        if self.months > 0 || self.days > 0 {
            let local = from
                .with_timezone(&zone)
                .naive_local()
                .checked_add_months(Months::new(self.months.checked_mul(count)?))?
                .checked_add_days(Days::new(u64::from(self.days) * u64::from(count)))?;
            at = resolve(zone, local)?;
        }
        at.checked_add_signed(Duration::microseconds(self.micros.checked_mul(i64::from(count))?))
    }

    fn next_from(&self, zone: Tz, anchor: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // No step is longer than this, so the first candidates cannot be skipped; a day of slack for
        // clocks that change.
        let longest =
            i128::from(self.months) * 31 * DAY + i128::from(self.days) * DAY + i128::from(self.micros);
        let waited = i128::from(now.signed_duration_since(anchor).num_microseconds().unwrap_or(i64::MAX));
        let mut count = u32::try_from(((waited - 2 * DAY) / longest).max(1)).ok()?;
        if self.months == 0 && self.days == 0 {
            count = u32::try_from((waited / longest + 1).max(1)).ok()?;
        }
        loop {
            let next = self.steps(zone, anchor, count)?;
            if next > now {
                return Some(next);
            }
            count = count.checked_add(1)?;
        }
    }
}

const DAY: i128 = 86_400_000_000;

/// The moment a wall clock shows `local`: the first of two where it is set back; where it is set
/// forward over `local`, as much later as it was set forward.
fn resolve(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
        LocalResult::None => {
            // By the offset in force a day earlier, which is before the gap: no gap but a skipped
            // calendar day (Samoa, 2011) is longer than a few hours, and that one works out too.
            let day_before = local.checked_sub_days(Days::new(1))?;
            let offset = match zone.offset_from_local_datetime(&day_before) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
                LocalResult::None => zone.offset_from_utc_datetime(&day_before),
            };
            use chrono::Offset;
            local.checked_sub_offset(offset.fix()).map(|utc| utc.and_utc())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, Timelike};
    use chrono_tz::{America::New_York, Europe::Berlin, UTC};
    use proptest::prelude::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn next(schedule: &str, zone: Tz, after: &str) -> String {
        let at = Schedule::cron(schedule).unwrap().next(zone, utc(after)).unwrap();
        at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    #[test]
    fn tells_cron_from_interval() {
        for cron in ["0 3 * * *", "*/5 * * * * *", "0 0 1 1 0", "@daily", " 0 3 * * MON-FRI "] {
            assert!(looks_like_cron(cron), "{cron}");
        }
        for other in
            ["15 minutes", "1 day 2 hours 3 minutes", "1 day 02:00:00", "@ 1 hour", "P1D", "", "1 2 3 4"]
        {
            assert!(!looks_like_cron(other), "{other}");
        }
    }

    #[test]
    fn refuses_nonsense() {
        for bad in ["61 * * * *", "* * * *", "a b c d e", "@sometimes", "* * 32 * *", "0 0 0 0 0 0 0"] {
            assert!(Schedule::cron(bad).is_err(), "{bad}");
        }
        assert!(Schedule::every(0, 0, 999_999).is_err());
        assert!(Schedule::every(0, -1, 90_000_000_000).is_err());
        assert!(Schedule::every(1, 0, -1).is_err());
        assert!(Schedule::every(0, 0, 1_000_000).is_ok());
        assert_eq!(Schedule::cron("0 0 30 2 *").unwrap().next(UTC, utc("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn zones_by_name() {
        assert_eq!(zone("Europe/Berlin"), Some(Berlin));
        assert_eq!(zone("europe/berlin"), Some(Berlin));
        assert_eq!(zone("utc"), Some(UTC));
        assert_eq!(zone("Mars/Olympus"), None);
        assert_eq!(zone(""), None);
    }

    #[test]
    fn the_zones_clock_counts() {
        assert_eq!(next("0 3 * * *", Berlin, "2026-01-10T00:00:00Z"), "2026-01-10T02:00:00Z");
        assert_eq!(next("0 3 * * *", Berlin, "2026-07-10T00:00:00Z"), "2026-07-10T01:00:00Z");
        assert_eq!(next("0 3 * * *", UTC, "2026-07-10T03:00:00Z"), "2026-07-11T03:00:00Z");
        assert_eq!(next("0 9 1 * MON", New_York, "2026-06-02T00:00:00Z"), "2026-06-08T13:00:00Z");
    }

    #[test]
    fn a_time_the_clock_skips_runs_once_after_the_gap() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00.
        assert_eq!(next("30 2 * * *", Berlin, "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next("30 2 * * *", Berlin, "2026-03-29T01:00:00Z"), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn a_time_the_clock_shows_twice_runs_once() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00.
        assert_eq!(next("30 2 * * *", Berlin, "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", Berlin, "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
        assert_eq!(next("30 2 * * *", Berlin, "2026-10-25T00:45:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn every_half_hour_goes_on_through_both() {
        let schedule = Schedule::cron("*/30 * * * *").unwrap();
        for start in ["2026-03-28T22:00:00Z", "2026-10-24T22:00:00Z"] {
            let mut at = utc(start);
            for _ in 0..12 {
                let then = schedule.next(Berlin, at).unwrap();
                assert_eq!(then - at, Duration::minutes(30), "after {at}");
                at = then;
            }
        }
    }

    #[test]
    fn days_and_months_are_the_calendars() {
        let daily = Schedule::every(0, 1, 0).unwrap();
        let noon_before = utc("2026-03-28T11:00:00Z");
        assert_eq!(daily.next(Berlin, noon_before), Some(utc("2026-03-29T10:00:00Z")));
        let in_the_gap = utc("2026-03-28T01:30:00Z");
        assert_eq!(daily.next(Berlin, in_the_gap), Some(utc("2026-03-29T01:30:00Z")));
        let monthly = Schedule::every(1, 0, 0).unwrap();
        let anchor = utc("2026-01-31T12:00:00Z");
        assert_eq!(monthly.next(UTC, anchor), Some(utc("2026-02-28T12:00:00Z")));
        assert_eq!(
            monthly.next_from(UTC, anchor, utc("2026-03-01T00:00:00Z")),
            Some(utc("2026-03-31T12:00:00Z"))
        );
    }

    proptest! {
        /// Against a model that walks minute by minute, in a zone without clock changes.
        #[test]
        fn cron_finds_the_first_minute_that_fits(
            minute in 0u32..60, step in 1u32..25, from in 1_700_000_000i64..1_900_000_000,
        ) {
            let schedule = Schedule::cron(&format!("{minute} */{step} * * *")).unwrap();
            let after = DateTime::from_timestamp(from, 0).unwrap();
            let mut model = after.with_second(0).unwrap() + Duration::minutes(1);
            while model.minute() != minute || !model.hour().is_multiple_of(step) {
                model += Duration::minutes(1);
            }
            prop_assert_eq!(schedule.next(UTC, after), Some(model));
        }

        /// A daily fixed time comes exactly once on each local day, clock changes included.
        #[test]
        fn a_daily_time_comes_once_a_day(
            minute in 0u32..60, hour in 0u32..24, from in 1_700_000_000i64..1_900_000_000, ny: bool,
        ) {
            let zone = if ny { New_York } else { Berlin };
            let schedule = Schedule::cron(&format!("{minute} {hour} * * *")).unwrap();
            let mut at = schedule.next(zone, DateTime::from_timestamp(from, 0).unwrap()).unwrap();
            for _ in 0..400 {
                let then = schedule.next(zone, at).unwrap();
                let days = then.with_timezone(&zone).num_days_from_ce() - at.with_timezone(&zone).num_days_from_ce();
                prop_assert_eq!(days, 1, "{} then {}", at, then);
                at = then;
            }
        }

        /// An interval keeps its beat: the answer is a whole number of steps from the anchor, later
        /// than now, and the step before it is not.
        #[test]
        fn an_interval_keeps_its_beat(
            months in 0i32..14, days in 0i32..40, micros in 0i64..200_000_000_000,
            anchor in 1_500_000_000i64..1_800_000_000, wait in -1_000_000i64..40_000_000,
        ) {
            prop_assume!(months > 0 || days > 0 || micros >= 1_000_000);
            let Ok(Schedule::Every(every)) = Schedule::every(months, days, micros) else { unreachable!() };
            let anchor = DateTime::from_timestamp(anchor, 0).unwrap();
            let now = anchor + Duration::seconds(wait);
            let next = every.next_from(Berlin, anchor, now).unwrap();
            prop_assert!(next > now && next > anchor);
            let mut count = 1;
            while every.steps(Berlin, anchor, count).unwrap() < next && count < 100_000 {
                prop_assert!(every.steps(Berlin, anchor, count).unwrap() <= now);
                count += 1;
            }
            prop_assert!(count == 100_000 || every.steps(Berlin, anchor, count) == Some(next));
        }
    }
}
