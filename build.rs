//! Writes the permissions of the commands, their schemas and their reference into `permissions/`.

const COMMANDS: &[&str] = &[
    "enqueue",
    "enqueue_all",
    "enqueue_file",
    "observe",
    "status",
    "list",
    "get",
    "payload",
    "file",
    "progress",
    "retry",
    "discard",
    "edit",
    "resolve",
    "conflicts",
    "conflicts_read",
    "delivered",
    "flush",
    "pause",
    "resume",
    "set_credentials",
    "set_account",
    "sign_out",
    "rotate_key",
    "reset_encrypted_data",
    "watch",
    "unwatch",
    "watches",
];

/// What may stand in `allow` and `deny` of a capability, for editors and for the check at build time; `src/commands/scope.rs` reads it.
const SCOPE: &str = r#"{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "title": "KindScope",
  "description": "A kind that a window may (`allow`) or may not (`deny`) enqueue. `deny` wins; without `allow` every kind that is not denied is allowed.",
  "type": "object",
  "required": ["kind"],
  "properties": { "kind": { "description": "The name of an endpoint.", "type": "string" } },
  "additionalProperties": false
}"#;

fn main() {
    let scope = serde_json::from_str(SCOPE).expect("is a schema");
    tauri_plugin::Builder::new(COMMANDS).global_scope_schema(scope).build();
}
