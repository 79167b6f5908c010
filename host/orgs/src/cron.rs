//! When a schedule of a template runs: five fields of cron and a time zone, as the schedules' contract has them.

use chrono::Utc;
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use crate::shown::shown;

/// Names that a field takes, in any case; other fields take none.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Checks that there is a next run.
///
/// # Errors
/// Why there is none, in words for the author.
pub(crate) fn check(expression: &str, timezone: &str) -> Result<(), String> {
    let (expression, timezone) = match expression.trim().split_once(char::is_whitespace) {
        Some((first, rest)) => match first.strip_prefix("CRON_TZ=").or_else(|| first.strip_prefix("TZ=")) {
            Some(own) => (rest, own),
            None => (expression, timezone),
        },
        None => (expression, timezone),
    };
    let zone: Tz = timezone.parse().map_err(|_| {
        format!("`{}` is no time zone; it takes a name such as Europe/Berlin or UTC", shown(timezone))
    })?;
    let invalid = |why: &str| format!("`{}` is no cron expression: {why}", shown(expression.trim()));
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(invalid("it needs five fields: minute, hour, day, month, day of the week"));
    };
    let none: &[&str] = &[];
    let named = [(minute, none), (hour, none), (day, none), (month, &MONTHS[..]), (weekday, &DAYS[..])];
    for (field, names) in named {
        let is_word = |word: &str| {
            word.bytes().all(|byte| byte.is_ascii_digit())
                || names.contains(&word.to_ascii_lowercase().as_str())
        };
        let mut words = field.split([',', '-', '/', '*', '?']);
        if let Some(word) = words.find(|word| !is_word(word)) {
            return Err(invalid(&format!("`{}` is not possible in `{}`", shown(word), shown(field))));
        }
    }
    // Every step of one is no restriction, which decides how the two fields of days are combined.
    let plain: Vec<String> = fields
        .iter()
        .map(|field| field.replace('?', "*"))
        .map(|field| if field == "*/1" { "*".to_owned() } else { field })
        .collect();
    let parser =
        CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).sloppy_ranges(true);
    let cron = parser.build().parse(&plain.join(" ")).map_err(|error| invalid(&error.to_string()))?;
    match cron.find_next_occurrence(&Utc::now().with_timezone(&zone), false) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid("it never matches a date")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_long_expression_is_said_shortly() {
        let long = "x".repeat(1 << 20);
        for (expression, zone) in
            [("0 9 * * 1", long.as_str()), (long.as_str(), "UTC"), (&format!("{long} * * * *"), "UTC")]
        {
            let reason = check(expression, zone).unwrap_err();
            assert!(reason.len() < 1_000, "{} bytes", reason.len());
        }
    }

    #[test]
    fn expressions_are_checked() {
        for expression in [
            "0 9 * * 1",
            "*/15 8-18/2 * * MON-fri",
            "5/10 * ? JAN,jul ?",
            "0 0 29 2 *",
            "0 0 1 * 7",
            " 0  0\t1 * sun ",
            "CRON_TZ=Asia/Tokyo 0 9 * * *",
            "TZ=UTC 0 9 * * *",
            "0 0 */1 * */2",
        ] {
            assert_eq!(check(expression, "Europe/Berlin"), Ok(()), "{expression}");
        }
        for (expression, reason) in [
            ("", "five fields"),
            ("@daily", "five fields"),
            ("0 0 9 * * 1", "five fields"),
            ("0 9 * *", "five fields"),
            ("60 9 * * *", "`60 9 * * *`"),
            ("0 24 * * *", "cron"),
            ("0 0 0 * *", "cron"),
            ("0 0 * 13 *", "cron"),
            ("0 0 * * 8", "cron"),
            ("0 0 L * *", "`L` is not possible"),
            ("0 0 15W * *", "`15W`"),
            ("0 0 * * 5#2", "`5#2`"),
            ("0 0 * * +1", "`+1`"),
            ("mon 0 * * *", "`mon`"),
            ("0 0 * mon *", "`mon`"),
            ("0 0 * * jan", "`jan`"),
            ("0 0 30 2 *", "never"),
            ("0 0 31 4,6,9,11 *", "never"),
            ("CRON_TZ=Nowhere 0 9 * * *", "`Nowhere` is no time zone"),
        ] {
            let error = check(expression, "UTC").unwrap_err();
            assert!(error.contains(reason), "{expression}: {error}");
        }
    }

    #[test]
    fn time_zones_are_names_of_the_iana_database() {
        for zone in ["Local", "Europe/Berln", "CET+1", "", "europe/berlin"] {
            let error = check("0 9 * * 1", zone).unwrap_err();
            assert!(error.contains("no time zone"), "{zone}: {error}");
        }
    }
}
