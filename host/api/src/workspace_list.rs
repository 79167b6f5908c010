//! The list of workspaces as bytes: a row is rendered once per change of its workspace, and the whole list
//! once per change of any of them.
//!
//! The list is the largest answer there is, and monitors and canvases poll it. It costs as much memory again as its
//! text is long, and once more for each earlier text that is being sent: clients that do not read hold no more of these
//! than there is room for ([`Room`]).

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use fleet::{Fleet, Workspace};
use httpd::answer_room::{Room, SMALL, hold};
use httpd::body_budget::Admitted;
use httpd::error::ApiError;

use crate::workspace_view::View;

/// The lists that were rendered last: for administrators, and for callers who proved nothing.
#[derive(Debug, Default)]
pub struct ListCache {
    proved: Mutex<Arc<Listing>>,
    anonymous: Mutex<Arc<Listing>>,
}

#[derive(Debug, Default)]
struct Listing {
    rows: Vec<Row>,
    body: Bytes,
    /// The room of this text, while it is being sent to any clients.
    room: Mutex<Weak<Room>>,
}

#[derive(Debug)]
struct Row {
    /// Held, so that no other workspace can have its address: the same pointer means unchanged.
    workspace: Arc<Workspace>,
    /// The only part of a row that does not come from the workspace.
    timeout_ms: Option<u64>,
    /// Where its text is in the list's.
    text: Range<usize>,
}

impl ListCache {
    /// The list as it is now.
    ///
    /// # Errors
    /// 503 where there is no room for it; 500 when a row has no JSON form.
    pub(crate) async fn render(&self, fleet: &Fleet, proved: bool) -> Result<Bytes, ApiError> {
        let last = if proved { &self.proved } else { &self.anonymous };
        let admitted = proved.then_some(Admitted { credential: None });
        let known = || Arc::clone(&last.lock().unwrap_or_else(PoisonError::into_inner));
        let listing = known();
        if listing.is_of(&fleet.workspaces().list(), fleet) {
            return listing.send(admitted).await;
        }
        // Among the large ones also where it is the first text, of unknown length.
        let about = listing.body.len().max(SMALL + 1);
        drop(listing);
        // A request that waits holds no text.
        let room = Room::reserve(about, admitted).await?;
        let (listing, workspaces) = (known(), fleet.workspaces().list());
        if listing.is_of(&workspaces, fleet) {
            drop(room);
            return listing.send(admitted).await;
        }
        let updated = listing.updated(workspaces, fleet, proved);
        let mut updated = updated.map_err(|error| ApiError::internal(&error))?;
        let room = Arc::new(room.resize(updated.body.len()).await?);
        updated.room = Mutex::new(Arc::downgrade(&room));
        let text = updated.body.clone();
        // Of two that render at once either may be kept: each row is compared again.
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(updated);
        Ok(hold(text, room))
    }
}

impl Listing {
    /// The text, with the room that all who are sent it share. A small one needs none.
    async fn send(&self, admitted: Option<Admitted>) -> Result<Bytes, ApiError> {
        let text = self.body.clone();
        if text.len() <= SMALL {
            return Ok(text);
        }
        let known = || self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = known().upgrade() {
            return Ok(hold(text, room));
        }
        // Side by side: one that waited for another one's wait would wait for ever longer.
        let own = Arc::new(Room::reserve(text.len(), admitted).await?);
        let mut shared = known();
        let room = shared.upgrade().unwrap_or(own);
        *shared = Arc::downgrade(&room);
        drop(shared);
        Ok(hold(text, room))
    }

    fn is_of(&self, workspaces: &[Arc<Workspace>], fleet: &Fleet) -> bool {
        // The text of an empty list was not rendered yet.
        !workspaces.is_empty()
            && self.rows.len() == workspaces.len()
            && self.rows.iter().zip(workspaces).all(|(row, workspace)| row.is_of(workspace, fleet))
    }

    /// The list of these workspaces, with the rows of this one that are still good. Both have one order:
    /// oldest first, then by id.
    fn updated(
        &self,
        workspaces: Vec<Arc<Workspace>>,
        fleet: &Fleet,
        proved: bool,
    ) -> serde_json::Result<Self> {
        let mut text = Vec::with_capacity(self.body.len() + 1024);
        let mut rows = Vec::with_capacity(workspaces.len());
        let mut known = self.rows.iter().peekable();
        text.push(b'[');
        for workspace in workspaces {
            if !rows.is_empty() {
                text.push(b',');
            }
            while known.next_if(|row| order(&row.workspace) < order(&workspace)).is_some() {}
            let start = text.len();
            let reused = known.peek().filter(|row| row.is_of(&workspace, fleet));
            match reused.and_then(|row| self.body.get(row.text.clone())) {
                Some(row) => text.extend_from_slice(row),
                None => text.extend_from_slice(&wire_json::to_vec(&View::listed(&workspace, fleet, proved))?),
            }
            let timeout_ms = fleet.template_timeout_ms(&workspace.row.runtime);
            rows.push(Row { workspace, timeout_ms, text: start..text.len() });
        }
        text.push(b']');
        Ok(Self { rows, body: text.into(), room: Default::default() })
    }
}

impl Row {
    fn is_of(&self, workspace: &Arc<Workspace>, fleet: &Fleet) -> bool {
        Arc::ptr_eq(&self.workspace, workspace)
            && self.timeout_ms == fleet.template_timeout_ms(&workspace.row.runtime)
    }
}

fn order(workspace: &Workspace) -> impl Ord {
    (workspace.row.created_at, workspace.row.id)
}
