//! What a guest's answer may contain. Each rule stands here once; the worlds' modules apply them on
//! the way from generated types to plain ones.

use std::collections::HashSet;

use types::{is_env_name, is_reserved_from_guests, loads_code, printable_lines};

use crate::{InvalidOutput, Problem, limits};

/// Directories below which an adapter may place things in a container or on a remote host.
const ROOTS: &[&str] = &["/configs", "/root", "/home", "/workspace", "/opt", "/var/lib"];

/// Files that hold the platform's own credentials.
const CREDENTIAL_FILES: &[&str] = &[".auth_token", ".platform_inbound_secret"];

/// A variable's name: `[A-Za-z_][A-Za-z0-9_]*`, at most 256 bytes.
pub(crate) fn env_name(at: &str, name: &str) -> Result<(), InvalidOutput> {
    if !is_env_name(name) || name.len() > 256 {
        return Err(InvalidOutput::new(
            at,
            format!("`{}` is no variable name ([A-Za-z_][A-Za-z0-9_]*)", clip(name, 64)),
        ));
    }
    Ok(())
}

/// A variable that an adapter may set: a name that isn't reserved.
pub(crate) fn settable_env(at: &str, name: &str) -> Result<(), InvalidOutput> {
    env_name(at, name)?;
    if loads_code(&name.to_ascii_uppercase()) {
        return Err(InvalidOutput::new(
            at,
            format!("`{name}` is reserved, because programs load code by it"),
        ));
    }
    if is_reserved_from_guests(name) {
        return Err(InvalidOutput::new(at, format!("`{name}` is set by the platform or an operator only")));
    }
    Ok(())
}

/// The value of a variable: one line without NUL, at most 32 KiB.
pub(crate) fn env_value(at: &str, name: &str, value: &str) -> Result<(), InvalidOutput> {
    if value.contains(['\0', '\n', '\r']) || value.len() > 32 * 1024 {
        let why = format!("the value of `{name}` must be one line without NUL, and at most 32 KiB");
        return Err(InvalidOutput::new(at, why));
    }
    Ok(())
}

/// A relative path that stays where it is put: `a/b`, without `.`, `..`, empty parts, backslashes
/// or control characters, at most 512 bytes.
pub(crate) fn plain_path(at: &str, path: &str) -> Result<(), InvalidOutput> {
    let plain = path.len() <= 512
        && !path.chars().any(|c| c.is_control() || c == '\\')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain {
        return Err(InvalidOutput::new(
            at,
            format!("`{}` is no relative path without `.`, `..` and empty parts", clip(path, 128)),
        ));
    }
    Ok(())
}

/// A plain path that a guest may have written to: none of the platform's credential files.
pub(crate) fn relative_path(at: &str, path: &str) -> Result<(), InvalidOutput> {
    plain_path(at, path)?;
    if path.split('/').any(|part| CREDENTIAL_FILES.contains(&part)) {
        return Err(InvalidOutput::new(at, format!("`{path}` holds a credential of the platform")));
    }
    Ok(())
}

/// An absolute path inside a container or on a remote host, below one of the allowed directories.
pub(crate) fn placed_path(at: &str, path: &str) -> Result<(), InvalidOutput> {
    let inside = ROOTS
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let Some(relative) = path.strip_prefix('/').filter(|_| inside) else {
        return Err(InvalidOutput::new(
            at,
            format!("`{}` is not below one of {}", clip(path, 128), ROOTS.join(", ")),
        ));
    };
    relative_path(at, relative)
}

/// A runtime's name: `[a-z0-9][a-z0-9-]{0,63}`.
pub fn runtime_name(at: &str, name: &str) -> Result<(), InvalidOutput> {
    let ok = slug(name, 64) && !name.starts_with('-');
    if ok {
        Ok(())
    } else {
        Err(InvalidOutput::new(at, format!("`{}` is no name ([a-z0-9][a-z0-9-]{{0,63}})", clip(name, 64))))
    }
}

/// An image's or a volume's name: `[a-z0-9-]`, 1 to `max` characters.
pub(crate) fn base_name(at: &str, name: &str, max: usize) -> Result<(), InvalidOutput> {
    if slug(name, max) {
        return Ok(());
    }
    Err(InvalidOutput::new(at, format!("`{}` is no name ([a-z0-9-], 1 to {max} characters)", clip(name, 64))))
}

fn slug(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Text for people: one line, at most `max` bytes.
pub fn label(at: &str, text: &str, max: usize) -> Result<(), InvalidOutput> {
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return Err(InvalidOutput::new(at, format!("one line of 1 to {max} bytes is allowed")));
    }
    Ok(())
}

/// At most `max` of something.
pub(crate) fn at_most(at: &str, count: usize, max: usize) -> Result<(), InvalidOutput> {
    if count > max {
        return Err(InvalidOutput::new(at, format!("{count} are too many, {max} are allowed")));
    }
    Ok(())
}

/// No two alike.
pub fn distinct<'a>(at: &str, names: impl IntoIterator<Item = &'a str>) -> Result<(), InvalidOutput> {
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(InvalidOutput::new(at, format!("`{}` is there twice", clip(twice, 64)))),
        None => Ok(()),
    }
}

/// A message for people, cut to what is kept, with its lines and without characters that deceive.
#[must_use]
pub fn message(text: String) -> String {
    let kept = types::clip(text, limits::MESSAGE_BYTES);
    types::clip(printable_lines(&kept).into_owned(), limits::MESSAGE_BYTES)
}

/// A problem, cut to what is kept.
#[must_use]
pub fn problem(at: Option<String>, text: String) -> Problem {
    Problem { at: at.map(message), message: message(text) }
}

pub(crate) fn clip(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Walks an arena and refuses one that is no tree: every child's index must be greater than its
/// parent's, every node but the root used exactly once, and the whole within the limits on nodes
/// and depth. `children` gives the indices below a node.
///
/// With that a recursive copy of the arena ends, and copies each node once.
pub fn arena<'a, N: 'a, I: IntoIterator<Item = u32>>(
    at: &str,
    nodes: &'a [N],
    children: impl Fn(&'a N) -> I,
) -> Result<(), InvalidOutput> {
    at_most(at, nodes.len(), limits::TREE_NODES)?;
    if nodes.is_empty() {
        return Err(InvalidOutput::new(at, "a tree has at least its root, node 0"));
    }
    // 0 = not used yet. The root stands at depth 1.
    let mut depth = vec![0_usize; nodes.len()];
    if let Some(root) = depth.first_mut() {
        *root = 1;
    }
    for (parent, node) in nodes.iter().enumerate() {
        let below = depth.get(parent).copied().unwrap_or(0) + 1;
        if below == 1 {
            return Err(InvalidOutput::new(at, format!("node {parent} belongs to no parent before it")));
        }
        for child in children(node) {
            let wrong = |why: &str| InvalidOutput::new(at, format!("node {child} below node {parent} {why}"));
            let index = child as usize;
            let slot = depth.get_mut(index).ok_or_else(|| wrong("does not exist"))?;
            if index <= parent {
                return Err(wrong("does not come after its parent"));
            }
            if *slot != 0 {
                return Err(wrong("is used twice"));
            }
            if below > limits::TREE_DEPTH {
                return Err(wrong(&format!("is nested deeper than {} levels", limits::TREE_DEPTH)));
            }
            *slot = below;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_names() {
        for name in ["MODEL", "_x", "a1"] {
            settable_env("env", name).unwrap();
        }
        for name in ["", "1A", "A-B", "A B", "Ä", "WORKSPACE_ID", "workspace_id", "MOLECULE_ENV", "PATH"] {
            settable_env("env", name).unwrap_err();
        }
        let refused = settable_env("env", "Node_Options").unwrap_err();
        assert!(refused.why.contains("`Node_Options` is reserved"), "{refused}");
        env_value("env", "A", "a b\tc").unwrap();
        for value in ["a\nB=c", "a\r", "a\0", &"x".repeat(32 * 1024 + 1)] {
            assert!(env_value("env", "A", value).unwrap_err().why.contains("`A`"));
        }
    }

    #[test]
    fn relative_paths_stay_where_they_are_put() {
        for path in ["a", "a/b.yaml", ".claude/settings.json", "..a"] {
            relative_path("path", path).unwrap();
        }
        for path in [
            "",
            "/a",
            "a/",
            "a//b",
            "./a",
            "../a",
            "a/../b",
            "a\\b",
            "a\nb",
            ".auth_token",
            "x/.platform_inbound_secret",
        ] {
            relative_path("path", path).unwrap_err();
        }
    }

    #[test]
    fn placed_paths_are_below_an_allowed_directory() {
        for path in ["/configs", "/root/.claude/sessions", "/var/lib/x"] {
            placed_path("path", path).unwrap();
        }
        for path in ["", "configs", "/", "/etc", "/configs2", "/configs/../etc", "/var/library", "/root/"] {
            placed_path("path", path).unwrap_err();
        }
    }

    #[test]
    fn an_arena_is_a_tree() {
        let ok: &[&[u32]] = &[&[1, 2], &[], &[3], &[]];
        let refused: &[(&[&[u32]], &str)] = &[
            (&[], "at least its root"),
            (&[&[0]], "does not come after"),
            (&[&[1], &[0]], "does not come after"),
            (&[&[1, 1], &[]], "used twice"),
            (&[&[1, 2], &[2], &[]], "used twice"),
            (&[&[7]], "does not exist"),
            (&[&[], &[]], "belongs to no parent"),
        ];
        arena("tree", ok, |node| node.iter().copied()).unwrap();
        for (nodes, why) in refused {
            let error = arena("tree", nodes, |node| node.iter().copied()).unwrap_err();
            assert!(error.why.contains(why), "{error}");
        }
    }

    #[test]
    fn an_arena_has_limits() {
        let chain = |length: u32| {
            (1..=length).map(|next| if next < length { vec![next] } else { vec![] }).collect::<Vec<_>>()
        };
        let deep = |length| arena("tree", &chain(length), |node| node.iter().copied());
        deep(192).unwrap();
        assert!(deep(193).unwrap_err().why.contains("deeper than 192"));
        let wide = |count: u32| {
            vec![(1..count).collect::<Vec<_>>()]
                .into_iter()
                .chain((1..count).map(|_| vec![]))
                .collect::<Vec<_>>()
        };
        arena("tree", &wide(200_000), |node| node.iter().copied()).unwrap();
        assert!(
            arena("tree", &wide(200_001), |node| node.iter().copied()).unwrap_err().why.contains("too many")
        );
    }
}
