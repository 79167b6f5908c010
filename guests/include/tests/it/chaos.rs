//! Random files get an answer that is deterministic and valid.

use include_resolver::expand;
use isomer_sdk::{Answer, Expansion, KnownFile, Progress};

use crate::support::shown;

/// Pieces that make most of YAML's states reachable.
const PIECES: &[&str] = &[
    "a",
    "b",
    "name",
    "<<",
    ": ",
    ":",
    "- ",
    "-",
    "? ",
    "\n",
    "\n  ",
    "\n    ",
    "\r\n",
    " ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&x ",
    "*x",
    "&y ",
    "*y",
    "!include ",
    "- !include a.yaml\n",
    "!external ",
    "a.yaml",
    "b.yaml",
    "../a.yaml",
    "!!str ",
    "! ",
    "!t ",
    "!<!v> ",
    "'",
    "\"",
    "\"\"",
    "|\n",
    ">-\n",
    "|2\n",
    "# c",
    "---\n",
    "...\n",
    "%TAG ! tag:x,1:\n",
    "%YAML 1.2\n",
    "\\",
    "\\x",
    "\u{feff}",
    "\u{85}",
    "ü",
    "~",
    "1.10",
    "repo: o/r",
    "ref: v1",
    "path: p",
    "`",
    "@",
    "%",
    "&",
    "*",
    "!",
];

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn text(&mut self) -> Vec<u8> {
        let pieces = self.below(16);
        let mut text: Vec<u8> = (0..pieces).flat_map(|_| PIECES[self.below(PIECES.len())].bytes()).collect();
        if self.below(20) == 0 && !text.is_empty() {
            let at = self.below(text.len());
            text[at] = self.below(256) as u8;
        }
        text
    }
}

#[test]
fn random_files_get_a_deterministic_and_valid_answer() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut done, mut failed, mut need) = (0, 0, 0);
    let cases = std::env::var("CHAOS_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000);
    for _ in 0..cases {
        let mut files = vec![KnownFile { path: "org.yaml".into(), answer: Answer::Bytes(random.text()) }];
        for path in ["a.yaml", "b.yaml"] {
            match random.below(5) {
                0 => {}
                1 => files.push(KnownFile { path: path.into(), answer: Answer::Missing }),
                _ => files.push(KnownFile { path: path.into(), answer: Answer::Bytes(random.text()) }),
            }
        }
        let request = Expansion { entry: "org.yaml".into(), has_directory: random.below(9) != 0, files };
        let answer = expand(&request);
        assert_eq!(answer, expand(&request));
        match answer {
            Progress::Done(tree) => {
                shown(&tree);
                done += 1;
            }
            Progress::Failed(problem) => {
                assert!(
                    problem.at.is_some_and(|at| at.splitn(3, ':').count() == 3)
                        && !problem.message.is_empty()
                );
                failed += 1;
            }
            Progress::Need(paths) => {
                assert!(paths.iter().all(|path| request.files.iter().all(|file| file.path != *path)));
                need += 1;
            }
        }
    }
    assert!(done > 20 && failed > 20 && need > 20, "{done} done, {failed} failed, {need} in need");
}
