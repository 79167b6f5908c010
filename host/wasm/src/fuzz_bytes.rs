//! Turns the bytes of a fuzzer into values. Compiled only when fuzzing.

/// A cursor over the fuzzer's bytes; zeros when they are used up.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    pub(crate) fn done(&self) -> bool {
        self.0.is_empty()
    }

    /// Small numbers, so that they often are indices that exist.
    pub(crate) fn ids(&mut self) -> Vec<u32> {
        (0..self.byte() % 6).map(|_| u32::from(self.byte())).collect()
    }

    pub(crate) fn text(&mut self) -> String {
        const LETTERS: &[u8] = b"ABab01_-./\\ \n\0=.MOLECUL";
        let letter =
            |byte: u8| LETTERS.get(usize::from(byte) % LETTERS.len()).copied().map_or('a', char::from);
        (0..self.byte() % 24).map(|_| letter(self.byte())).collect()
    }
}
