//! World `isomer:adapter/runtime-adapter@0.1.0`: generated types, and the way between them and the
//! plain ones, on which every answer is checked.

use serde_json::Value as Json;
use wasmtime::{Store, component::InstancePre};

use super::{
    Capabilities, Content, Description, EnvCopy, EnvSet, File, Hosting, Message, Phase, Plan, PlanRequest,
    Reload, Surfaces, Value, Volume,
};
use wire_json::RawJson;

use crate::{
    InvalidOutput, Outcome, Problem, Settings,
    call::{self, CallContext},
    limits,
    state::State,
    validate,
};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, unused_qualifications)]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../../wit/types/0.1.0", "../../wit/adapter/0.1.0"],
        world: "isomer:adapter/runtime-adapter@0.1.0",
        exports: { default: async },
    });
}

use bindings::{RuntimeAdapter, RuntimeAdapterPre, exports::isomer::adapter::adapter as wit};

/// The typed functions that this world's component exports.
pub(crate) struct Bindings(RuntimeAdapterPre<State>);

/// Calls one function.
macro_rules! call {
    ($bindings:expr, $context:expr, $room:expr, $function:ident($($argument:expr),*), $check:expr) => {
        call::run(
            $context,
            $room,
            async |store: &mut Store<State>| $bindings.0.instantiate_async(store).await,
            async |store: &mut Store<State>, instance: &RuntimeAdapter| {
                instance.isomer_adapter_adapter().$function(store, $($argument),*).await
            },
            $check,
        )
        .await
    };
}

impl Bindings {
    pub(crate) fn new(pre: InstancePre<State>) -> wasmtime::Result<Self> {
        RuntimeAdapterPre::new(pre).map(Self)
    }

    pub(crate) async fn validate_settings(
        &self,
        on: &CallContext,
        settings: &Settings,
    ) -> Outcome<Result<(), Problem>> {
        call!(self, on, limits::SMALL_ANSWER, call_validate_settings(settings.text()), |answer| Ok(
            answer.map_err(problem)
        ))
    }

    pub(crate) async fn describe(&self, on: &CallContext, settings: &Settings) -> Outcome<Description> {
        call!(self, on, limits::SMALL_ANSWER, call_describe(settings.text()), description)
    }

    pub(crate) async fn plan(
        &self,
        on: &CallContext,
        settings: &Settings,
        request: &PlanRequest,
    ) -> Outcome<Result<Plan, Problem>> {
        let request = plan_request(request);
        call!(self, on, limits::PLAN_ANSWER, call_plan(settings.text(), &request), |answer| match answer {
            Ok(answer) => plan(answer).map(Ok),
            Err(no) => Ok(Err(problem(no))),
        })
    }

    pub(crate) async fn runtime_in_config(
        &self,
        on: &CallContext,
        settings: &Settings,
        config: &[u8],
    ) -> Outcome<Option<String>> {
        call!(
            self,
            on,
            limits::SMALL_ANSWER,
            call_runtime_in_config(settings.text(), config),
            |name: Option<String>| {
                name.iter().try_for_each(|name| validate::label("runtime", name, 100))?;
                Ok(name)
            }
        )
    }

    pub(crate) async fn on_files_changed(
        &self,
        on: &CallContext,
        settings: &Settings,
        paths: &[String],
    ) -> Outcome<Reload> {
        call!(self, on, limits::SMALL_ANSWER, call_on_files_changed(settings.text(), paths), |answer| Ok(
            match answer {
                wit::Reload::None => Reload::None,
                wit::Reload::Restart => Reload::Restart,
            }
        ))
    }

    pub(crate) async fn synthetic_reply(
        &self,
        on: &CallContext,
        settings: &Settings,
        message: &Message,
    ) -> Outcome<Result<Vec<String>, Problem>> {
        let message = wit::Message {
            workspace_id: message.workspace_id.clone(),
            request_id: message.request_id.clone(),
            text: message.text.clone(),
        };
        let check = |answer: Result<Vec<String>, wit::Problem>| match answer {
            Ok(parts) => {
                validate::at_most("parts", parts.len(), limits::REPLY_PARTS)?;
                let bytes = parts.iter().map(String::len).sum();
                validate::at_most("parts (bytes)", bytes, limits::REPLY_BYTES)?;
                Ok(Ok(parts))
            }
            Err(no) => Ok(Err(problem(no))),
        };
        // The list itself takes room too.
        let room = limits::REPLY_BYTES + limits::SMALL_ANSWER;
        call!(self, on, room, call_synthetic_reply(settings.text(), &message), check)
    }

    pub(crate) async fn to_agent(
        &self,
        on: &CallContext,
        settings: &Settings,
        body: &str,
    ) -> Outcome<Result<RawJson, Problem>> {
        let body = body.to_owned();
        let most = limits::translated_bytes(body.len());
        let check = |answer: Result<String, wit::Problem>| match answer {
            Ok(translated) => {
                // It may have been UTF-16 in the guest, and room for a small answer is always there.
                validate::at_most("body (bytes)", translated.len(), most)?;
                RawJson::read(translated.as_bytes())
                    .map(Ok)
                    .map_err(|error| InvalidOutput::new("body", format!("it is not JSON: {error}")))
            }
            Err(no) => Ok(Err(problem(no))),
        };
        call!(self, on, most, call_to_agent(settings.text(), &body), check)
    }
}

fn problem(problem: wit::Problem) -> Problem {
    validate::problem(problem.at, problem.message)
}

// === Description ===

fn description(answer: wit::Description) -> Result<Description, InvalidOutput> {
    validate::runtime_name("description.name", &answer.name)?;
    validate::at_most("description.aliases", answer.aliases.len(), 16)?;
    answer.aliases.iter().try_for_each(|alias| validate::runtime_name("description.aliases", alias))?;
    validate::distinct(
        "description.aliases",
        answer.aliases.iter().chain([&answer.name]).map(String::as_str),
    )?;
    validate::label("description.display-name", &answer.display_name, 100)?;
    let hosting = match answer.hosting {
        wit::Hosting::Container => Hosting::Container,
        wit::Hosting::Operator => Hosting::Operator,
        wit::Hosting::Synthetic => Hosting::Synthetic,
    };
    if hosting == Hosting::Container && answer.image_base.is_none() {
        return Err(InvalidOutput::new(
            "description.image-base",
            "a runtime hosted in a container needs an image",
        ));
    }
    answer.image_base.iter().try_for_each(|base| validate::base_name("description.image-base", base, 128))?;
    answer
        .default_model
        .iter()
        .try_for_each(|model| validate::label("description.default-model", model, 100))?;
    if answer.port == 0 {
        return Err(InvalidOutput::new("description.port", "0 is no port"));
    }
    validate::placed_path("description.config-dir", &answer.config_dir)?;
    validate::placed_path("description.remote-config-dir", &answer.remote_config_dir)?;
    validate::at_most("description.template-dirs", answer.template_dirs.len(), 16)?;
    answer
        .template_dirs
        .iter()
        .try_for_each(|dir| validate::runtime_name("description.template-dirs", dir))?;
    answer
        .memory_file
        .iter()
        .try_for_each(|path| validate::relative_path("description.memory-file", path))?;
    if answer.reply_pause_ms > 60_000 {
        return Err(InvalidOutput::new("description.reply-pause-ms", "60,000 at most"));
    }
    Ok(Description {
        volumes: volumes(answer.volumes)?,
        name: answer.name,
        aliases: answer.aliases,
        display_name: answer.display_name,
        hosting,
        image_base: answer.image_base,
        default_model: answer.default_model,
        port: answer.port,
        config_dir: answer.config_dir,
        remote_config_dir: answer.remote_config_dir,
        template_dirs: answer.template_dirs,
        memory_file: answer.memory_file,
        provision_timeout_seconds: answer.provision_timeout_seconds,
        reply_pause_ms: answer.reply_pause_ms,
        transcripts: answer.transcripts,
        translates_messages: answer.translates_messages,
        capabilities: capabilities(answer.capabilities),
        surfaces: surfaces(answer.surfaces),
    })
}

fn volumes(volumes: Vec<wit::Volume>) -> Result<Vec<Volume>, InvalidOutput> {
    validate::at_most("description.volumes", volumes.len(), 16)?;
    validate::distinct("description.volumes", volumes.iter().map(|volume| volume.name.as_str()))?;
    volumes
        .into_iter()
        .map(|volume| {
            validate::base_name("description.volumes.name", &volume.name, 32)?;
            validate::placed_path("description.volumes.path", &volume.path)?;
            let group = &volume.reset_group;
            group
                .iter()
                .try_for_each(|group| validate::base_name("description.volumes.reset-group", group, 32))?;
            Ok(Volume { name: volume.name, path: volume.path, reset_group: volume.reset_group })
        })
        .collect()
}

fn capabilities(flags: wit::Capabilities) -> Capabilities {
    use wit::Capabilities as F;
    Capabilities {
        heartbeat: flags.contains(F::HEARTBEAT),
        scheduler: flags.contains(F::SCHEDULER),
        session: flags.contains(F::SESSION),
        status_management: flags.contains(F::STATUS_MANAGEMENT),
        retry: flags.contains(F::RETRY),
        activity_decoration: flags.contains(F::ACTIVITY_DECORATION),
        channel_dispatch: flags.contains(F::CHANNEL_DISPATCH),
    }
}

fn surfaces(flags: wit::Surfaces) -> Surfaces {
    use wit::Surfaces as F;
    Surfaces {
        files: flags.contains(F::FILES),
        terminal: flags.contains(F::TERMINAL),
        config_form: flags.contains(F::CONFIG_FORM),
    }
}

// === Plan ===

fn plan_request(request: &PlanRequest) -> wit::PlanRequest {
    wit::PlanRequest {
        phase: match request.phase {
            Phase::Create => wit::Phase::Create,
            Phase::Restart => wit::Phase::Restart,
            Phase::Resume => wit::Phase::Resume,
        },
        reset_session: request.reset_session,
        runtime: request.runtime.clone(),
        workspace_name: request.workspace_name.clone(),
        role: request.role.clone(),
        tier: request.tier,
        model: request.model.clone(),
        secret_keys: request.secret_keys.clone(),
        visible_env: request
            .visible_env
            .iter()
            .map(|set| wit::EnvSet { name: set.name.clone(), value: set.value.clone() })
            .collect(),
        template_config: request.template_config.clone(),
        extras: Json::Object(request.extras.clone()).to_string(),
    }
}

fn plan(answer: wit::WorkspacePlan) -> Result<Plan, InvalidOutput> {
    validate::at_most("plan.env", answer.env.len(), limits::PLAN_ENTRIES)?;
    validate::at_most("plan.env-copies", answer.env_copies.len(), limits::PLAN_ENTRIES)?;
    validate::at_most("plan.required-env", answer.required_env.len(), limits::PLAN_ENTRIES)?;
    validate::at_most("plan.reset-groups", answer.reset_groups.len(), limits::PLAN_ENTRIES)?;
    answer.provider.iter().try_for_each(|provider| validate::label("plan.provider", provider, 100))?;
    answer.reset_groups.iter().try_for_each(|group| validate::base_name("plan.reset-groups", group, 32))?;
    for (index, group) in answer.required_env.iter().enumerate() {
        let at = format!("plan.required-env[{index}]");
        validate::at_most(&at, group.len(), limits::PLAN_ENTRIES)?;
        group.iter().try_for_each(|name| validate::env_name(&at, name))?;
    }
    let targets =
        answer.env.iter().map(|set| &set.name).chain(answer.env_copies.iter().map(|copy| &copy.target));
    validate::distinct("plan.env", targets.map(String::as_str))?;
    Ok(Plan {
        env: answer
            .env
            .into_iter()
            .enumerate()
            .map(|(index, set)| env_set(index, set))
            .collect::<Result<_, _>>()?,
        env_copies: answer
            .env_copies
            .into_iter()
            .enumerate()
            .map(|(index, copy)| env_copy(index, copy))
            .collect::<Result<_, _>>()?,
        files: files(answer.files)?,
        provider: answer.provider,
        required_env: answer.required_env,
        reset_groups: answer.reset_groups,
    })
}

fn env_set(index: usize, set: wit::EnvSet) -> Result<EnvSet, InvalidOutput> {
    validate::settable_env(&format!("plan.env[{index}].name"), &set.name)?;
    validate::env_value(&format!("plan.env[{index}].value"), &set.name, &set.value)?;
    Ok(EnvSet { name: set.name, value: set.value })
}

fn env_copy(index: usize, copy: wit::EnvCopy) -> Result<EnvCopy, InvalidOutput> {
    validate::settable_env(&format!("plan.env-copies[{index}].source"), &copy.source)?;
    validate::settable_env(&format!("plan.env-copies[{index}].target"), &copy.target)?;
    Ok(EnvCopy { source: copy.source, target: copy.target })
}

fn files(files: Vec<wit::File>) -> Result<Vec<File>, InvalidOutput> {
    validate::at_most("plan.files", files.len(), limits::PLAN_FILES)?;
    validate::at_most("plan.files (bytes)", files.iter().map(size).sum(), limits::PLAN_BYTES)?;
    validate::distinct("plan.files", files.iter().map(|file| file.path.as_str()))?;
    files
        .into_iter()
        .enumerate()
        .map(|(index, file)| {
            validate::relative_path(&format!("plan.files[{index}].path"), &file.path)?;
            let content = match file.content {
                wit::Content::Bytes(bytes) => Content::Bytes(bytes),
                wit::Content::Yaml(tree) => {
                    Content::Yaml(tree_value(&format!("plan.files[{index}].yaml"), tree)?)
                }
            };
            Ok(File { path: file.path, content })
        })
        .collect()
}

/// Bytes of a file's content; a node counts as much as it takes to write one.
fn size(file: &wit::File) -> usize {
    const NODE: usize = 4;
    match &file.content {
        wit::Content::Bytes(bytes) => bytes.len(),
        wit::Content::Yaml(tree) => tree
            .nodes
            .iter()
            .map(|node| match node {
                wit::Value::Text(text) => NODE + text.len(),
                wit::Value::Mapping(entries) => entries.iter().map(|(key, _)| NODE + key.len()).sum(),
                _ => NODE,
            })
            .sum(),
    }
}

fn tree_value(at: &str, tree: wit::Tree) -> Result<Value, InvalidOutput> {
    validate::arena(at, &tree.nodes, |node| match node {
        wit::Value::Sequence(items) => items.clone(),
        wit::Value::Mapping(entries) => entries.iter().map(|(_, node)| *node).collect(),
        _ => Vec::new(),
    })?;
    for node in &tree.nodes {
        match node {
            wit::Value::Mapping(entries) => {
                validate::distinct(at, entries.iter().map(|(key, _)| key.as_str()))?;
            }
            wit::Value::Decimal(number) if !number.is_finite() => {
                return Err(InvalidOutput::new(at, "a decimal must be finite"));
            }
            _ => {}
        }
    }
    // Children come after their parents, so building from the end finds every child built.
    let mut built: Vec<Option<Value>> = tree.nodes.iter().map(|_| None).collect();
    for (index, node) in tree.nodes.into_iter().enumerate().rev() {
        let mut child = |id: u32| built.get_mut(id as usize).and_then(Option::take).unwrap_or(Value::Null);
        let value = match node {
            wit::Value::Null => Value::Null,
            wit::Value::Boolean(value) => Value::Boolean(value),
            wit::Value::Integer(value) => Value::Integer(value),
            wit::Value::Decimal(value) => Value::Decimal(value),
            wit::Value::Text(text) => Value::Text(text),
            wit::Value::Sequence(items) => Value::Sequence(items.into_iter().map(&mut child).collect()),
            wit::Value::Mapping(entries) => {
                Value::Mapping(entries.into_iter().map(|(key, node)| (key, child(node))).collect())
            }
        };
        if let Some(slot) = built.get_mut(index) {
            *slot = Some(value);
        }
    }
    Ok(built.into_iter().next().flatten().unwrap_or(Value::Null))
}

/// What the check lets through keeps every rule on names, paths and counts.
#[cfg(fuzzing)]
pub(crate) fn fuzz_plan(bytes: &mut crate::fuzz_bytes::Bytes<'_>) {
    fn size(value: &Value) -> usize {
        match value {
            Value::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
            Value::Mapping(entries) => 1 + entries.iter().map(|(_, value)| size(value)).sum::<usize>(),
            _ => 1,
        }
    }
    let mut answer = wit::WorkspacePlan {
        env: Vec::new(),
        env_copies: Vec::new(),
        files: Vec::new(),
        provider: None,
        required_env: Vec::new(),
        reset_groups: Vec::new(),
    };
    let mut nodes = Vec::new();
    while !bytes.done() {
        match bytes.byte() % 8 {
            0 => answer.env.push(wit::EnvSet { name: bytes.text(), value: bytes.text() }),
            1 => answer.env_copies.push(wit::EnvCopy { source: bytes.text(), target: bytes.text() }),
            2 => answer.required_env.push(vec![bytes.text()]),
            3 => answer.reset_groups.push(bytes.text()),
            4 => {
                let content = wit::Content::Yaml(wit::Tree { nodes: std::mem::take(&mut nodes) });
                answer.files.push(wit::File { path: bytes.text(), content });
            }
            5 => nodes.push(wit::Value::Sequence(bytes.ids())),
            6 => nodes
                .push(wit::Value::Mapping(bytes.ids().into_iter().map(|id| (bytes.text(), id)).collect())),
            _ => nodes.push(wit::Value::Decimal(f64::from_bits(u64::from(bytes.byte()) << 56))),
        }
    }
    let counts: Vec<usize> = answer
        .files
        .iter()
        .map(|file| match &file.content {
            wit::Content::Yaml(tree) => tree.nodes.len(),
            wit::Content::Bytes(_) => 0,
        })
        .collect();
    let Ok(plan) = plan(answer) else { return };
    let name = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with("MOLECULE_")
    };
    assert!(plan.env.iter().all(|set| name(&set.name) && !set.value.contains(['\0', '\n'])));
    assert!(!plan.env.iter().any(|set| types::is_reserved_from_guests(&set.name)));
    assert!(plan.env_copies.iter().all(|copy| name(&copy.source) && name(&copy.target)));
    for (file, count) in plan.files.iter().zip(counts) {
        assert!(
            !file.path.starts_with('/') && file.path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        );
        if let Content::Yaml(value) = &file.content {
            assert_eq!(size(value), count);
        }
    }
}
