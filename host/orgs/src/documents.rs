//! A file of YAML may have several documents, of which a template's resolver reads the first. The others are
//! named in a warning.

/// What ends a line in YAML 1.2, by which the resolver's parser (saphyr-parser) reads. NEL, LS and PS did in 1.1 only.
const BREAKS: [char; 2] = ['\n', '\r'];

/// The line where a document after the first one begins, counted from 1. None for a file with one document:
/// comments and empty documents at its end are none.
pub(crate) fn second(text: &str) -> Option<usize> {
    let mut is_first = true;
    let mut has_content = false;
    for (number, line) in text.replace("\r\n", "\n").split(BREAKS).enumerate() {
        let line = if number == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        // No line of a document's content begins with a marker, not even within block scalars.
        let marker = ["---", "..."].into_iter().find(|marker| {
            let rest = line.strip_prefix(marker);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        });
        let rest = marker.map_or(line, |_| line.get(3..).unwrap_or_default()).trim_start_matches([' ', '\t']);
        if marker.is_some() && has_content {
            is_first = false;
        }
        let is_directive = line.starts_with('%') && (!has_content || !is_first);
        let is_content = !rest.is_empty() && !rest.starts_with('#') && !is_directive;
        // A document that is begun by a marker exists even where it is empty.
        if is_content && !is_first {
            return Some(number + 1);
        }
        has_content |= is_content || marker == Some("---");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_documents_are_found() {
        for (text, line) in [
            ("name: T\n", None),
            ("---\nname: T\n", None),
            ("%YAML 1.2\n---\nname: T\n...\n", None),
            ("# one\n--- # two\nname: T\n---\n", None),
            ("name: T\n---\n# nothing\n---\n", None),
            ("name: |\n  ---\n  ...\nrole: a---b\n", None),
            ("name: T\n---\nname: U\n", Some(3)),
            ("--- {name: T}\n--- {name: U}\n", Some(2)),
            ("name: T\n...\nname: U\n", Some(3)),
            ("name: |\n  text\n---\nname: U\n", Some(4)),
            ("\u{feff}---\r\nname: T\r\n---\r\nname: U\r\n", Some(4)),
            ("name: T\n...\n%YAML 1.2\n---\nname: U\n", Some(5)),
            ("---\n---\nname: U\n", Some(3)),
            ("name: T\r---\rname: U\r", Some(3)),
            ("name: T\r\n# a\r---\rname: U", Some(4)),
            ("name: T\u{2028}--- x\u{85}---\u{2029}role: U\n", None),
            ("name: T\u{2028}\n---\nname: U\n", Some(3)),
            ("name: |\r  ---\r  ...\r", None),
        ] {
            assert_eq!(second(text), line, "{text:?}");
        }
    }
}
