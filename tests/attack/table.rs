//! The two tables of the access matrix: `access/routes.table` says of which class each route is, and
//! `access/classes.table` how each class answers each caller in each mode.

use std::collections::BTreeMap;

/// A route, called in one way.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) method: String,
    /// As it is registered: `/workspaces/{id}`.
    pub(crate) pattern: String,
    /// What is asked for; names in braces are replaced.
    pub(crate) target: String,
    pub(crate) class: String,
    /// Statuses of an admitted request.
    pub(crate) statuses: Vec<u16>,
    /// Header lines of this row.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// What is expected of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Not asked.
    Skipped,
    /// The caller is admitted: one of the row's statuses.
    Admitted,
    /// Refused with this status and error text; without text: an empty body.
    Refused(u16, String),
}

/// Expectations by class, mode and caller.
pub(crate) struct Classes(BTreeMap<(String, String, String), Expected>);

/// Lines with content.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The routes: `METHOD PATTERN TARGET CLASS STATUSES [+HEADER…] [BODY]`, where a target of `=` is the pattern.
pub(crate) fn rows() -> Vec<Row> {
    lines(include_str!("access/routes.table")).map(row).collect()
}

fn row(line: &'static str) -> Row {
    let mut fields = line.splitn(6, ' ').map(str::trim);
    let mut field = || fields.next().filter(|field| !field.is_empty()).unwrap_or_else(|| panic!("{line}"));
    let (method, pattern, target, class, statuses) = (field(), field(), field(), field(), field());
    let rest = fields.next().unwrap_or_default();
    let (headers, body) = match rest.strip_prefix('+') {
        Some(header) => {
            let (header, body) = header.split_once(' ').unwrap_or((header, ""));
            (vec![header.replacen(':', ": ", 1)], body)
        }
        None => (Vec::new(), rest),
    };
    Row {
        method: method.to_owned(),
        pattern: pattern.to_owned(),
        target: if target == "=" { pattern } else { target }.to_owned(),
        class: class.to_owned(),
        statuses: statuses.split('|').map(|status| status.parse().expect("a status")).collect(),
        headers,
        body: body.to_owned(),
    }
}

impl Classes {
    pub(crate) fn read() -> Self {
        let mut outcomes = BTreeMap::new();
        let (mut class, mut callers) = ("", Vec::new());
        let mut cells = BTreeMap::new();
        for line in lines(include_str!("access/classes.table")) {
            let mut words = line.split_whitespace();
            match words.next().expect("a line has a word") {
                "outcome" => {
                    let (sign, status) = (words.next().expect("a sign"), words.next().expect("a status"));
                    let text = words.collect::<Vec<_>>().join(" ");
                    outcomes.insert(sign, Expected::Refused(status.parse().expect("a status"), text));
                }
                "class" => {
                    class = words.next().expect("a class");
                    callers = words.collect();
                }
                mode => {
                    let signs: Vec<&str> = words.collect();
                    assert_eq!(signs.len(), callers.len(), "{class}: {line}");
                    for (caller, sign) in callers.iter().zip(signs) {
                        let expected = match sign {
                            "." => Expected::Skipped,
                            "-" => Expected::Admitted,
                            sign => outcomes.get(sign).cloned().unwrap_or_else(|| panic!("{sign}: {line}")),
                        };
                        let cell = (class.to_owned(), mode.to_owned(), (*caller).to_owned());
                        assert!(cells.insert(cell, expected).is_none(), "{class} twice: {line}");
                    }
                }
            }
        }
        Self(cells)
    }

    pub(crate) fn expected(&self, class: &str, mode: &str, caller: &str) -> &Expected {
        let cell = (class.to_owned(), mode.to_owned(), caller.to_owned());
        self.0.get(&cell).unwrap_or_else(|| panic!("classes.table has no cell {cell:?}"))
    }
}
