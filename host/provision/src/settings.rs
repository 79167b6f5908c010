//! What an operator sets for all workspaces.

use std::time::Duration;

/// How long a start may take when neither the operator nor a template nor the adapter says otherwise.
const PROVISION_TIMEOUT: Duration = Duration::from_secs(600);

/// Settings of the deployment that end up in containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// URL at which containers reach the platform.
    pub platform_url: String,
    /// Registry prefix of images, without a slash at its end; none: images are built on this machine.
    pub registry: Option<String>,
    /// `os/architecture` of images; none leaves it to the engine.
    pub image_platform: Option<String>,
    /// Docker network of all workspaces.
    pub network: String,
    /// What the names of Git authors begin with.
    pub git_brand: String,
    /// Domain of the mail addresses of Git authors.
    pub git_domain: String,
    /// URL of the awareness service, where there is one.
    pub awareness_url: Option<String>,
    /// Limits of tiers 2, 3 and 4. Tier 1 has none.
    pub tiers: [TierLimits; 3],
}

/// Limits of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierLimits {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Billionths of a CPU.
    pub nano_cpus: u64,
}

impl TierLimits {
    const fn new(memory_mib: u64, cpus: u64) -> Self {
        Self { memory_bytes: memory_mib * 1024 * 1024, nano_cpus: cpus * 1_000_000_000 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            platform_url: "http://host.docker.internal:8080".to_owned(),
            registry: None,
            image_platform: None,
            network: "molecule-core-net".to_owned(),
            git_brand: "Molecule AI".to_owned(),
            // RFC 2606: no mail is ever delivered there.
            git_domain: "agents.invalid".to_owned(),
            awareness_url: None,
            tiers: [TierLimits::new(512, 1), TierLimits::new(2_048, 2), TierLimits::new(4_096, 4)],
        }
    }
}

/// How long a start may take: by the operator's setting, else by the runtime's templates, else by its
/// adapter, else 10 minutes.
#[must_use]
pub fn provision_timeout(
    setting: Option<Duration>,
    template: Option<Duration>,
    adapter: Option<Duration>,
) -> Duration {
    setting.or(template).or(adapter).unwrap_or(PROVISION_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_timeout_wins_then_the_templates_then_the_adapters() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (given, expected) in [
            ((None, None, None), 600),
            ((None, None, seconds(3)), 3),
            ((None, seconds(2), seconds(3)), 2),
            ((seconds(1), seconds(2), seconds(3)), 1),
            ((seconds(1), None, None), 1),
        ] {
            let (setting, template, adapter) = given;
            assert_eq!(provision_timeout(setting, template, adapter).as_secs(), expected, "{given:?}");
        }
    }
}
