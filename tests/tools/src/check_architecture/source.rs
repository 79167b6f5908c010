//! The imports of a source file, read without a Rust parser: comments, literals and test code are cut out, then
//! paths that begin with `crate`, `self` or `super` are collected. Good for this tree's style, not for every
//! Rust program: no macros that make imports, no `#[path]`.

/// A path with the name that it gets where it is imported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) name: String,
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Paths of `use` items.
    pub(crate) imports: Vec<Import>,
    /// Paths in other code.
    pub(crate) paths: Vec<Vec<String>>,
    /// Modules that are only there for tests.
    pub(crate) test_modules: Vec<String>,
}

pub(crate) fn read(text: &str) -> Source {
    let tokens = tokens(text);
    let mut source = Source::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if tokens.get(at..at + TEST.len()).is_some_and(|next| next == TEST) {
            at = skip_item(&tokens, at + TEST.len(), &mut source.test_modules);
        } else if token == "use" {
            at = read_tree(&tokens, at + 1, &mut Vec::new(), &mut source.imports);
        } else if ["crate", "super", "self"].contains(&token.as_str())
            && tokens.get(at + 1).is_some_and(|next| next == "::")
        {
            let mut path = vec![token.clone()];
            at += 1;
            while let (Some("::"), Some(name)) =
                (tokens.get(at).map(String::as_str), tokens.get(at + 1).filter(|name| is_name(name)))
            {
                path.push(name.clone());
                at += 2;
            }
            source.paths.push(path);
        } else {
            at += 1;
        }
    }
    source
}

const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// Skips the item after an attribute, and notes a module in a file of its own.
fn skip_item(tokens: &[String], mut at: usize, modules: &mut Vec<String>) -> usize {
    let mut depth = 0_usize;
    let begin = at;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token == "}" {
                    break;
                }
            }
            ";" if depth == 0 => {
                let item = tokens.get(begin..at).unwrap_or_default();
                if let Some(name) = item.iter().skip_while(|token| *token != "mod").nth(1) {
                    modules.push(name.clone());
                }
                break;
            }
            _ => {}
        }
    }
    at
}

/// Reads a tree of imports from `at` on, and returns where it ends.
fn read_tree(tokens: &[String], mut at: usize, prefix: &mut Vec<String>, imports: &mut Vec<Import>) -> usize {
    let length = prefix.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("::") => at += 1,
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = read_tree(tokens, at, prefix, imports);
                    if tokens.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                at += 1;
                break;
            }
            Some(name) if is_name(name) || name == "*" => {
                prefix.push(name.to_owned());
                at += 1;
                if tokens.get(at).is_some_and(|token| token == "::") {
                    continue;
                }
                let renamed = tokens.get(at).is_some_and(|token| token == "as");
                let name = if renamed { tokens.get(at + 1).cloned() } else { Some(name.to_owned()) };
                at += if renamed { 2 } else { 0 };
                if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
                    prefix.pop();
                }
                let name = name.filter(|name| name != "self").or_else(|| prefix.last().cloned());
                imports.push(Import { path: prefix.clone(), name: name.unwrap_or_default() });
                break;
            }
            _ => {
                at += 1;
                break;
            }
        }
    }
    prefix.truncate(length);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single signs; no comments and no literals of text.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            tokens.extend(rest.get(..end).map(str::to_owned));
            end
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = rest.get(length.max(1)..).unwrap_or_default();
    }
    tokens
}

/// The length of a literal like `r#"…"#`, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after.get(hashes..)?.strip_prefix('"')?;
    let end = body.find(&format!("\"{}", "#".repeat(hashes)))?;
    Some(text.len() - body.len() + end + 1 + hashes)
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, or 1 for the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut signs = text.char_indices().skip(1);
    match signs.next() {
        Some((_, '\\')) => text.get(2..).and_then(|rest| rest.get(1..)?.find('\'')).map_or(1, |end| end + 4),
        Some(_) => match signs.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<String> {
        read(text).imports.iter().map(|it| format!("{} {}", it.path.join("::"), it.name)).collect()
    }

    #[test]
    fn trees_of_imports_are_taken_apart() {
        assert_eq!(
            imports("use crate::{a::{self, B as C}, d::*};"),
            ["crate::a a", "crate::a::B C", "crate::d::* *"]
        );
    }

    #[test]
    fn comments_literals_and_tests_are_left_out() {
        let text = "// use crate::a;\nconst A: &str = \"use crate::b;\"; const B: char = '\"';\n\
                    const C: &str = r#\"use crate::c;\"#; const Q: char = '\\'';\n\
                    #[cfg(test)]\nmod tests { use crate::d; }\n#[cfg(test)]\nmod testing;\nuse crate::e;";
        assert_eq!(imports(text), ["crate::e e"]);
        assert_eq!(read(text).test_modules, ["testing"]);
    }

    #[test]
    fn paths_outside_of_imports_count() {
        assert_eq!(
            read("fn f(x: &'a crate::a::B) { super::c::d() }").paths,
            [vec!["crate", "a", "B"], vec!["super", "c", "d"]]
        );
    }
}
