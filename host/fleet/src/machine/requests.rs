//! Requests: they change the desired state, which is then tried at once.

use store::workspaces::{Container, DesiredState, Hosting, Status};

use super::Draft;
use crate::event;

impl Draft {
    pub(super) fn restart(&mut self) -> bool {
        if !self.is_hosted_by(Hosting::Container) {
            return false;
        }
        self.set_desired(DesiredState::Running);
        self.row.url = None;
        self.begin_attempt();
        true
    }

    pub(super) fn pause(&mut self) -> bool {
        if self.row.status == Status::Paused {
            return false;
        }
        self.set_desired(DesiredState::Paused);
        self.clear_container_url();
        let event = event::paused(&self.row);
        self.set_status(Status::Paused, event);
        true
    }

    /// The URL of a container goes with it; that of an agent that its operator runs stays.
    fn clear_container_url(&mut self) {
        if self.is_hosted_by(Hosting::Container) {
            self.row.url = None;
        }
    }

    pub(super) fn resume(&mut self) -> bool {
        if self.row.status != Status::Paused {
            return false;
        }
        self.set_desired(DesiredState::Running);
        if self.is_hosted_by(Hosting::Container) {
            self.begin_attempt();
        } else {
            self.start_without_container();
        }
        true
    }

    pub(super) fn hibernate(&mut self) -> bool {
        if !self.is_hosted_by(Hosting::Container) || !self.is_up() {
            return false;
        }
        self.set_desired(DesiredState::Hibernated);
        self.row.status = Status::Hibernating;
        self.row.status_since = self.now;
        if !self.may_have_container() {
            self.hibernated();
        }
        true
    }

    pub(super) fn wake(&mut self) -> bool {
        if self.row.status != Status::Hibernated {
            return false;
        }
        self.set_desired(DesiredState::Running);
        self.begin_attempt();
        true
    }

    /// A start may be under way of which the row doesn't know yet, and a removed row that claims to have
    /// no container is not reconciled: until the backend is seen to have none, there may be one.
    pub(super) fn remove(&mut self, cascade: Option<usize>) -> bool {
        self.set_desired(DesiredState::Removed);
        self.row.removed_at = Some(self.now);
        if self.is_hosted_by(Hosting::Container) && self.row.attempt > 0 {
            self.row.container = Container::Superseded;
        }
        self.set_status(Status::Removed, event::removed(cascade));
        true
    }
}
