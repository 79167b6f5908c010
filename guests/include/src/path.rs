//! Paths of included files. Only their text counts here; the host checks the targets of links.

/// Bytes of a path that the host takes.
const MAX_BYTES: usize = 512;

/// The path that `written` means in the file `including`: normalized and relative to the template's root, as
/// `including` is.
pub(crate) fn join(including: &str, written: &str) -> Result<String, &'static str> {
    if written.is_empty() {
        return Err("empty path: name the file to include");
    }
    if written.starts_with('/') {
        return Err("an absolute path escapes root: paths are relative to the file that includes");
    }
    if written.chars().any(|c| c.is_control() || c == '\\') {
        return Err("a path has neither control characters nor backslashes");
    }
    let directory = including.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut parts = Vec::new();
    for part in directory.split('/').chain(written.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return Err("the path escapes root, the template's directory"),
            ".." => {}
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    if path.is_empty() {
        return Err("the path names a directory, not a file");
    }
    if path.len() > MAX_BYTES {
        return Err("the path is longer than 512 bytes");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_including_file() {
        for (including, written, path) in [
            ("org.yaml", "a.yaml", "a.yaml"),
            ("org.yaml", "./teams//a.yaml", "teams/a.yaml"),
            ("teams/a.yaml", "../roles/x.yaml", "roles/x.yaml"),
            ("teams/a.yaml", "x.yaml", "teams/x.yaml"),
            ("a/b/c.yaml", "../../d.yaml", "d.yaml"),
            ("org.yaml", "a/../b.yaml", "b.yaml"),
            ("org.yaml", "..a/b", "..a/b"),
            ("org.yaml", "a/", "a"),
        ] {
            assert_eq!(join(including, written).as_deref(), Ok(path));
        }
    }

    #[test]
    fn invalid_paths_are_refused() {
        for (including, written, fragment) in [
            ("org.yaml", "", "empty path"),
            ("org.yaml", "../outside.yaml", "escapes root"),
            ("org.yaml", "../../etc/passwd", "escapes root"),
            ("org.yaml", "a/../../x", "escapes root"),
            ("teams/a.yaml", "../../x", "escapes root"),
            ("org.yaml", "/etc/passwd", "escapes root"),
            ("org.yaml", ".", "directory"),
            ("a/b.yaml", "..", "directory"),
            ("org.yaml", "a\\b", "backslashes"),
            ("org.yaml", "a\0b", "control"),
        ] {
            let error = join(including, written).unwrap_err();
            assert!(error.contains(fragment), "{written:?}: {error}");
        }
        join("org.yaml", &"x".repeat(513)).unwrap_err();
    }
}
