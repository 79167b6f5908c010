//! The matrix is complete: it fails when a route is added without a row.
//!
//! Paths are read from the sources, because a router can't list them. Methods are asked of a running server.

use std::{collections::BTreeSet, fs, path::Path};

use support::{Database, Server, workspace};

use crate::{raw, table};

/// Calls that register a path.
const CALLS: [&str; 3] = [".endpoint(", ".probe(", ".route("];

/// A router that answers 503 until the server is ready, and no route of it.
const NO_ROUTES: [&str; 2] = ["/", "/{*path}"];

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"];

fn registered() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    read(&workspace().join("host/api/src"), &mut paths);
    paths
}

fn read(directory: &Path, paths: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        if file.is_dir() {
            read(&file, paths);
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        for call in CALLS {
            for after in source.split(call).skip(1) {
                let argument = after.trim_start().split([',', ')']).next().unwrap().trim();
                paths.insert(path(argument, &source, &file));
            }
        }
    }
    for path in NO_ROUTES {
        paths.remove(path);
    }
}

/// The path that an argument is: a literal, or a constant of the same file.
fn path(argument: &str, source: &str, file: &Path) -> String {
    let literal = if argument.starts_with('"') {
        argument
    } else {
        let constant = source.split(&format!("const {argument}: &str = ")).nth(1);
        constant.and_then(|text| text.split(';').next()).unwrap_or_default()
    };
    let path = literal.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let path = path.unwrap_or_else(|| {
        panic!("{}: the path `{argument}` is neither a literal nor a constant of this file", file.display())
    });
    path.to_owned()
}

#[test]
fn every_path_has_a_row() {
    let in_table: BTreeSet<String> = table::rows().into_iter().map(|row| row.pattern).collect();
    let registered = registered();
    assert!(registered.len() > 30, "{registered:?}");
    let without: Vec<_> = registered.difference(&in_table).collect();
    assert!(without.is_empty(), "add rows to tests/attack/access/routes.table for {without:?}");
    let gone: Vec<_> = in_table.difference(&registered).collect();
    assert!(gone.is_empty(), "tests/attack/access/routes.table has rows for routes that are gone: {gone:?}");
}

#[tokio::test]
async fn every_method_has_a_row() {
    let server = Server::start(Database::sqlite()).await;
    let known: BTreeSet<(String, String)> =
        table::rows().into_iter().map(|row| (row.method, row.pattern)).collect();
    for pattern in registered() {
        // Ids and names that exist nowhere: nothing is changed.
        let target = pattern.replace("{name}", "nothing").replace(['{', '}'], "-");
        for method in METHODS {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let mut connection = raw::Raw::connect(server.address()).await;
            connection.write(request.as_bytes()).await;
            // An answer to HEAD announces a body that doesn't come.
            let head = connection.head().await;
            let unmatched = head.starts_with("HTTP/1.1 404") && head.contains("\r\nContent-Type: text/plain");
            let has_row = known.contains(&(method.to_owned(), pattern.clone()));
            let probe = method == "HEAD" && known.contains(&("GET".to_owned(), pattern.clone()));
            assert!(
                unmatched || has_row || probe,
                "add a row to tests/attack/access/routes.table for {method} {pattern}: {head}"
            );
            assert!(!(unmatched && has_row), "{method} {pattern} has a row and is no route: {head}");
        }
    }
}
