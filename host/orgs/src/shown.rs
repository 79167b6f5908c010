//! Names and paths of a template as messages show them: an author recognizes them by their ends, and a message stays a
//! message where they have a megabyte.

/// Bytes of a name or path that is shown whole.
const WHOLE: usize = 200;

/// A name or path, without its middle where it is long.
pub(crate) fn shown(text: &str) -> String {
    shown_within(text, WHOLE)
}

/// A text of so many bytes at most, without its middle where it is longer: a sentence begins with the place, and ends
/// with the reason.
pub(crate) fn shown_within(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = bytes / 3;
    let beginning = &text[..text.floor_char_boundary(bytes.saturating_sub(end + '…'.len_utf8()))];
    let end = &text[text.ceil_char_boundary(text.len() - end)..];
    format!("{beginning}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_middle_between_characters() {
        let short = "ä".repeat(100);
        assert_eq!(shown(&short), short);
        let long = format!("workspaces[0]{}.name", ".children[0]".repeat(90));
        let text = shown(&long);
        assert!(
            text.starts_with("workspaces[0].children[0]") && text.ends_with(".children[0].name"),
            "{text}"
        );
        assert!(text.len() <= WHOLE && text.contains('…'));
        for shift in 0..4 {
            let text = shown(&format!("{}{}", "x".repeat(shift), "🦀".repeat(100)));
            assert!(text.len() <= WHOLE && !text.contains('\u{fffd}'), "{text}");
        }
    }
}
