//! Which kinds a window may enqueue, and change entries of, when its capability restricts them.

use serde::Deserialize;
use tauri::{Runtime, Webview, ipc::CommandScope, webview::ResolvedScope};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    handle::StorageSync,
};

/// An item of `allow` or `deny` in a capability: `{ "kind": "form" }`. `build.rs` has its schema.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindScope {
    kind: String,
}

/// Whether that kind may be enqueued. Denied kinds never; if any are allowed by name, no others. Without either all are: the
/// permission itself is what allows, and it is there, or the command would not have been called.
pub(super) fn check(scope: &CommandScope<KindScope>, kind: &str) -> Result<()> {
    if allows(scope, kind) {
        return Ok(());
    }
    Err(Error::argument(
        "this window may not enqueue entries of this kind: the scope of `storage-sync:allow-enqueue` in its capability says which",
    ))
}

fn allows(scope: &CommandScope<KindScope>, kind: &str) -> bool {
    let names = |items: &[std::sync::Arc<KindScope>]| items.iter().any(|item| item.kind == kind);
    !names(scope.denies()) && (scope.allows().is_empty() || names(scope.allows()))
}

fn confines(scope: &CommandScope<KindScope>) -> bool {
    !scope.allows().is_empty() || !scope.denies().is_empty()
}

/// Whether what that entry carries may be changed: as far as kinds go, by a command with that scope, and not in a way around `enqueue`.
pub(super) async fn check_change<R: Runtime>(
    webview: &Webview<R>,
    scope: &CommandScope<KindScope>,
    sync: &StorageSync,
    id: Uuid,
) -> Result<()> {
    let enqueue = MayEnqueue::of(webview)?;
    let scopes = [Some(scope), enqueue.as_ref().map(|enqueue| enqueue.0.command_scope())];
    let scopes: Vec<_> = scopes.into_iter().flatten().filter(|scope| confines(scope)).collect();
    // An entry is looked up only where its kind matters. It never changes.
    if scopes.is_empty() {
        return Ok(());
    }
    let kind = sync.get(id).await?.kind;
    if scopes.into_iter().all(|scope| allows(scope, &kind)) {
        return Ok(());
    }
    Err(Error::argument(
        "this window may not change entries of this kind: the scope of this command, or of `storage-sync:allow-enqueue`, in its \
         capability says which",
    ))
}

/// What the window may `enqueue`, for commands that must not be a way around it.
pub(super) struct MayEnqueue(ResolvedScope<KindScope>);

impl MayEnqueue {
    /// None when it may not at all.
    pub(super) fn of<R: Runtime>(webview: &Webview<R>) -> Result<Option<Self>> {
        let resolved = webview.resolve_command_scope::<KindScope>("storage-sync", "enqueue");
        // What it cannot read says nothing of what is allowed.
        let resolved =
            resolved.map_err(|_| Error::argument("the scope of `storage-sync:allow-enqueue` cannot be read"))?;
        Ok(resolved.map(Self))
    }

    /// As [`check`].
    pub(super) fn check(&self, kind: &str) -> Result<()> {
        check(self.0.command_scope(), kind)
    }
}
