/**
 * Every code that a {@link StorageSyncError} can have. They are stable; messages are for people.
 * Whatever the code, nothing was written by the call that was rejected.
 *
 * - `unknown_kind`: no endpoint of that name is configured.
 * - `invalid_argument`: an argument is missing, of the wrong type, too long, or holds what is refused.
 * - `invalid_config`: the app's configuration cannot work; the message names the field.
 * - `payload_too_large`: the payload is over `limits.payloadBytes`.
 * - `path_not_allowed`: the path is not one that a window may name, or leads to something that is not to be read.
 * - `quota_reached`: as many entries wait as `limits.entries` allows, or files of as many bytes as `limits.spoolBytes` does.
 * - `id_conflict`: the id is taken by an entry with other content.
 * - `not_found`: there is no such entry in the current account.
 * - `not_delivered`: what `delivered` waited for failed; it is kept. (What was discarded is `not_found`.)
 * - `lost`: what `delivered` waited for was beaten on the server by a newer write; it is kept for a while.
 * - `wrong_state`: the verb does not fit the entry's state.
 * - `disk_full`: the disk has no room. What is queued is safe and is still delivered.
 * - `source_changed`: the file was written to again and again while it was copied.
 * - `keychain_locked`: the keychain is locked, or its prompt was refused or not answered in time.
 * - `keychain_unavailable`: there is no keychain on this system.
 * - `key_missing`: the keychain no longer holds the key that the queue was written with.
 * - `key_mismatch`: the keychain holds another key than the one the queue was written with.
 * - `signed_out`: the account was signed out, or its queue was given up, while it was in use, here or in another process.
 * - `rate_limited`: the window enqueues, edits, resolves, observes, watches or gives credentials more often than `limits.windowEntries` or `limits.windowBytes` allow; the message says when to try again.
 * - `undecryptable`: the record was changed or damaged on disk.
 * - `database_newer`: the queue was written by a newer version of the app.
 * - `database_corrupt`: the queue's database is damaged. The next start moves it aside and saves what can be read, once no other process has it open.
 * - `database`: the queue's database answered an error.
 * - `io`: the operating system answered an error.
 * - `not_owner`: another process of the app delivers; call this there.
 * - `timeout`: the time given ran out. Nothing is lost by it.
 * - `closed`: the app is shutting down.
 * - `unsupported_platform`: this is a desktop plugin.
 * - `aborted`: the app's own `signal` gave it up before it was saved.
 * - `ipc`: the call did not reach the plugin: no permission for the command, plugin not registered, or a page outside Tauri.
 */
export const ERROR_CODES = [
  'unknown_kind',
  'invalid_argument',
  'invalid_config',
  'payload_too_large',
  'path_not_allowed',
  'quota_reached',
  'id_conflict',
  'not_found',
  'not_delivered',
  'lost',
  'wrong_state',
  'disk_full',
  'source_changed',
  'keychain_locked',
  'keychain_unavailable',
  'key_missing',
  'key_mismatch',
  'signed_out',
  'rate_limited',
  'undecryptable',
  'database_newer',
  'database_corrupt',
  'database',
  'io',
  'not_owner',
  'timeout',
  'closed',
  'unsupported_platform',
  'aborted',
  'ipc',
] as const

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number]

/** What every function of this module rejects with. */
export class StorageSyncError extends Error {
  /** What went wrong, as a stable name to compare with. */
  readonly code: ErrorCode

  /**
   * @param code - What went wrong, as a stable name.
   * @param message - What went wrong and what to do, for people.
   * @param options - `cause`: what this was made from.
   */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StorageSyncError'
    this.code = code
  }
}

/** An argument that is refused before anything is sent. */
export function refused(message: string): StorageSyncError {
  return new StorageSyncError('invalid_argument', message)
}

/** Whatever a rejected invoke carried, as the one error of this module. */
export function toError(thrown: unknown): StorageSyncError {
  if (thrown instanceof StorageSyncError) return thrown
  if (hasCode(thrown)) return new StorageSyncError(thrown.code, thrown.message, { cause: thrown })
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  // Tauri itself answers strings: this one when an argument does not deserialise.
  if (message.startsWith('invalid args ')) return new StorageSyncError('invalid_argument', message, { cause: thrown })
  return new StorageSyncError('ipc', `the call did not reach the plugin: ${message}`, { cause: thrown })
}

function hasCode(thrown: unknown): thrown is { code: ErrorCode; message: string } {
  if (typeof thrown !== 'object' || thrown === null) return false
  const { code, message } = thrown as { code?: unknown; message?: unknown }
  return typeof code === 'string' && typeof message === 'string'
}
