//! The runtime `claude-code`.
#![deny(unsafe_code)]

use isomer_sdk::{
    Adapter, Description, NoSettings, Plan, PlanRequest, Problem, Reload, Volume, default_plan,
};

/// Group of the volumes that hold the conversation; a fresh session empties them.
const SESSION: &str = "session";

/// The guest.
pub struct ClaudeCode;

isomer_sdk::export_adapter!(ClaudeCode);

impl Adapter for ClaudeCode {
    type Settings = NoSettings;

    fn describe(_: &NoSettings) -> Description {
        Description {
            default_model: Some("sonnet".to_owned()),
            volumes: vec![Volume {
                name: "claude-sessions".to_owned(),
                path: "/root/.claude/sessions".to_owned(),
                reset_group: Some(SESSION.to_owned()),
            }],
            transcripts: true,
            ..Description::container("claude-code", "Claude Code")
        }
    }

    fn plan(_: &NoSettings, request: &PlanRequest) -> Result<Plan, Problem> {
        let reset_groups = if request.wants_fresh_session() { vec![SESSION.to_owned()] } else { Vec::new() };
        Ok(Plan { reset_groups, ..default_plan(request) })
    }

    fn on_files_changed(_: &NoSettings, paths: &[String]) -> Reload {
        if paths.iter().all(|path| is_skill_text(path)) { Reload::None } else { Reload::Restart }
    }
}

/// Claude Code reads a skill's `SKILL.md` at every use of the skill, and all other files once.
fn is_skill_text(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    parts.next() == Some("SKILL.md") && parts.any(|directory| directory == "skills")
}

#[cfg(test)]
mod tests {
    use isomer_sdk::{EnvSet, Hosting};

    use super::*;

    const NONE: NoSettings = NoSettings {};

    #[test]
    fn described_as_the_contract_says() {
        let about = ClaudeCode::describe(&NONE);
        assert_eq!((about.name.as_str(), about.hosting), ("claude-code", Hosting::Container));
        assert_eq!(about.image_base.as_deref(), Some("workspace-template-claude-code"));
        assert_eq!(about.default_model.as_deref(), Some("sonnet"));
        assert_eq!((about.config_dir.as_str(), about.remote_config_dir.as_str()), ("/configs", "/configs"));
        assert_eq!(about.template_dirs, ["claude-code-default", "claude-code"]);
        assert_eq!(about.memory_file.as_deref(), Some("CLAUDE.md"));
        assert_eq!(about.volumes[0].path, "/root/.claude/sessions");
        assert!(about.transcripts && !about.translates_messages);
        assert_eq!(about.provision_timeout_seconds, None);
    }

    #[test]
    fn a_fresh_session_empties_the_session_volume() {
        let groups = |request: &PlanRequest| ClaudeCode::plan(&NONE, request).unwrap().reset_groups;
        let mut request = PlanRequest::sample("claude-code");
        assert!(groups(&request).is_empty());
        request.visible_env = vec![EnvSet::new("WORKSPACE_RESET_SESSION", "true")];
        assert_eq!(groups(&request), [SESSION]);
        request.visible_env.clear();
        request.reset_session = true;
        assert_eq!(groups(&request), [SESSION]);
        assert_eq!(ClaudeCode::describe(&NONE).volumes[0].reset_group.as_deref(), Some(SESSION));
    }

    #[test]
    fn the_given_model_is_planned() {
        let mut request = PlanRequest::sample("claude-code");
        request.model = Some("opus".into());
        assert_eq!(ClaudeCode::plan(&NONE, &request).unwrap().env, [EnvSet::new("MODEL", "opus")]);
    }

    #[test]
    fn only_changed_skill_texts_need_no_restart() {
        for (paths, reload) in [
            (&[][..], Reload::None),
            (&["skills/review/SKILL.md"], Reload::None),
            (&["plugins/p/skills/a/SKILL.md", "skills/b/SKILL.md"], Reload::None),
            (&["skills/a/SKILL.md", "config.yaml"], Reload::Restart),
            (&["skills/a/skill.md"], Reload::Restart),
            (&["skills/a/run.sh"], Reload::Restart),
            (&["SKILL.md"], Reload::Restart),
            (&["CLAUDE.md"], Reload::Restart),
            (&["config.yaml"], Reload::Restart),
        ] {
            let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(ClaudeCode::on_files_changed(&NONE, &paths), reload, "{paths:?}");
        }
    }
}
