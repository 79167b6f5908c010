//! Which workspace somebody means by a name.

use std::collections::HashMap;

use serde_json::Value;

use crate::{TerminalError, print::text};

/// Shortest beginning of an id that is taken for one.
const SHORTEST: usize = 4;

/// Every live workspace.
pub(crate) struct Workspaces {
    list: Vec<Value>,
}

impl Workspaces {
    /// As the server listed them.
    pub(crate) fn new(list: Value) -> Self {
        let Value::Array(list) = list else { return Self { list: Vec::new() } };
        Self { list }
    }

    /// The id of the one that is meant: by id, else by name, else by the beginning of its id.
    pub(crate) fn id(&self, named: &str) -> Result<String, TerminalError> {
        if let Ok(id) = uuid::Uuid::parse_str(named) {
            return Ok(id.to_string());
        }
        let of_name: Vec<&Value> = self.list.iter().filter(|it| text(it, "name") == named).collect();
        let of_id = || self.list.iter().filter(|it| text(it, "id").starts_with(named)).collect();
        let found = if of_name.is_empty() && named.len() >= SHORTEST { of_id() } else { of_name };
        match found.as_slice() {
            [one] => Ok(text(one, "id").to_owned()),
            [] => {
                Err(TerminalError::refused(format!("no workspace is called {named}; see `isomer ws list`")))
            }
            several => {
                let lines = several.iter().map(|it| format!("\n  {}  {}", text(it, "id"), self.place(it)));
                let lines: String = lines.collect();
                Err(TerminalError::refused(format!(
                    "several workspaces are called {named}; say which:{lines}"
                )))
            }
        }
    }

    /// Names by id.
    pub(crate) fn names(&self) -> HashMap<&str, &str> {
        self.list.iter().map(|it| (text(it, "id"), text(it, "name"))).collect()
    }

    /// Why it can't be removed by itself, if so.
    pub(super) fn has_children(&self, id: &str) -> Option<String> {
        let children: Vec<&str> =
            self.list.iter().filter(|it| text(it, "parent_id") == id).map(|it| text(it, "name")).collect();
        (!children.is_empty()).then(|| {
            let names = children.join(", ");
            format!("below it are: {names}. They go too with --confirm")
        })
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
    fn names_by_table() {
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
        assert_eq!(id("bbb").expect_err("none"), "no workspace is called bbb; see `isomer ws list`");
        let stranger = "00000000-0000-4000-8000-000000000009";
        assert_eq!(id(stranger).as_deref(), Ok(stranger), "the server knows removed ones, too");
    }
}
