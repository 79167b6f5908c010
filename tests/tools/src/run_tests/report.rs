//! Counts the results that libtest prints.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Results so far.
#[derive(Default)]
pub(crate) struct Report {
    /// Test programs that have begun. Names are unique within one only.
    programs: usize,
    passed: usize,
    failed: Vec<String>,
    /// How many were ignored, by reason.
    ignored: BTreeMap<String, usize>,
    skipped: usize,
    on_sqlite: BTreeSet<(usize, String)>,
    on_postgres: BTreeSet<(usize, String)>,
    /// Tests that libtest reported as slow, and since when.
    slow: BTreeMap<String, Instant>,
    hung: Vec<String>,
}

impl Report {
    /// Takes a line of output.
    pub(crate) fn read(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.programs += 1;
            self.slow.clear();
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let count = result.split("; ").find_map(|part| part.strip_suffix(" filtered out"));
            self.skipped += count.and_then(|count| count.parse().ok()).unwrap_or(0);
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some(name) = test.strip_suffix(" has been running for over 60 seconds") {
                self.slow.insert(name.to_owned(), Instant::now());
            } else if let Some((name, outcome)) = test.rsplit_once(" ... ") {
                self.outcome(name, outcome);
            }
        }
    }

    fn outcome(&mut self, name: &str, outcome: &str) {
        self.slow.remove(name);
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            *self.ignored.entry(reason.to_owned()).or_default() += 1;
            return;
        }
        match outcome {
            "ok" => self.passed += 1,
            "FAILED" => self.failed.push(name.to_owned()),
            _ => return,
        }
        if let Some(test) = name.strip_suffix("::sqlite") {
            self.on_sqlite.insert((self.programs, test.to_owned()));
        } else if let Some(test) = name.strip_suffix("::postgres") {
            self.on_postgres.insert((self.programs, test.to_owned()));
        }
    }

    /// Marks tests that have been slow for this long as hung, and returns their names.
    pub(crate) fn take_hung(&mut self, limit: Duration) -> Vec<String> {
        let hung: Vec<String> = self
            .slow
            .iter()
            .filter(|(_, since)| since.elapsed() >= limit)
            .map(|(name, _)| name.clone())
            .collect();
        if !hung.is_empty() {
            self.slow.clear();
            self.hung.extend(hung.iter().cloned());
        }
        hung
    }

    pub(crate) fn any_hung(&self) -> bool {
        !self.hung.is_empty()
    }

    /// Whether each test for both databases ran on both.
    pub(crate) fn databases_agree(&self) -> bool {
        self.on_sqlite == self.on_postgres
    }

    /// Prints the summary. `skipped` are modules that were left out, with what they need.
    pub(crate) fn print(&self, took: Duration, postgres: bool, skipped: &[(&str, &str)]) {
        println!();
        for name in &self.failed {
            println!("failed: {name}");
        }
        for name in &self.hung {
            println!("ended by the watchdog: {name}");
        }
        println!(
            "tests for both databases: {} on SQLite, {} on Postgres",
            self.on_sqlite.len(),
            self.on_postgres.len()
        );
        if postgres {
            for (_, test) in self.on_sqlite.symmetric_difference(&self.on_postgres) {
                println!("ran on one database only: {test}");
            }
        }
        let mut line = format!(
            "{} passed, {} failed, {} ignored in {} s",
            self.passed,
            self.failed.len() + self.hung.len(),
            self.ignored.values().sum::<usize>() + self.skipped,
            took.as_secs()
        );
        let mut reasons: Vec<String> =
            self.ignored.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if self.skipped > 0 {
            let needs: Vec<&str> = skipped.iter().map(|(_, need)| *need).collect();
            reasons.push(format!("{} needs {}", self.skipped, needs.join(" or ")));
        }
        if !reasons.is_empty() {
            line = format!("{line} ({})", reasons.join(", "));
        }
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(output: &str) -> Report {
        let mut report = Report::default();
        output.lines().for_each(|line| report.read(line));
        report
    }

    #[test]
    fn results_are_counted_by_outcome_and_reason() {
        let report = report(
            "running 4 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, needs X\ntest d ... ignored\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s",
        );
        assert_eq!((report.passed, report.failed.as_slice(), report.skipped), (1, &["b".to_owned()][..], 3));
        assert_eq!(report.ignored, BTreeMap::from([("needs X".to_owned(), 1), (String::new(), 1)]));
    }

    #[test]
    fn a_test_for_both_databases_must_run_on_both() {
        assert!(
            report("running 2 tests\ntest a::sqlite ... ok\ntest a::postgres ... FAILED").databases_agree()
        );
        assert!(
            !report("running 2 tests\ntest a::sqlite ... ok\ntest a::postgres ... ignored").databases_agree()
        );
        let elsewhere = "running 1 test\ntest a::sqlite ... ok\nrunning 1 test\ntest a::postgres ... ok";
        assert!(!report(elsewhere).databases_agree());
    }

    #[test]
    fn a_slow_test_has_hung_unless_it_ends() {
        let mut ended = report("running 1 test\ntest a has been running for over 60 seconds\ntest a ... ok");
        assert!(ended.take_hung(Duration::ZERO).is_empty());
        let mut hung = report("running 1 test\ntest a has been running for over 60 seconds");
        assert_eq!(hung.take_hung(Duration::ZERO), ["a"]);
        assert!(hung.any_hung());
    }
}
