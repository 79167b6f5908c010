//! Finds the name that a misspelled one most likely means.

/// The known name that was most likely meant, up to case, `_`, `-` and a letter or two.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain_name = plain(name);
    let distance = |known: &'a str| {
        let plain_known = plain(known);
        let allowed = match plain_name.chars().count().max(plain_known.chars().count()) {
            0..=3 => 0,
            4..=5 => 1,
            _ => 2,
        };
        if plain_name.len().abs_diff(plain_known.len()) > 8 {
            return None;
        }
        let distance = strsim::osa_distance(&plain_name, &plain_known);
        (distance <= allowed).then_some((distance, known))
    };
    known.into_iter().filter_map(distance).min().map(|(_, known)| known)
}

/// Without case, `_` and `-`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 9] =
        ["name", "role", "runtime", "tier", "children", "model", "files_dir", "initial_prompt", "url"];

    #[test]
    fn misspelled_names_are_recognized() {
        for (key, meant) in [
            ("chidren", Some("children")),
            ("runtme", Some("runtime")),
            ("Children", Some("children")),
            ("NAME", Some("name")),
            ("filesDir", Some("files_dir")),
            ("files-dir", Some("files_dir")),
            ("initial_promt", Some("initial_prompt")),
            ("roel", Some("role")),
            ("URL", Some("url")),
            ("template_schema_version", None),
            ("parent", None),
            ("config", None),
            ("uri", None),
            ("team", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(key, KNOWN), meant, "{key}");
        }
    }
}
