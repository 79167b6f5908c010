//! The provider that a model's name hints at.

/// Prefixes that name a provider of another name.
const ALIASES: &[(&str, &str)] = &[
    ("aigateway", "ai-gateway"),
    ("arcee-ai", "arcee"),
    ("aws", "bedrock"),
    ("dashscope", "alibaba"),
    ("grok", "xai"),
    ("hf", "huggingface"),
    ("lm-studio", "lmstudio"),
    ("mimo", "xiaomi"),
    ("nim", "nvidia"),
    // Both are reached through OpenRouter unless the runtime finds their own key.
    ("nousresearch", "openrouter"),
    ("openai", "openrouter"),
    ("qwen", "alibaba"),
    ("tencent", "tencent-tokenhub"),
];

/// Prefixes that are the provider's own name.
const PROVIDERS: &[&str] = &[
    "ai-gateway",
    "alibaba",
    "alibaba-coding-plan",
    "anthropic",
    "arcee",
    "bedrock",
    "copilot",
    "copilot-acp",
    "custom",
    "deepseek",
    "gemini",
    "gmi",
    "google-gemini-cli",
    "huggingface",
    "kilocode",
    "kimi-coding",
    "kimi-coding-cn",
    "lmstudio",
    "minimax",
    "minimax-cn",
    "minimax-oauth",
    "nvidia",
    "ollama-cloud",
    "openai-codex",
    "opencode-go",
    "opencode-zen",
    "openrouter",
    "qwen-oauth",
    "tencent-tokenhub",
    "xai",
    "xiaomi",
    "zai",
];

/// The provider named by the part of `model` before its first `/`. None for an unknown one: a wrong guess,
/// once stored, would stay.
#[must_use]
pub fn provider_hint(model: &str) -> Option<&'static str> {
    let (prefix, _) = model.split_once('/')?;
    let alias = ALIASES.iter().find(|(alias, _)| *alias == prefix).map(|(_, provider)| *provider);
    alias.or_else(|| PROVIDERS.iter().copied().find(|provider| *provider == prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_the_contract_have_their_providers() {
        let same = "minimax, minimax-cn, minimax-oauth, anthropic, gemini, deepseek, zai, kimi-coding, kimi-coding-cn, \
                    ollama-cloud, kilocode, opencode-zen, opencode-go, openrouter, custom, gmi, qwen-oauth, \
                    alibaba-coding-plan, google-gemini-cli, openai-codex, copilot-acp, copilot";
        let rows = [
            ("alibaba, dashscope, qwen", "alibaba"),
            ("xiaomi, mimo", "xiaomi"),
            ("arcee, arcee-ai", "arcee"),
            ("nvidia, nim", "nvidia"),
            ("huggingface, hf", "huggingface"),
            ("ai-gateway, aigateway", "ai-gateway"),
            ("xai, grok", "xai"),
            ("bedrock, aws", "bedrock"),
            ("tencent, tencent-tokenhub", "tencent-tokenhub"),
            ("lmstudio, lm-studio", "lmstudio"),
            ("nousresearch, openai", "openrouter"),
        ];
        let mut known = 0;
        for (prefixes, provider) in same.split(", ").map(|name| (name, name)).chain(rows) {
            for prefix in prefixes.split(", ") {
                known += 1;
                assert_eq!(provider_hint(&format!("{prefix}/some-model")), Some(provider), "{prefix}");
            }
        }
        assert_eq!(known, ALIASES.len() + PROVIDERS.len(), "the table knows more than the contract");
    }

    #[test]
    fn unknown_prefixes_give_no_hint() {
        for model in ["", "sonnet", "openai:gpt-4o", "/x", "unknown/x", "OpenAI/x", " openai/x"] {
            assert_eq!(provider_hint(model), None, "{model}");
        }
        assert_eq!(provider_hint("openrouter/anthropic/claude"), Some("openrouter"));
    }
}
