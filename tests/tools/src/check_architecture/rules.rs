//! The rules of `.ci/architecture`.

/// The order of crates, and the libraries with owners.
pub(crate) struct Rules {
    order: Vec<String>,
    owned: Vec<Owned>,
}

struct Owned {
    owners: Vec<String>,
    libraries: Vec<String>,
}

impl Rules {
    pub(crate) fn parse(text: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (mut order, mut owned) = (Vec::new(), Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("only ").and_then(|rule| rule.split_once(':')) {
                Some((owners, libraries)) => {
                    owned.push(Owned { owners: words(owners), libraries: words(libraries) });
                }
                None => order.push(line.to_owned()),
            }
        }
        Self { order, owned }
    }

    /// Dependencies of a crate of the host that point up.
    pub(crate) fn order(&self, name: &str, dependencies: &[String]) -> Vec<String> {
        let place = |name: &str| self.order.iter().position(|listed| listed == name);
        let Some(own) = place(name) else {
            return vec![format!("{name} has no place in .ci/architecture")];
        };
        let above = dependencies.iter().filter(|dependency| place(dependency).is_some_and(|it| it <= own));
        above.map(|above| format!("{name} depends on {above}, which is above it in .ci/architecture")).collect()
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
        Rules::parse("# the house\ntop\nbottom\n\nonly bottom: sea-orm sqlx\n")
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
    fn a_library_with_an_owner_is_for_the_owner_alone() {
        assert!(rules().owners("bottom", &["sqlx".into()]).is_empty());
        assert_eq!(rules().owners("top", &["sqlx".into(), "serde".into()]).len(), 1);
    }
}
