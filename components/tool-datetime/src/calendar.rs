//! Facts of the calendar and working days (Monday to Friday; holidays are not known here).

use jiff::{
    Span, ToSpan as _,
    civil::{Date, Weekday},
};
use serde_json::{Value, json};

pub(crate) fn weekday_name(date: Date) -> &'static str {
    match date.weekday() {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

pub(crate) fn facts(date: Date) -> Value {
    let week = date.iso_week_date();
    json!({
        "date": date.to_string(),
        "weekday": weekday_name(date),
        "day_of_year": date.day_of_year(),
        "iso_week": format!("{:04}-W{:02}", week.year(), week.week()),
        "quarter": (date.month() + 2) / 3,
        "days_in_month": date.days_in_month(),
        "leap_year": date.in_leap_year(),
        "weekend": is_weekend(date),
    })
}

fn is_weekend(date: Date) -> bool {
    matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// The date `count` working days from `date`; the first one counted is the next (or previous) working day.
pub(crate) fn add_working_days(date: Date, count: i64) -> Result<Date, jiff::Error> {
    // Whole weeks at once, so that the cost does not follow the count.
    let mut date = date.checked_add(Span::new().try_weeks(count / 5)?)?;
    let step = count.signum();
    let mut left = count % 5;
    if count != 0 && left == 0 && is_weekend(date) {
        // From a weekend, whole weeks lead to a weekend: the last day counted lies before it.
        left = 5 * step;
        date = date.checked_sub(step.weeks())?;
    }
    while left != 0 {
        date = date.checked_add(step.days())?;
        if !is_weekend(date) {
            left -= step;
        }
    }
    Ok(date)
}

/// Working days after `from` up to and including `to`; negative when `to` is earlier.
pub(crate) fn working_days_between(from: Date, to: Date) -> i64 {
    if to < from {
        return -working_days_between(to, from);
    }
    let days = i64::from((to - from).get_days());
    let rest = i64::from(from.weekday().to_monday_zero_offset());
    let partial = (1..=days % 7).filter(|day| (rest + day) % 7 < 5).count();
    days / 7 * 5 + i64::try_from(partial).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step_by_step(mut date: Date, count: i64) -> Date {
        let mut left = count;
        while left != 0 {
            date = date.checked_add(count.signum().days()).unwrap();
            if !is_weekend(date) {
                left -= count.signum();
            }
        }
        date
    }

    proptest! {
        #[test]
        fn working_days_agree_with_counting(day in 0_i64..3000, count in -60_i64..60) {
            let date = jiff::civil::date(2020, 1, 1) + day.days();
            let reached = add_working_days(date, count).unwrap();
            prop_assert_eq!(reached, step_by_step(date, count));
            let between = (1..=(reached - date).get_days()).filter(|day| !is_weekend(date + day.days())).count();
            if count > 0 {
                prop_assert_eq!(working_days_between(date, reached), i64::try_from(between).unwrap());
            }
            prop_assert_eq!(working_days_between(reached, date), -working_days_between(date, reached));
        }
    }
}
