//! The definitions against the contract's sheet, and one sample of every shape there.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use types::WorkspaceId;
use uuid::Uuid;

use super::*;

const ID: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
const OTHER: WorkspaceId = WorkspaceId(Uuid::from_u128(2));

/// Names and classes as the sheet has them.
const SHEET: &[(&str, Class)] = &[
    ("WORKSPACE_PROVISIONING", Class::Durable),
    ("WORKSPACE_PROVISION_FAILED", Class::Durable),
    ("WORKSPACE_ONLINE", Class::Durable),
    ("WORKSPACE_OFFLINE", Class::Durable),
    ("WORKSPACE_DEGRADED", Class::Durable),
    ("WORKSPACE_AWAITING_AGENT", Class::Durable),
    ("WORKSPACE_PAUSED", Class::Durable),
    ("WORKSPACE_HIBERNATED", Class::Durable),
    ("WORKSPACE_REMOVED", Class::Durable),
    ("WORKSPACE_HEARTBEAT", Class::Ephemeral),
    ("TASK_UPDATED", Class::Ephemeral),
    ("EXTERNAL_CREDENTIALS_ROTATED", Class::Durable),
    ("AGENT_CARD_UPDATED", Class::Durable),
    ("AGENT_ASSIGNED", Class::Durable),
    ("AGENT_REPLACED", Class::Durable),
    ("AGENT_REMOVED", Class::Durable),
    ("AGENT_MOVED", Class::Durable),
    ("AGENT_MESSAGE", Class::Ephemeral),
    ("A2A_RESPONSE", Class::Ephemeral),
    ("ACTIVITY_LOGGED", Class::Ephemeral),
    ("DELEGATION_SENT", Class::Durable),
    ("DELEGATION_STATUS", Class::Durable),
    ("DELEGATION_COMPLETE", Class::Durable),
    ("DELEGATION_FAILED", Class::Durable),
    ("CHANNEL_MESSAGE", Class::Durable),
    ("CRON_EXECUTED", Class::Durable),
    ("CRON_SKIPPED", Class::Durable),
    ("APPROVAL_REQUESTED", Class::Durable),
    ("APPROVAL_ESCALATED", Class::Durable),
    ("APPROVAL_APPROVED", Class::Durable),
    ("APPROVAL_DENIED", Class::Durable),
    ("APPROVAL_DECIDED", Class::Durable),
    ("org.import.started", Class::StoredOnly),
    ("org.import.completed", Class::StoredOnly),
    ("org.import.failed", Class::StoredOnly),
    ("WORKSPACE_UPDATED", Class::Durable),
    // Ours.
    ("isomer.workspace.changed", Class::Internal),
    ("isomer.token.changed", Class::Internal),
    ("isomer.guest.changed", Class::Internal),
];

fn s(text: &str) -> String {
    text.to_owned()
}

/// Every shape of every event with its payload as the sheet has it, keys in the sheet's order.
fn shapes() -> Vec<(Event, Value)> {
    [lifecycle_shapes(), agent_shapes(), message_shapes(), work_shapes()].into_iter().flatten().collect()
}

pub(crate) fn samples() -> impl Iterator<Item = Event> {
    shapes().into_iter().map(|(event, _)| event)
}

fn lifecycle_shapes() -> Vec<(Event, Value)> {
    let (name, runtime, error) = (|| s("n"), || s("r"), || s("e"));
    let imported = |parent_id| {
        let (x, y) = (100.0, -20.5);
        Event::WorkspaceProvisioning(Provisioning::Imported {
            name: name(),
            parent_id,
            runtime: runtime(),
            tier: 2,
            x,
            y,
        })
    };
    let failed = Event::WorkspaceProvisionFailed;
    let online = Event::WorkspaceOnline;
    let degraded = |runtime_state| {
        Event::WorkspaceDegraded(Degraded { error_rate: 1.0, runtime_state, sample_error: s("e") })
    };
    let recovered = |recovered_from| Event::WorkspaceOnline(Online::Recovered { recovered_from });
    vec![
        (
            Event::WorkspaceProvisioning(Provisioning::Started { name: name(), runtime: runtime(), tier: 2 }),
            json!({"name": "n", "tier": 2, "runtime": "r"}),
        ),
        (imported(None), json!({"name": "n", "tier": 2, "runtime": "r", "x": 100, "y": -20.5})),
        (
            imported(Some(ID)),
            json!({"name": "n", "tier": 2, "runtime": "r", "x": 100, "y": -20.5, "parent_id": ID}),
        ),
        (
            Event::WorkspaceProvisioning(Provisioning::Bundled {
                name: name(),
                runtime: runtime(),
                source_bundle_id: s("b"),
                tier: 2,
            }),
            json!({"name": "n", "tier": 2, "source_bundle_id": "b", "runtime": "r"}),
        ),
        (failed(ProvisionFailed::Other { error: error() }), json!({"error": "e"})),
        (
            failed(ProvisionFailed::MissingEnv { error: error(), missing: vec![s("A"), s("B")] }),
            json!({"error": "e", "missing": ["A", "B"]}),
        ),
        (
            failed(ProvisionFailed::TimedOut {
                error: error(),
                runtime: runtime(),
                source: ProvisionTimeoutSweep,
                timeout_secs: 600,
            }),
            json!({"error": "e", "timeout_secs": 600, "runtime": "r", "source": "provision_timeout_sweep"}),
        ),
        (
            failed(ProvisionFailed::Bootstrap { error: error(), log_tail: s("l"), source: BootstrapWatcher }),
            json!({"error": "e", "log_tail": "l", "source": "bootstrap_watcher"}),
        ),
        (
            online(Online::Registered {
                agent_card: json!({"version": 1.5, "name": null}),
                delivery_mode: s("push"),
                url: s("u"),
            }),
            json!({"url": "u", "agent_card": {"version": 1.5, "name": null}, "delivery_mode": "push"}),
        ),
        (online(Online::Reconnected {}), json!({})),
        (recovered(RecoveredFrom::Provisioning), json!({"recovered_from": "provisioning"})),
        (recovered(RecoveredFrom::AwaitingAgent), json!({"recovered_from": "awaiting_agent"})),
        (recovered(RecoveredFrom::Failed), json!({"recovered_from": "failed"})),
        (online(Online::External { external: Yes, name: name() }), json!({"name": "n", "external": true})),
        (
            online(Online::Mock { mock: Yes, name: name(), runtime: runtime() }),
            json!({"name": "n", "mock": true, "runtime": "r"}),
        ),
        (Event::WorkspaceOffline(Empty {}), json!({})),
        (degraded(None), json!({"error_rate": 1, "sample_error": "e"})),
        (degraded(Some(Wedged)), json!({"runtime_state": "wedged", "error_rate": 1, "sample_error": "e"})),
        (
            Event::WorkspaceAwaitingAgent(AwaitingAgent { external: Yes, name: name() }),
            json!({"name": "n", "external": true}),
        ),
        (Event::WorkspacePaused(Paused { name: name() }), json!({"name": "n"})),
        (Event::WorkspaceHibernated(Hibernated { name: name(), tier: 3 }), json!({"name": "n", "tier": 3})),
        (Event::WorkspaceRemoved(Removed::default()), json!({})),
        (Event::WorkspaceRemoved(Removed { cascade_deleted: Some(0) }), json!({"cascade_deleted": 0})),
        (
            Event::WorkspaceUpdated(Updated { changed: vec![s("name"), s("x")] }),
            json!({"changed": ["name", "x"]}),
        ),
        (
            Event::WorkspaceHeartbeat(Heartbeat { active_tasks: 1, uptime_seconds: 2 }),
            json!({"active_tasks": 1, "uptime_seconds": 2}),
        ),
        (
            Event::TaskUpdated(Task { active_tasks: 1, current_task: s("t") }),
            json!({"current_task": "t", "active_tasks": 1}),
        ),
        (
            Event::ExternalCredentialsRotated(CredentialsRotated { workspace_id: ID }),
            json!({"workspace_id": ID}),
        ),
    ]
}

fn agent_shapes() -> Vec<(Event, Value)> {
    let model = || AgentModel { agent_id: ID.0, model: s("m") };
    vec![
        (
            Event::AgentCardUpdated(CardUpdated { agent_card: json!({"skills": []}) }),
            json!({"agent_card": {"skills": []}}),
        ),
        (Event::AgentAssigned(model()), json!({"agent_id": ID, "model": "m"})),
        (
            Event::AgentReplaced(Replaced { agent_id: ID.0, model: s("m"), old_model: s("o") }),
            json!({"agent_id": ID, "model": "m", "old_model": "o"}),
        ),
        (Event::AgentRemoved(model()), json!({"agent_id": ID, "model": "m"})),
        (
            Event::AgentMoved(Moved::Left { agent_id: ID.0, model: s("m"), target_workspace_id: OTHER }),
            json!({"agent_id": ID, "model": "m", "target_workspace_id": OTHER}),
        ),
        (
            Event::AgentMoved(Moved::Arrived { agent_id: ID.0, model: s("m"), source_workspace_id: OTHER }),
            json!({"agent_id": ID, "model": "m", "source_workspace_id": OTHER}),
        ),
    ]
}

fn message_shapes() -> Vec<(Event, Value)> {
    let message = |attachments| {
        Event::AgentMessage(AgentMessage { attachments, message: s("hi"), name: s("n"), workspace_id: ID })
    };
    let bare = Attachment { mime_type: None, name: s("a"), size: None, uri: s("u") };
    let full = Attachment { mime_type: Some(s("text/plain")), size: Some(3), ..bare.clone() };
    let status =
        |status| Event::DelegationStatus(DelegationStatus { delegation_id: s("d"), status, target_id: ID });
    let complete = |via| {
        let (delegation_id, response_preview) = (s("d"), s("p"));
        Event::DelegationComplete(DelegationComplete { delegation_id, response_preview, target_id: ID, via })
    };
    let raw = |value: &Value| wire_json::RawJson::from(value);
    let activity = Activity {
        activity_type: s("a2a_receive"),
        created_at: "2026-05-09T10:00:00Z".parse().unwrap(),
        duration_ms: None,
        error_detail: None,
        id: types::ActivityId(ID.0),
        method: None,
        request_body: None,
        response_body: None,
        source_id: None,
        status: None,
        summary: None,
        target_id: None,
        tool_trace: None,
    };
    let everything = Activity {
        duration_ms: Some(12),
        error_detail: Some(s("e")),
        method: Some(s("message/send")),
        request_body: Some(raw(&json!({"z": 1, "a": 2}))),
        response_body: Some(raw(&json!([1, "x"]))),
        source_id: Some(ID),
        status: Some(s("ok")),
        summary: Some(s("s")),
        target_id: Some(OTHER),
        tool_trace: Some(raw(&json!([]))),
        ..activity.clone()
    };
    vec![
        (message(vec![]), json!({"message": "hi", "workspace_id": ID, "name": "n"})),
        (
            message(vec![bare, full]),
            json!({"message": "hi", "workspace_id": ID, "name": "n", "attachments": [
                {"uri": "u", "name": "a"},
                {"uri": "u", "name": "a", "mimeType": "text/plain", "size": 3},
            ]}),
        ),
        (
            Event::A2aResponse(A2aResponse {
                duration_ms: 5,
                method: s("message/send"),
                response_body: raw(&json!({"result": {"parts": []}})),
            }),
            json!({"response_body": {"result": {"parts": []}}, "method": "message/send", "duration_ms": 5}),
        ),
        (
            Event::ActivityLogged(Box::new(activity)),
            json!({
                "activity_type": "a2a_receive", "method": null, "summary": null, "status": null,
                "source_id": null, "target_id": null, "duration_ms": null,
                "id": ID, "created_at": "2026-05-09T10:00:00.000000Z",
            }),
        ),
        (
            Event::ActivityLogged(Box::new(everything)),
            json!({
                "activity_type": "a2a_receive", "method": "message/send", "summary": "s", "status": "ok",
                "source_id": ID, "target_id": OTHER, "duration_ms": 12, "tool_trace": [],
                "request_body": {"z": 1, "a": 2}, "response_body": [1, "x"],
                "id": ID, "created_at": "2026-05-09T10:00:00.000000Z", "error_detail": "e",
            }),
        ),
        (
            Event::DelegationSent(DelegationSent {
                delegation_id: s("d"),
                target_id: ID,
                task_preview: s("t"),
            }),
            json!({"delegation_id": "d", "target_id": ID, "task_preview": "t"}),
        ),
        (
            status(DelegationProgress::Dispatched),
            json!({"delegation_id": "d", "target_id": ID, "status": "dispatched"}),
        ),
        (
            status(DelegationProgress::Queued),
            json!({"delegation_id": "d", "target_id": ID, "status": "queued"}),
        ),
        (complete(None), json!({"delegation_id": "d", "target_id": ID, "response_preview": "p"})),
        (
            complete(Some(QueueDrain)),
            json!({"delegation_id": "d", "target_id": ID, "response_preview": "p", "via": "queue_drain"}),
        ),
        (
            Event::DelegationFailed(DelegationFailed { delegation_id: s("d"), error: s("e"), target_id: ID }),
            json!({"delegation_id": "d", "target_id": ID, "error": "e"}),
        ),
        (
            Event::ChannelMessage(ChannelMessage::Inbound {
                channel_id: ID.0,
                channel_type: s("slack"),
                direction: Inbound,
                username: s("u"),
            }),
            json!({"channel_id": ID, "channel_type": "slack", "username": "u", "direction": "inbound"}),
        ),
        (
            Event::ChannelMessage(ChannelMessage::Outbound {
                channel_id: ID.0,
                channel_type: s("slack"),
                direction: Outbound,
            }),
            json!({"channel_id": ID, "channel_type": "slack", "direction": "outbound"}),
        ),
    ]
}

fn work_shapes() -> Vec<(Event, Value)> {
    let schedule_name = || s("n");
    let decided = |status| {
        Event::ApprovalDecided(ApprovalDecided { approval_id: ID.0, decided_by: s("human"), status })
    };
    let import_failed = |reason| {
        Event::ImportFailed(ImportFailed {
            dir: s("d"),
            duration_ms: 9,
            missing_count: 1,
            mode: s("merge"),
            name: s("n"),
            reason,
        })
    };
    let import_failed_json = |reason: &str| json!({"name": "n", "dir": "d", "mode": "merge", "reason": reason, "missing_count": 1, "duration_ms": 9});
    vec![
        (
            Event::CronExecuted(CronExecuted {
                schedule_id: ID.0,
                schedule_name: schedule_name(),
                status: s("ok"),
            }),
            json!({"schedule_id": ID, "schedule_name": "n", "status": "ok"}),
        ),
        (
            Event::CronSkipped(CronSkipped {
                reason: s("w"),
                schedule_id: ID.0,
                schedule_name: schedule_name(),
            }),
            json!({"schedule_id": ID, "schedule_name": "n", "reason": "w"}),
        ),
        (
            Event::ApprovalRequested(ApprovalRequested {
                action: s("a"),
                approval_id: ID.0,
                reason: s(""),
                task_id: s(""),
            }),
            json!({"approval_id": ID, "action": "a", "reason": "", "task_id": ""}),
        ),
        (
            Event::ApprovalEscalated(ApprovalEscalated {
                action: s("a"),
                approval_id: ID.0,
                from_workspace_id: OTHER,
                reason: s("w"),
            }),
            json!({"approval_id": ID, "from_workspace_id": OTHER, "action": "a", "reason": "w"}),
        ),
        (
            Event::ApprovalApproved(ApprovalApproved {
                approval_id: ID.0,
                decided_by: s("human"),
                decision: Approved,
            }),
            json!({"approval_id": ID, "decision": "approved", "decided_by": "human"}),
        ),
        (
            Event::ApprovalDenied(ApprovalDenied {
                approval_id: ID.0,
                decided_by: s("human"),
                decision: Denied,
            }),
            json!({"approval_id": ID, "decision": "denied", "decided_by": "human"}),
        ),
        (
            decided(Decision::Approved),
            json!({"approval_id": ID, "status": "approved", "decided_by": "human"}),
        ),
        (decided(Decision::Denied), json!({"approval_id": ID, "status": "denied", "decided_by": "human"})),
        (
            Event::ImportStarted(ImportStarted { dir: s("d"), mode: s("merge"), name: s("n") }),
            json!({"name": "n", "dir": "d", "mode": "merge"}),
        ),
        (
            Event::ImportCompleted(ImportCompleted {
                create_error: s(""),
                created_count: 1,
                dir: s("d"),
                duration_ms: 5,
                mode: s("merge"),
                name: s("n"),
                reconcile_errors: 4,
                reconcile_removed_count: 3,
                skipped_count: 2,
            }),
            json!({
                "name": "n", "dir": "d", "mode": "merge", "created_count": 1, "skipped_count": 2,
                "reconcile_removed_count": 3, "reconcile_errors": 4, "duration_ms": 5, "create_error": "",
            }),
        ),
        (import_failed(ImportFailure::SecretsLookupFailed), import_failed_json("secrets_lookup_failed")),
        (import_failed(ImportFailure::MissingEnv), import_failed_json("missing_env")),
        (import_failed(ImportFailure::Internal), import_failed_json("internal")),
        (Event::TokenChanged(TokenChanged { token_id: types::TokenId(ID.0) }), json!({"token_id": ID})),
        (Event::WorkspaceChanged(Empty {}), json!({})),
        (Event::GuestChanged(GuestChanged { guest: s("g") }), json!({"guest": "g"})),
    ]
}

#[test]
fn names_and_classes_are_the_sheets() {
    let sheet: BTreeSet<_> = SHEET.iter().map(|(name, _)| *name).collect();
    assert_eq!(NAMES.iter().copied().collect::<BTreeSet<_>>(), sheet);
    assert_eq!(NAMES.len(), sheet.len(), "a name is given twice");
    for (name, class) in SHEET {
        assert_eq!(class_of(name), *class, "{name}");
    }
    assert_eq!(class_of("WORKSPACE_EXPANDED"), Class::Durable);
}

#[test]
fn every_event_has_a_sample_that_knows_its_name_and_class() {
    let sampled: BTreeSet<_> = samples().map(|event| event.name()).collect();
    assert_eq!(sampled, SHEET.iter().map(|(name, _)| *name).collect());
    for event in samples() {
        assert_eq!(event.class(), class_of(event.name()), "{}", event.name());
    }
}

/// `json!` sorts its keys, so equal texts mean sorted and compact ones too.
#[test]
fn payloads_are_the_sheets() {
    for (event, expected) in shapes() {
        assert_eq!(event.payload(), expected.to_string(), "{}", event.name());
    }
}

#[test]
fn payloads_read_back() {
    for event in samples() {
        assert_eq!(Event::parse(event.name(), &event.payload()), Some(event));
    }
}

#[test]
fn unknown_events_and_payloads_are_not_parsed() {
    let online = |payload| Event::parse("WORKSPACE_ONLINE", payload);
    assert_eq!(Event::parse("WORKSPACE_EXPANDED", "{}"), None);
    assert_eq!(Event::parse("WORKSPACE_PAUSED", "{}"), None);
    assert_eq!(Event::parse("APPROVAL_DENIED", &samples_payload("APPROVAL_APPROVED")), None);
    assert_eq!(online("[1]"), None);
    // Not external at all, so what is left of it is that it is online.
    assert_eq!(
        online(r#"{"external":false,"name":"n"}"#),
        Some(Event::WorkspaceOnline(Online::Reconnected {}))
    );
}

fn samples_payload(name: &str) -> String {
    samples().find(|event| event.name() == name).unwrap().payload()
}
