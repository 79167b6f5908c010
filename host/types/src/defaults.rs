//! Runtimes, models and tiers of workspaces for which nothing names one.

/// Runtime in a container.
pub const RUNTIME: &str = "langgraph";

/// Runtime of an agent that an operator runs.
pub const OPERATOR_RUNTIME: &str = "external";

/// Model, where neither the org template nor the runtime's adapter names one.
pub const MODEL: &str = "anthropic:claude-opus-4-7";

/// Tier on a deployment that operators run for themselves.
pub const TIER: i32 = 3;

/// Tier on a hosted deployment, where each workspace has a machine of its own.
pub const HOSTED_TIER: i32 = 4;
