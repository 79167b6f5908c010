//! Probes of runtime adapters.

use serde_json::json;
use wasm::adapter::{Adapter, Description, EnvSet, Hosting, Message, Phase, PlanRequest};
use wire_json::{RawJson, raw};

use super::{Probes, Unfit};

pub(super) async fn run(probes: &mut Probes<'_>, trusted: bool) -> Result<(), Unfit> {
    let Some(adapter) = probes.component.adapter() else { return Ok(()) };
    let description = describe(probes, &adapter).await?;
    hosting(probes, &description, trusted)?;
    plans(probes, &adapter, &description).await?;
    files(probes, &adapter).await?;
    if description.hosting == Hosting::Synthetic {
        replies(probes, &adapter).await?;
    }
    if description.translates_messages {
        translation(probes, &adapter).await?;
    }
    probes.done.description = Some(description);
    Ok(())
}

async fn describe(probes: &mut Probes<'_>, adapter: &Adapter<'_>) -> Result<Description, Unfit> {
    let first = adapter.describe(probes.settings).await;
    let second = adapter.describe(probes.settings).await;
    probes.same("describe", first, second)
}

/// A guest can't take a workspace out of the host's hands by saying so.
fn hosting(probes: &mut Probes<'_>, description: &Description, trusted: bool) -> Result<(), Unfit> {
    if description.hosting == Hosting::Container || trusted {
        return Ok(());
    }
    Err(probes.fail(
        "hosting",
        format!(
            "`{}` hosting is allowed only for trusted guests. If you trust this one: isomer guest trust NAME",
            description.hosting
        ),
    ))
}

async fn plans(
    probes: &mut Probes<'_>,
    adapter: &Adapter<'_>,
    description: &Description,
) -> Result<(), Unfit> {
    let bare = PlanRequest {
        phase: Phase::Create,
        reset_session: false,
        runtime: description.name.clone(),
        workspace_name: "probe".to_owned(),
        role: None,
        tier: 1,
        model: None,
        secret_keys: Vec::new(),
        visible_env: Vec::new(),
        template_config: None,
        extras: serde_json::Map::new(),
    };
    let full = PlanRequest {
        phase: Phase::Restart,
        reset_session: true,
        role: Some("Prüfer: \"quoted\"".to_owned()),
        tier: 4,
        model: Some("provider/model:variant".to_owned()),
        secret_keys: vec!["ANTHROPIC_API_KEY".to_owned(), "OPENAI_API_KEY".to_owned()],
        visible_env: vec![EnvSet { name: "WORKSPACE_RESET_SESSION".to_owned(), value: "true".to_owned() }],
        template_config: Some(b"name: probe\nruntime_config:\n  model: x\n".to_vec()),
        ..bare.clone()
    };
    let broken = PlanRequest { template_config: Some(b"\xff\xfe: [".to_vec()), ..bare.clone() };
    for (probe, request) in [
        ("plan for a bare workspace", &bare),
        ("plan with model, secrets and template", &full),
        ("plan with an unreadable template", &broken),
    ] {
        let first = adapter.plan(probes.settings, request).await;
        let second = adapter.plan(probes.settings, request).await;
        // A problem is an answer too; only its being one is the guest's business.
        probes.same(probe, first, second)?.ok();
    }
    Ok(())
}

async fn files(probes: &mut Probes<'_>, adapter: &Adapter<'_>) -> Result<(), Unfit> {
    for config in [b"".as_slice(), b"runtime: probe\n", b"\xff\x00{"] {
        let outcome = adapter.runtime_in_config(probes.settings, config).await;
        probes.answer("runtime-in-config", outcome)?;
    }
    probes.note("runtime-in-config", super::Verdict::Ok, None);
    let paths = ["config.yaml".to_owned(), "skills/a/SKILL.md".to_owned()];
    let first = adapter.on_files_changed(probes.settings, &paths).await;
    let second = adapter.on_files_changed(probes.settings, &paths).await;
    probes.same("on-files-changed", first, second)?;
    Ok(())
}

async fn replies(probes: &mut Probes<'_>, adapter: &Adapter<'_>) -> Result<(), Unfit> {
    const PROBE: &str = "synthetic-reply";
    let message = Message {
        workspace_id: "7c0e6a52-0000-4000-8000-000000000000".to_owned(),
        request_id: "1".to_owned(),
        text: "Are you there?".to_owned(),
    };
    let first = adapter.synthetic_reply(probes.settings, &message).await;
    let second = adapter.synthetic_reply(probes.settings, &message).await;
    match probes.same(PROBE, first, second)? {
        Ok(parts) if parts.is_empty() => Err(probes.fail(PROBE, "the reply has no part")),
        Ok(_) => Ok(()),
        Err(problem) => Err(probes.fail(PROBE, problem.to_string())),
    }
}

async fn translation(probes: &mut Probes<'_>, adapter: &Adapter<'_>) -> Result<(), Unfit> {
    const PROBE: &str = "to-agent keeps the request's id and method";
    let body = json!({
        "jsonrpc": "2.0", "id": "1", "method": "message/send",
        "params": { "message": { "messageId": "m1", "role": "user", "parts": [{ "kind": "text", "text": "hello" }] } },
    });
    let text = body.to_string();
    let first = adapter.to_agent(probes.settings, &text).await;
    let second = adapter.to_agent(probes.settings, &text).await;
    match probes.same(PROBE, first, second)? {
        Ok(sent) if keeps(&sent, "id", "1") && keeps(&sent, "method", "message/send") => Ok(()),
        Ok(_) => Err(probes.fail(PROBE, "the translation has another id or method than the message")),
        Err(problem) => Err(probes.fail(PROBE, problem.to_string())),
    }
}

fn keeps(sent: &RawJson, field: &str, text: &str) -> bool {
    sent.at(&[field]).and_then(raw::string).as_deref() == Some(text)
}
