//! What commands of the program print.

use std::process::Output;

/// Asserts the outcome of a command and that its output contains these texts. Returns the output.
#[track_caller]
pub fn assert_output(output: &Output, succeeds: bool, texts: &[&str]) -> String {
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), succeeds, "{all}");
    for text in texts {
        assert!(all.contains(text), "no `{text}` in:\n{all}");
    }
    all
}
