//! Finds a workspace by name, id, or beginning of the id.

use std::collections::HashMap;

use serde_json::Value;

use crate::{CliError, print::text, printable};

/// Characters of the shortest beginning of an id.
const MIN_PREFIX: usize = 4;

/// Every live workspace.
pub(crate) struct Workspaces {
    list: Vec<Value>,
}

impl Workspaces {
    /// From the server's list.
    pub(crate) fn new(list: Value) -> Self {
        let Value::Array(list) = list else { return Self { list: Vec::new() } };
        Self { list }
    }

    /// The id of a workspace that is named by id, else by name, else by the beginning of its id.
    pub(crate) fn id(&self, named: &str) -> Result<String, CliError> {
        if let Ok(id) = uuid::Uuid::parse_str(named) {
            return Ok(id.to_string());
        }
        let of_name: Vec<&Value> = self.list.iter().filter(|it| text(it, "name") == named).collect();
        let of_id = || self.list.iter().filter(|it| text(it, "id").starts_with(named)).collect();
        let found = if of_name.is_empty() && named.len() >= MIN_PREFIX { of_id() } else { of_name };
        match found.as_slice() {
            [one] => Ok(text(one, "id").to_owned()),
            [] => {
                Err(CliError::refused(format!("no workspace is called {named}. `isomer ws list` shows all")))
            }
            several => {
                let line = |it: &&Value| format!("{}  {}", text(it, "id"), self.place(it));
                let lines = several.iter().map(|it| format!("\n  {}", printable(&line(it))));
                let lines: String = lines.collect();
                Err(CliError::refused(format!(
                    "several workspaces are called {named}. Name one by its id:{lines}"
                )))
            }
        }
    }

    /// Names by id.
    pub(crate) fn names(&self) -> HashMap<&str, &str> {
        self.list.iter().map(|it| (text(it, "id"), text(it, "name"))).collect()
    }

    /// The question to confirm before a workspace with children is removed.
    pub(super) fn confirmation(&self, id: &str) -> Option<String> {
        let children: Vec<&str> =
            self.list.iter().filter(|it| text(it, "parent_id") == id).map(|it| text(it, "name")).collect();
        (!children.is_empty()).then(|| {
            let (name, children) = (self.name(id), children.join(", "));
            let (name, children) = (printable(name), printable(&children));
            format!("{name} was not removed: it has workspaces below it ({children}). Remove them all with --confirm")
        })
    }

    /// Name of a workspace; the id itself where the server lists no such workspace.
    pub(super) fn name<'a>(&'a self, id: &'a str) -> &'a str {
        let found = self.list.iter().find(|it| text(it, "id") == id);
        found.map_or(id, |it| text(it, "name"))
    }

    fn place(&self, workspace: &Value) -> String {
        match self.names().get(text(workspace, "parent_id")) {
            Some(parent) => format!("below {parent}"),
            None => "at the top".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workspaces_are_found_by_id_name_and_prefix() {
        let list = Workspaces::new(json!([
            { "id": "aaaa1111-0000-4000-8000-000000000001", "name": "Root", "parent_id": null },
            { "id": "bbbb2222-0000-4000-8000-000000000002", "name": "Twin", "parent_id": null },
            { "id": "bbbb3333-0000-4000-8000-000000000003", "name": "Twin",
              "parent_id": "aaaa1111-0000-4000-8000-000000000001" },
            { "id": "cccc4444-0000-4000-8000-000000000004", "name": "aaaa", "parent_id": null },
        ]));
        let id = |named: &str| list.id(named).map_err(|error| error.to_string());
        assert_eq!(id("Root").as_deref(), Ok("aaaa1111-0000-4000-8000-000000000001"));
        assert_eq!(id("aaaa1").as_deref(), Ok("aaaa1111-0000-4000-8000-000000000001"));
        assert_eq!(id("aaaa").as_deref(), Ok("cccc4444-0000-4000-8000-000000000004"), "names come first");
        assert_eq!(id("bbbb2").as_deref(), Ok("bbbb2222-0000-4000-8000-000000000002"));
        assert!(id("bbbb").expect_err("two").contains("below Root"));
        assert!(id("Twin").expect_err("two").contains("at the top"));
        assert_eq!(id("bbb").expect_err("none"), "no workspace is called bbb. `isomer ws list` shows all");
        let stranger = "00000000-0000-4000-8000-000000000009";
        assert_eq!(id(stranger).as_deref(), Ok(stranger), "the server knows removed ones, too");
    }
}
