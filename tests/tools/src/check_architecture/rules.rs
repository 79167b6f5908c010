//! The rules of `.ci/architecture`.

use crate::modules::Circle;

/// The order of crates, and the libraries with owners.
pub(crate) struct Rules {
    order: Vec<String>,
    owned: Vec<Owned>,
    circles: Vec<KnownCircle>,
}

/// A circle of imports that is still there.
struct KnownCircle {
    name: String,
    modules: Vec<String>,
}

struct Owned {
    owners: Vec<String>,
    libraries: Vec<String>,
}

impl Rules {
    pub(crate) fn parse(text: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let mut rules = Self { order: Vec::new(), owned: Vec::new(), circles: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some((owners, libraries)) = line.strip_prefix("only ").and_then(|it| it.split_once(':')) {
                rules.owned.push(Owned { owners: words(owners), libraries: words(libraries) });
            } else if let Some((name, modules)) =
                line.strip_prefix("circle ").and_then(|it| it.split_once(':'))
            {
                rules.circles.push(KnownCircle { name: name.to_owned(), modules: words(modules) });
            } else {
                rules.order.push(line.to_owned());
            }
        }
        rules
    }

    /// Dependencies of a crate of the host that point up.
    pub(crate) fn order(&self, name: &str, dependencies: &[String]) -> Vec<String> {
        let place = |name: &str| self.order.iter().position(|listed| listed == name);
        let Some(own) = place(name) else {
            return vec![format!("{name} has no place in .ci/architecture")];
        };
        let above = dependencies.iter().filter(|dependency| place(dependency).is_some_and(|it| it <= own));
        above
            .map(|above| format!("{name} depends on {above}, which is above it in .ci/architecture"))
            .collect()
    }

    /// Circles that are not known, and known ones that are no more.
    pub(crate) fn circles(&self, name: &str, found: &[Circle]) -> Vec<String> {
        let known: Vec<&KnownCircle> = self.circles.iter().filter(|circle| circle.name == name).collect();
        let is_within =
            |circle: &Circle, known: &KnownCircle| circle.modules.iter().all(|it| known.modules.contains(it));
        let new = found.iter().filter(|circle| !known.iter().any(|known| is_within(circle, known)));
        let new = new.map(|circle| {
            let modules: Vec<&str> = circle.modules.iter().map(String::as_str).collect();
            let imports = circle.imports.join("\n    ");
            format!("{name}: modules import each other in a circle: {}\n    {imports}", modules.join(" "))
        });
        let ended = known.iter().filter(|known| !found.iter().any(|circle| is_within(circle, known)));
        let ended = ended.map(|known| {
            let modules = known.modules.join(" ");
            format!("{name}: there is no circle between {modules} any more; delete its line")
        });
        new.chain(ended).collect()
    }

    /// Dependencies that only other crates may have.
    pub(crate) fn owners(&self, name: &str, dependencies: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        for Owned { owners, libraries } in &self.owned {
            if !owners.iter().any(|owner| owner == name) {
                let taken = dependencies.iter().filter(|dependency| libraries.contains(dependency));
                faults.extend(
                    taken.map(|taken| format!("{name} depends on {taken}; only {} may", owners.join(", "))),
                );
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::parse("# the crates\ntop\nbottom\n\nonly bottom: sea-orm sqlx\n")
    }

    #[test]
    fn a_dependency_may_point_down_but_not_up() {
        assert!(rules().order("top", &["bottom".into(), "serde".into()]).is_empty());
        assert_eq!(rules().order("bottom", &["top".into()]).len(), 1);
    }

    #[test]
    fn a_crate_of_the_host_needs_a_place() {
        assert_eq!(rules().order("other", &[]).len(), 1);
    }

    #[test]
    fn a_known_circle_is_accepted_until_it_is_gone() {
        let rules = Rules::parse("circle bottom: a b c");
        let circle =
            |modules: [&str; 2]| Circle { modules: modules.map(str::to_owned).into(), imports: Vec::new() };
        assert!(rules.circles("bottom", &[circle(["a", "b"])]).is_empty());
        assert_eq!(rules.circles("bottom", &[circle(["a", "b"]), circle(["d", "e"])]).len(), 1);
        assert_eq!(rules.circles("bottom", &[]).len(), 1);
        assert_eq!(rules.circles("top", &[circle(["a", "b"])]).len(), 1);
    }

    #[test]
    fn a_library_with_an_owner_is_for_the_owner_alone() {
        assert!(rules().owners("bottom", &["sqlx".into()]).is_empty());
        assert_eq!(rules().owners("top", &["sqlx".into(), "serde".into()]).len(), 1);
    }
}
