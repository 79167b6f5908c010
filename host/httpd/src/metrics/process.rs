//! Series about this process, read from Linux' `/proc` at the moment of the scrape.
//!
//! A file that is missing (another system) or unreadable leaves its series out: a wrong number is
//! worse than none.

use std::fmt::{Display, Write};
use std::fs;

/// Clock ticks per second in `/proc/*/stat`. Fixed at 100 for programs, whatever the kernel uses
/// inside.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn render(text: &mut String) {
    if let Some(status) = read("/proc/self/status") {
        let resident = status_field(&status, "VmRSS:").map(|kib| kib * 1024);
        gauge(text, "process_resident_memory_bytes", "Memory in use, in bytes.", resident);
        let threads = status_field(&status, "Threads:");
        gauge(text, "process_threads", "Operating system threads.", threads);
    }
    if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
        let name = "process_cpu_seconds_total";
        series(text, "counter", name, "User and system CPU time, in seconds.", stat.cpu_seconds);
        let started = read("/proc/stat").as_deref().and_then(boot_time);
        let started = started.map(|boot| boot + stat.started_after_boot);
        let help = "When the process started, in seconds since 1970.";
        gauge(text, "process_start_time_seconds", help, started);
    }
    // The directory being read is itself an open file.
    let files = fs::read_dir("/proc/self/fd").ok();
    let files = files.map(|entries| entries.count().saturating_sub(1));
    gauge(text, "process_open_fds", "Open file descriptors.", files);
    text.push('\n');
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn gauge(text: &mut String, name: &str, help: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        series(text, "gauge", name, help, value);
    }
}

fn series(text: &mut String, kind: &str, name: &str, help: &str, value: impl Display) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

/// The number after a field's name in `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Seconds since 1970 at which the machine started, from `/proc/stat`.
fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The fields of `/proc/self/stat` that we report.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot: f64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may contain anything; the
        // third one follows the last `)`. Numbers below are those of proc(5), minus three.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            started_after_boot: ticks(19)? / TICKS_PER_SECOND,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 1234 1 1";
        let expected = Stat { cpu_seconds: 3.0, started_after_boot: 12.34 };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(status_field("VmRSS:\t  123 kB\nThreads:\t4\n", "Threads:"), Some(4));
        assert_eq!(status_field("VmRSS:\t  123 kB\n", "VmRSS:"), Some(123));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1.7e9));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn all_series_are_there_and_plausible() {
        let mut text = String::new();
        render(&mut text);
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.expect(name).parse().expect(name)
        };
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.5e9);
    }
}
