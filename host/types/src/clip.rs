//! Text of bounded size.

/// What stands at the end of text that was cut.
const ELLIPSIS: char = '…';

/// The beginning of a text, of at most so many bytes, cut between characters and marked as cut.
#[must_use]
pub fn clip(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes.saturating_sub(ELLIPSIS.len_utf8())));
        text.push(ELLIPSIS);
        // The reader of a short beginning holds no long text.
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        for (text, bytes, expected) in [
            ("", 8, ""),
            ("12345678", 8, "12345678"),
            ("123456789", 8, "12345…"),
            ("1234é6789", 8, "1234…"),
            ("ééééé", 9, "ééé…"),
        ] {
            assert_eq!(clip(text.to_owned(), bytes), expected, "{text}");
        }
    }
}
