/**
 * Save something now, get it to the server when that is possible.
 *
 * The binding of the Tauri plugin `storage-sync`: a durable, encrypted outbox that the Rust backend delivers. Importing this module
 * touches neither `window` nor the backend.
 *
 * @packageDocumentation
 */
export { CONFIRM_RESET, onAuthRequired, resetEncryptedData, setAccount, signOut } from './accounts.js'
export { conflicts, conflictsRead, edit, observe, onConflict, resolve } from './conflicts.js'
export { enqueue, enqueueAll } from './enqueue.js'
export { delivered, get, list, onEntry, payload, syncEntries, type EntryList } from './entries.js'
export { StorageSyncError, type ErrorCode } from './errors.js'
export { enqueueFile, file } from './files.js'
export { newId, ref } from './ids.js'
export { onProgress } from './progress.js'
export { status, subscribe, syncStatus } from './status.js'
export { discard, flush, pause, resume, retry, rotateKey, setCredentials } from './steer.js'
export { unwatch, watch, watches } from './watch.js'
export type {
  Action,
  AfterAck,
  Applied,
  AuthRequired,
  Change,
  Counts,
  Credentials,
  Discarded,
  EnqueueOptions,
  Entry,
  FileInfo,
  FileOptions,
  Filter,
  Flushed,
  Hold,
  JsonValue,
  KeyState,
  KeyStatus,
  Known,
  Leftover,
  ListenOptions,
  Named,
  NewItem,
  Payload,
  Query,
  Queue,
  Readable,
  Reason,
  Receipt,
  Reset,
  Rotated,
  SignedOut,
  SignOutOptions,
  State,
  Status,
  UploadProgress,
  WaitingFor,
  Watch,
  WatchOptions,
  WatchState,
  WatchStatus,
} from './types.js'
