//! Starts for which the runtime's adapter gives no plan: they wait, or have failed until the adapter or the workspace
//! changes. A condition says why.

use store::workspaces::{Hosting, Status, WorkspaceRow};
use types::{Condition, ConditionStatus};

use super::Draft;
use crate::event;

/// Type of the condition that says whether the adapter gives a plan for the start.
const PLANNED: &str = "Planned";

/// Why a workspace has no plan; none where it has one, or the adapter was not asked yet.
#[must_use]
pub(crate) fn missing_plan(row: &WorkspaceRow) -> Option<&Condition> {
    row.conditions.iter().find(|known| known.kind == PLANNED && known.status == ConditionStatus::False)
}

impl Draft {
    pub(super) fn no_plan(&mut self, attempt: i32, is_transient: bool, reason: &str, message: &str) -> bool {
        if !self.is_hosted_by(Hosting::Container) || attempt != self.row.attempt {
            return false;
        }
        let is_known = missing_plan(&self.row).is_some_and(|it| it.reason == reason && it.message == message);
        let has_failed = self.row.status == Status::Failed;
        if has_failed && is_known {
            return false;
        }
        self.set_condition(PLANNED, false, reason, message);
        match self.row.status {
            Status::Failed => self.row.last_sample_error = Some(super::truncate(message).to_owned()),
            Status::Provisioning if !is_transient => self.fail(message, event::start_failed(message, &[])),
            // A start that waits, or a container that is to be started again below a working agent.
            _ => {
                self.row.failures = self.row.failures.saturating_add(1);
                self.back_off();
            }
        }
        true
    }

    /// The time that a start may take begins when there is a plan for it.
    pub(super) fn planned(&mut self) -> bool {
        if missing_plan(&self.row).is_none() || !self.is_hosted_by(Hosting::Container) {
            return false;
        }
        if self.row.status == Status::Failed {
            self.clear_failures();
            self.begin_attempt();
            return true;
        }
        self.set_condition(PLANNED, true, "Answers", "the adapter gives a plan");
        self.row.retry_at = None;
        self.row.failures = 0;
        if self.row.status == Status::Provisioning {
            self.row.attempt_at = Some(self.now);
        }
        true
    }

    /// For a new attempt the adapter was not asked yet.
    pub(super) fn forget_plan(&mut self) {
        self.row.conditions.retain(|known| known.kind != PLANNED);
    }
}
