//! Import cycles between the modules of a crate. A module counts together with its descendants: an import is an
//! edge between the two siblings that contain its ends. Imports between a module and its descendants are allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use crate::source::{self, Source};

type Module = Vec<String>;

/// Siblings that import each other.
pub(crate) struct Circle {
    pub(crate) modules: BTreeSet<String>,
    /// One import for each arrow.
    pub(crate) imports: Vec<String>,
}

/// The circles below `src`.
pub(crate) fn circles(src: &Path) -> io::Result<Vec<Circle>> {
    let mut files = BTreeMap::new();
    read_directory(src, &[], &mut files)?;
    // A crate that is a program and a library has two roots; the library holds the modules.
    let excluded: Vec<Module> = files
        .iter()
        .flat_map(|(module, source)| source.test_modules.iter().map(|name| child(module, name)))
        .collect();
    files.retain(|module, _| !excluded.iter().any(|test| module.starts_with(test)));
    Ok(circles_of(&files))
}

fn read_directory(
    directory: &Path,
    module: &[String],
    files: &mut BTreeMap<Module, Source>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            read_directory(&path, &child(module, name), files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let root = ["lib", "main"].contains(&name) && module.is_empty();
            let module = if root || name == "mod" { module.to_vec() } else { child(module, name) };
            let source = source::read(&fs::read_to_string(&path)?);
            let whole: &mut Source = files.entry(module).or_default();
            whole.imports.extend(source.imports);
            whole.paths.extend(source.paths);
            whole.test_modules.extend(source.test_modules);
        }
    }
    Ok(())
}

fn child(module: &[String], name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn circles_of(files: &BTreeMap<Module, Source>) -> Vec<Circle> {
    // By parent: arrows between its children, each with one import that makes it.
    let mut arrows: BTreeMap<Module, BTreeMap<(String, String), String>> = BTreeMap::new();
    for (module, source) in files {
        for path in source.imports.iter().map(|import| &import.path).chain(&source.paths) {
            let Some(target) = resolve(files, module, path, 0) else { continue };
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                let parent = module.iter().take(common).cloned().collect();
                let example = format!("{} imports {}", module.join("::"), path.join("::"));
                arrows.entry(parent).or_default().entry((from.clone(), to.clone())).or_insert(example);
            }
        }
    }
    arrows.values().flat_map(circles_between).collect()
}

/// The module that a path leads to.
fn resolve(files: &BTreeMap<Module, Source>, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    // Deeper chains of re-exports than this are circles themselves.
    if depth > 8 {
        return None;
    }
    let mut names = path.iter();
    let mut module = match names.next()?.as_str() {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => from.get(..from.len().checked_sub(1)?)?.to_vec(),
        // A child by its bare name, or another crate.
        first if files.contains_key(&child(from, first)) => child(from, first),
        _ => return None,
    };
    while let Some(name) = names.next() {
        if name == "super" {
            module.pop()?;
        } else if files.contains_key(&child(&module, name)) {
            module.push(name.clone());
        } else {
            // An item of the module, or one that it re-exports.
            let exported = files.get(&module)?.imports.iter().find(|import| import.name == *name);
            return match exported {
                Some(import) => {
                    let path: Vec<String> = import.path.iter().chain(names).cloned().collect();
                    resolve(files, &module, &path, depth + 1)
                }
                None => Some(module),
            };
        }
    }
    Some(module)
}

fn circles_between(arrows: &BTreeMap<(String, String), String>) -> Vec<Circle> {
    let reachable = |from: &str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(one) = open.pop() {
            for (_, to) in arrows.keys().filter(|(from, _)| from == one) {
                if reached.insert(to.as_str()) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let names: BTreeSet<&str> = arrows.keys().map(|(from, _)| from.as_str()).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = names.iter().map(|name| (*name, reachable(name))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
    let mut described = BTreeSet::new();
    let mut circles = Vec::new();
    for name in &names {
        let circle: BTreeSet<&str> =
            names.iter().copied().filter(|other| reaches(name, other) && reaches(other, name)).collect();
        if circle.len() > 1 && described.insert(circle.clone()) {
            let within = arrows.iter().filter(|((from, to), _)| {
                from != to && circle.contains(from.as_str()) && circle.contains(to.as_str())
            });
            let imports = within.map(|(_, example)| example.clone()).collect();
            circles.push(Circle { imports, modules: circle.into_iter().map(str::to_owned).collect() });
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> usize {
        let files = files.iter().map(|(module, text)| {
            let module = module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
            (module, source::read(text))
        });
        circles_of(&files.collect()).len()
    }

    #[test]
    fn two_modules_that_import_each_other_are_a_circle() {
        assert_eq!(found(&[("", ""), ("a", "use crate::b::B;"), ("b", "use super::a::A;")]), 1);
        assert_eq!(found(&[("", ""), ("a", "use crate::b::B;"), ("b", "")]), 0);
    }

    #[test]
    fn a_module_and_its_children_may_import_each_other() {
        assert_eq!(found(&[("", ""), ("a", "use b::B;"), ("a::b", "use super::A;")]), 0);
    }

    #[test]
    fn a_reexport_leads_to_the_module_behind_it() {
        let root = "pub use a::A; pub use b::B;";
        assert_eq!(found(&[("", root), ("a", "use crate::B;"), ("b", "use crate::A;")]), 1);
    }

    #[test]
    fn children_count_as_their_module() {
        assert_eq!(found(&[("", ""), ("a", ""), ("a::x", "use crate::b::B;"), ("b", "use crate::a::A;")]), 1);
    }
}
