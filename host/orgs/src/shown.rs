//! Names and paths of a template as messages show them: an author recognizes them by their ends, and a message stays a
//! message where they have a megabyte.

/// Bytes of a name or path that is shown whole.
const WHOLE: usize = 200;

/// Bytes that are shown of a longer one, before and after the ellipsis.
const BEGINNING: usize = 120;
const END: usize = 60;

/// A name or path, without its middle where it is long.
pub(crate) fn shown(text: &str) -> String {
    if text.len() <= WHOLE {
        return text.to_owned();
    }
    let beginning = &text[..text.floor_char_boundary(BEGINNING)];
    let end = &text[text.ceil_char_boundary(text.len() - END)..];
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
