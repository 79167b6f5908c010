//! Hosted platform or self-hosted: decides whether agents may be in private networks.

use std::sync::Once;

const SAAS: &str = "saas";
const SELF_HOSTED: [&str; 3] = ["self-hosted", "selfhosted", "standalone"];

/// Whether this is a hosted platform: by `MOLECULE_DEPLOY_MODE`, or, where that is unset, because
/// `MOLECULE_ORG_ID` is set. Warns once about an unknown mode.
pub(crate) fn is_saas(deploy_mode: Option<&str>, org_id: Option<&str>) -> bool {
    static UNKNOWN: Once = Once::new();
    let mode = deploy_mode.unwrap_or_default().trim().to_ascii_lowercase();
    if mode.is_empty() {
        return org_id.is_some_and(|org| !org.trim().is_empty());
    }
    if mode != SAAS && !SELF_HOSTED.contains(&mode.as_str()) {
        UNKNOWN.call_once(|| {
            tracing::warn!(
                mode,
                "MOLECULE_DEPLOY_MODE is neither saas nor self-hosted: taken as self-hosted"
            );
        });
    }
    mode == SAAS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deploy_mode_wins_over_the_org_id() {
        for (mode, org, saas) in [
            (Some("saas"), None, true),
            (Some(" SaaS "), None, true),
            (Some("self-hosted"), Some("org"), false),
            (Some("selfhosted"), Some("org"), false),
            (Some("standalone"), Some("org"), false),
            (Some("cloud"), Some("org"), false),
            (Some(""), Some("org"), true),
            (Some(""), None, false),
            (None, Some("org"), true),
            (None, Some(""), false),
            (None, None, false),
        ] {
            assert_eq!(is_saas(mode, org), saas, "{mode:?} {org:?}");
        }
    }
}
