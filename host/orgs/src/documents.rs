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
    use std::ops::RangeInclusive;

    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

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

    /// What the resolver's parser says: the lines from the begin of a further document to its first content, where
    /// it has content.
    fn by_parser(text: &str) -> Result<Option<RangeInclusive<usize>>, ScanError> {
        let (mut documents, mut begin) = (0, 0);
        for event in Parser::new_from_str(text) {
            let (event, span) = event?;
            match event {
                Event::DocumentStart(_) => (documents, begin) = (documents + 1, span.start.line()),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::Scalar(text, ScalarStyle::Plain, 0, None) if text.is_empty() => {}
                _ if documents > 1 => return Ok(Some(begin..=span.start.line())),
                _ => {}
            }
        }
        Ok(None)
    }

    #[test]
    fn the_parser_finds_the_same_documents() {
        const LINES: [&str; 30] = [
            "name: T",
            "role: |",
            "  text",
            "  ---",
            "  ...",
            "---",
            "--- ",
            "---\t",
            "--- # c",
            "--- name",
            "--- {a: 1}",
            "--- |",
            "---x",
            "...",
            "... ",
            "... # c",
            "# comment",
            "%YAML 1.2",
            "%TAG ! tag:x,2000:",
            "",
            " ",
            "\t",
            "- 1",
            "  - 2",
            "\"a",
            "b\"",
            "'c: ---'",
            "{",
            "}",
            "x: \u{85}---\u{2028}---",
        ];
        let seed = rand::random::<u64>();
        let mut random = StdRng::seed_from_u64(seed);
        let (mut several, mut single) = (0, 0);
        for _ in 0..200_000 {
            let end = ["\n", "\r\n", "\r"][random.random_range(0..3)];
            let count = random.random_range(1..8);
            let lines: Vec<&str> = (0..count).map(|_| LINES[random.random_range(0..LINES.len())]).collect();
            let text = lines.join(end);
            // What the parser refuses, the resolver does too.
            let Ok(found) = by_parser(&text) else { continue };
            let agree = match (second(&text), &found) {
                (Some(line), Some(lines)) => lines.contains(&line),
                (line, lines) => line.is_none() && lines.is_none(),
            };
            assert!(agree, "{text:?}: {:?}, not {found:?}; seed {seed}", second(&text));
            *if found.is_some() { &mut several } else { &mut single } += 1;
        }
        assert!(several > 1_000 && single > 1_000, "{several} and {single}");
    }
}
