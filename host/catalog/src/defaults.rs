//! What the host answers where a guest is missing, disabled or failing: what the contract does for a runtime that it
//! doesn't know. Plans and templates have no default: a container without its files, or half a template, is wrong.

use wasm::{
    adapter::{Capabilities, Description, Hosting, Surfaces},
    classifier::Verdict,
};

/// Model of a runtime that names none.
const MODEL: &str = "anthropic:claude-opus-4-7";

/// Image of a runtime that has no adapter.
const IMAGE: &str = "workspace-template-langgraph";

/// A runtime without an adapter: a container with the common facts of the contract.
pub(crate) fn description(runtime: &str) -> Description {
    Description {
        name: runtime.to_owned(),
        aliases: Vec::new(),
        display_name: runtime.to_owned(),
        hosting: Hosting::Container,
        image_base: Some(IMAGE.to_owned()),
        default_model: Some(MODEL.to_owned()),
        port: 8000,
        config_dir: "/configs".to_owned(),
        remote_config_dir: "/configs".to_owned(),
        template_dirs: vec![format!("{runtime}-default"), runtime.to_owned()],
        memory_file: None,
        volumes: Vec::new(),
        provision_timeout_seconds: None,
        reply_pause_ms: 0,
        transcripts: false,
        translates_messages: false,
        capabilities: Capabilities::default(),
        surfaces: Surfaces { files: true, terminal: true, config_form: true },
    }
}

/// A restart is always right, only slower.
pub(crate) fn verdict() -> Verdict {
    Verdict::Cold("no reload classifier is in service".to_owned())
}
