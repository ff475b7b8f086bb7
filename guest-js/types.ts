/**
 * The states an entry can be in.
 *
 * - `pending`: on disk, encrypted, not being sent at this moment; {@link Entry.waitingFor} says why.
 * - `inflight`: an attempt is under way.
 * - `acked`: the server has proved that it has it.
 * - `failed`: not delivered, and not retried without a decision of the user; {@link Entry.reason} says why.
 * - `superseded`: a newer entry of its lane took its place, before this one was ever sent or after it was definitively refused;
 *   {@link Entry.supersededBy} names that one. Or, with {@link Entry.lost}, the server holds a newer write than this one.
 */
export const STATES = ['pending', 'inflight', 'acked', 'failed', 'superseded'] as const

/** Where an entry stands: one of {@link STATES}. */
export type State = (typeof STATES)[number]

/**
 * Why an entry is `failed`.
 *
 * - `refused`: the server refused it definitively; {@link Entry.status} has the HTTP status.
 * - `conflict`: the server holds a revision that this write does not beat, and the endpoint asks (`onConflict: "ask"`): see `resolve`.
 * - `outcome-unknown`: it may have been applied, and the endpoint does not allow sending it twice; only `retry(id, { force: true })` sends it again.
 * - `unproven`: the server answers others of this endpoint properly, but this one never with the proof that the endpoint asks for.
 * - `undecryptable`: the record on disk does not open with its key: it was changed or damaged.
 * - `parent-gone`: an entry that it depends on was discarded, or given up, before it was delivered.
 */
export const REASONS = ['refused', 'conflict', 'outcome-unknown', 'unproven', 'undecryptable', 'parent-gone'] as const

/** Why an entry is `failed`: one of {@link REASONS}. */
export type Reason = (typeof REASONS)[number]

/**
 * How entries of one lane (the same `kind` and `key`) relate.
 *
 * - `latest`: only the newest matters: it replaces older ones that were never sent or were definitively refused. Default for `PUT`.
 * - `every`: every one is delivered, in order of enqueue. Default for every other method.
 */
export const QUEUES = ['latest', 'every'] as const

/** How a lane treats an entry: one of {@link QUEUES}. */
export type Queue = (typeof QUEUES)[number]

/**
 * What an entry does to the thing that it is about.
 *
 * - `create`: the thing comes to be on the server.
 * - `update`: the thing is there already and changes.
 * - `delete`: the thing goes. Never-sent entries that would have created it go with it, and nothing is sent.
 */
export const ACTIONS = ['create', 'update', 'delete'] as const

/** What an entry does to its thing: one of {@link ACTIONS}. */
export type Action = (typeof ACTIONS)[number]

/**
 * What is known of the master key.
 *
 * - `unused`: not asked for yet: the keychain is first touched when first needed.
 * - `ready`: loaded, and it is the key that the database was written with.
 * - `locked`: the keychain is there but locked, or its prompt was refused or not answered in time.
 * - `unavailable`: there is no keychain to talk to.
 * - `missing`: the keychain answers, but holds no key although the database was written with one.
 * - `mismatch`: the keychain holds another key than the one the database was written with.
 *
 * In every state but `ready` and `unused` delivery waits and resumes by itself; nothing is regenerated or deleted.
 */
export const KEY_STATES = ['unused', 'ready', 'locked', 'unavailable', 'missing', 'mismatch'] as const

/** What is known of the master key: one of {@link KEY_STATES}. */
export type KeyState = (typeof KEY_STATES)[number]

/**
 * What holds a pending entry (or an endpoint, in {@link Status.holds}) back. Computed when asked, never stored.
 *
 * - `backoff`: its last attempt did not get through; the next one is due at `until`.
 * - `offline`: `origin` cannot be reached, or nothing but silence came back from it in three lanes in a row.
 * - `busy`: the server asked for patience, or answered with a fault (5xx) in five lanes in a row; nothing is sent before `until`.
 * - `lane`: the older entry `behind` of its lane comes first.
 * - `dependency`: the entry `on`, which it comes `after` or refers to, was not delivered yet.
 * - `auth`: the server of `origin` wants credentials that the app has not given yet; see `setCredentials`.
 * - `unproven`: the endpoint's answers prove nothing, as a captive portal's do.
 * - `refusing`: the endpoint refuses everything, as after a bad deploy.
 * - `keychain`: the keychain is locked, absent, or lacks the key; `key` says which.
 * - `paused`: `pause()` was called.
 * - `endpoint`: no endpoint of this kind is in this version of the app, or it has no base URL yet, or its URL asks for other params.
 * - `turn`: it is next in line, or another process delivers.
 *
 * Times are milliseconds since the Unix epoch, for display only. An origin is scheme, host and port.
 */
export type WaitingFor =
  | { reason: 'backoff'; until: number }
  | { reason: 'offline'; origin: string }
  | { reason: 'busy'; until: number }
  | { reason: 'lane'; behind: string }
  | { reason: 'dependency'; on: string }
  | { reason: 'auth'; origin: string }
  | { reason: 'unproven' }
  | { reason: 'refusing' }
  | { reason: 'keychain'; key: KeyState }
  | { reason: 'paused' }
  | { reason: 'endpoint' }
  | { reason: 'turn' }

/**
 * Whether the server has applied an entry, as far as that can be known here.
 *
 * - `yes`: it has proved that.
 * - `no`: not in any attempt so far: none reached it, or it said so.
 * - `unknown`: an attempt has begun and no definitive answer came.
 */
export const APPLIED = ['yes', 'no', 'unknown'] as const

/** Whether the server has applied an entry: one of {@link APPLIED}. */
export type Applied = (typeof APPLIED)[number]

/** An entry, by its receipt or by its id. */
export type Named = string | { readonly id: string }

/** What `enqueue` answers, once the entry is on disk. */
export interface Receipt {
  /** Names this entry for ever (a UUID of version 7). */
  id: string
  /** Its kind. */
  kind: string
  /** The thing that it is about, if one was given. */
  key: string | null
}

/** One entry as the app sees it. Never the payload: `payload(id)` answers that, under a permission of its own. */
export interface Entry {
  /** Names this entry for ever (a UUID). */
  id: string
  /** Names the endpoint. */
  kind: string
  /** The thing that it is about, such as `"42"`. */
  key: string | null
  /** Where it stands. */
  state: State
  /** Why it failed; `null` unless `state` is `failed`. */
  reason: Reason | null
  /** What it waits for; `null` unless `state` is `pending`. */
  waitingFor: WaitingFor | null
  /** `pause(id)` was called: it waits until `resume(id)`, or until it is settled. */
  paused: boolean
  /** How its lane treats it. */
  queue: Queue
  /** What it does to the thing, where that was said; otherwise what is known of the thing decides when it is first sent. */
  action: Action | null
  /** The entries that were named as coming before it, by `after` or by a `ref`. */
  after: string[]
  /**
   * Counted attempts, those before a `retry` included. Not counted are attempts that got no connection, that lacked credentials or were
   * refused for them (401, 407), and that were answered without proof; the one with which the entry failed is, whatever the answer.
   */
  attempts: number
  /** An attempt has begun and no definitive answer came: the server may have it. */
  possiblySent: boolean
  /** Whether the server has applied it. */
  applied: Applied
  /** HTTP status of the last answer. */
  status: number | null
  /** What the last attempt said, in words. Never a payload, a credential or a query string. */
  lastError: string | null
  /** The revision on the wire, once an attempt has begun. */
  revision: number | null
  /** The id that the server gave the thing, once known. */
  canonicalId: string | null
  /** The newer entry that replaced it; `null` unless `state` is `superseded`. */
  supersededBy: string | null
  /**
   * Beaten on the server by a newer write. The payload is kept for a while (30 days by default), and `retry`, `edit` or `resolve` revive
   * it. `applied` says whether it may have been applied before it was beaten.
   */
  lost: boolean
  /** It met a newer write on the server, and nobody has read of it yet: see `onConflict`. */
  conflict: boolean
  /** Media type of the payload. */
  contentType: string
  /** Size of the payload in bytes. */
  bytes: number
  /** The payload is a file. */
  file: boolean
  /** Of a file: how many bytes the server said that it has. What has been sent of it since tells the progress of uploads. */
  uploaded: number
  /** When it was enqueued: milliseconds since the Unix epoch, for display only. Nothing is ordered by it. */
  createdAt: number
  /** When its state last changed: milliseconds since the Unix epoch, for display only. */
  updatedAt: number
}

/** How many entries are in each state, of the current account: what a badge shows. */
export interface Counts {
  /** Waiting. */
  pending: number
  /** Under way. */
  inflight: number
  /** Proved to be on the server, and not yet pruned. */
  acked: number
  /** Waiting for a decision: `retry`, `edit`, `resolve` or `discard`. */
  failed: number
}

/** One state change, as `onEntry` hears it. Without key, name or payload: `get(id)` has the details. */
export interface Change {
  /** The entry. */
  id: string
  /** Its kind. */
  kind: string
  /** The state it is in now; `null` once it was discarded or pruned. */
  state: State | null
  /** Rises with every change of this process. */
  seq: number
  /** It met a newer write on the server just now. Left out otherwise. */
  conflict?: boolean | undefined
}

/** A hold on an endpoint or on a whole origin. */
export interface Hold {
  /** The endpoint's name, or `null` where a whole origin is meant. */
  kind: string | null
  /** Scheme, host and port. */
  origin: string
  /** Why. */
  waitingFor: WaitingFor
  /** Where it waits for `auth`, which time it is that a server asks for other credentials: no two have the same number. */
  asked?: number
}

/** The master key. */
export interface KeyStatus {
  /** What is known of it. */
  state: KeyState
  /** Where it comes from: `"keychain"` unless the app's author chose otherwise. */
  source: string
}

/** What badges and a status line show. */
export interface Status extends Counts {
  /** `false` only in the value that `syncStatus` has before the first answer of the backend. */
  ready: boolean
  /** Rises with every change of this process. */
  seq: number
  /** `pause()` was called and `resume()` was not. Survives a restart. */
  paused: boolean
  /** This process delivers. Otherwise another process on the same database does. */
  owner: boolean
  /** The current account; `""` when none is used. */
  account: string
  /** The master key. */
  key: KeyStatus
  /** Endpoints and origins that are held, and why. */
  holds: Hold[]
  /** The watched folders that this process follows. Which ones they are, `watches` says. */
  watches: WatchStatus[]
}

/**
 * How a watched folder is followed.
 *
 * - `watching`: the system tells when something changes in it; beside that it is looked through from time to time.
 * - `scanning`: it is looked through from time to time only, since the system cannot tell of changes; {@link Watch.why} says why.
 * - `missing`: it is not there, or may not be read. It is looked for from time to time, and nothing that was in it counts as deleted.
 * - `waiting`: this process does not follow it: it has not begun, there is no key, or another process delivers.
 */
export const WATCH_STATES = ['watching', 'scanning', 'missing', 'waiting'] as const

/** How a watched folder is followed: one of {@link WATCH_STATES}. */
export type WatchState = (typeof WATCH_STATES)[number]

/** A watched folder, as `status` shows it. */
export interface WatchStatus {
  /** The watch. */
  id: string
  /** Where its files go. */
  kind: string
  /** How it is followed. */
  state: WatchState
}

/**
 * What becomes of a file of a watched folder once the server has it.
 *
 * - `keep`: it stays. The folder is what the server is to hold: a file that goes from it goes from the server, where its endpoint has a `delete`.
 * - `delete`: it is deleted, if it still is the one that the server has. The folder is where things are handed over: what vanishes from it does
 *   not vanish from the server.
 * - `move`: it is moved into a folder in the watched one; otherwise as with `delete`.
 */
export const AFTER_ACKS = ['keep', 'delete', 'move'] as const

/** What becomes of a file: one of {@link AFTER_ACKS}. */
export type AfterAck = (typeof AFTER_ACKS)[number]

/** How a folder is watched. */
export interface WatchOptions {
  /** Names the endpoint that the files go to. It takes files (`"raw"`, `"multipart"` or `"tus"`). */
  kind: string
  /** Files in the folder's folders too. Default `false`. */
  recursive?: boolean | undefined
  /**
   * Which files, by their names: `*` stands for anything within a name, `?` for one character, `[a-z]` for one of several. With a `/` in it a
   * pattern is of the path below the folder, where `**` stands for any folders. A `!` in front excludes, and wins. At most 100. Default: all.
   */
  patterns?: string[] | undefined
  /** What becomes of a file once the server has it. Default `keep`. */
  afterAck?: AfterAck | undefined
  /** With `move`: the name of the folder in the watched one. What is in it is not uploaded. Default `.synced`. */
  moveTo?: string | undefined
  /** Values for the `{names}` of the endpoint's URL, the same for every file. Stored encrypted. */
  params?: Record<string, string | number | boolean> | undefined
  /** The media type of every file. Default `application/octet-stream`. */
  contentType?: string | undefined
}

/** A folder that is watched. */
export interface Watch {
  /** Names it for ever. */
  id: string
  /** The folder, as it was given. */
  dir: string
  /** Where its files go. */
  kind: string
  /** Files in its folders too. */
  recursive: boolean
  /** Which files; none: all. */
  patterns: string[]
  /** What becomes of a file once the server has it. */
  afterAck: AfterAck
  /** The folder in it that files are moved into. */
  moveTo: string | null
  /** How it is followed. */
  state: WatchState
  /** Why it is not followed better, or how many files are left out, in words. Never a name. */
  why: string | null
  /** How many of its files are known, and were queued. */
  files: number
  /** How many of them the server has as they are known. */
  delivered: number
}

/**
 * What `enqueue` takes: a JSON value, or bytes as a `Uint8Array`, an `ArrayBuffer` or a `Blob` (a `File` is one).
 *
 * An object is taken as `JSON.stringify` would take it, except that what JSON would drop or bend is refused: see `enqueue`.
 */
export type Payload = object | string | number | boolean | null

/** A value that JSON can hold. */
export type JsonValue = string | number | boolean | null | JsonValue[] | { [name: string]: JsonValue }

/** Options of `enqueue`. */
export interface EnqueueOptions {
  /** Names the thing this entry is about, such as `"42"`. It is stored as plain text: no secrets. Default: none, so the entry is a lane of its own. */
  key?: string | undefined
  /** Values for the `{names}` of the endpoint's URL. Stored encrypted; a missing one is refused. */
  params?: Record<string, string | number | boolean> | undefined
  /** How it relates to others of its lane. Default: the endpoint's, which is `latest` for `PUT` and `every` for all else. */
  queue?: Queue | undefined
  /**
   * A UUID of your own, such as `newId()`, which makes the call idempotent: the same id and bytes answer the first receipt. For one
   * mutation only, also when its entry is long pruned: the server knows it by this id, and would apply nothing else under it. Default: a
   * new one.
   */
  id?: string | undefined
  /**
   * What it does to the thing. Default: it is written, and what is known of the thing decides whether that creates or changes it.
   * `delete` takes a key, an endpoint with a `delete`, and the payload `null`; `create` and `update` an endpoint that has both.
   */
  action?: Action | undefined
  /**
   * Entries that must be delivered before this one, as receipts or ids: at most 256, with those that the payload and the params name by
   * `ref`. Default: none but those.
   */
  after?: readonly Named[] | undefined
  /** Media type, for bytes only. Default: the type of the `Blob`, else `application/octet-stream`. */
  contentType?: string | undefined
}

/** One entry of `enqueueAll`. */
export interface NewItem extends EnqueueOptions {
  /** Names an endpoint of the app's configuration. */
  kind: string
  /** What to deliver; `null` to delete. */
  payload: Payload
}

/** What may be said beside kind and file, for `enqueueFile`. */
export interface FileOptions extends EnqueueOptions {
  /**
   * What the file is called on the server, without a folder. Stored encrypted, like the file. Default: the name of the `File`, or the last
   * name of the path; a `Blob` has none.
   */
  name?: string | undefined
  /** Media type. Default: that of the `Blob`, else `application/octet-stream`. */
  contentType?: string | undefined
  /**
   * What else the server is told: fields of a `"multipart"` form, metadata of a `"tus"` upload; a `"raw"` body has no place for it. Stored
   * encrypted. Default: nothing.
   */
  metadata?: Record<string, string | number | boolean> | undefined
  /**
   * Gives it up before it is saved: the call is rejected with `aborted`, and nothing is kept. Once it is saved that is too late, and the
   * receipt comes all the same: `discard` cancels it then.
   */
  signal?: AbortSignal | undefined
  /** How much of a `File` or `Blob` is saved on this device. How far the upload is, is told by the function of that name. */
  onProgress?: ((saved: { bytes: number; total: number }) => void) | undefined
}

/** What is known of a file that waits, for `file`. */
export interface FileInfo {
  /** What it is called, if that was said. */
  name: string | null
  /** Its media type. */
  contentType: string
  /** How many bytes it has. */
  bytes: number
  /** The SHA-256 of all of it, in hexadecimal digits. */
  sha256: string
  /** What else the server is told. */
  metadata: Record<string, string>
}

/** How far an upload is, for `onProgress`. */
export interface UploadProgress {
  /** The entry. */
  id: string
  /** How many bytes of the file have been sent. May fall, when the server has fewer. */
  sent: number
  /** How many there are. */
  total: number
  /** Bytes in a second, of late. */
  rate: number
  /** Milliseconds that the rest will take at that rate; `null` as long as that cannot be told. */
  left: number | null
}

/** What an app has read of a thing on the server, for `observe`. What is left out stays as it is known. */
export interface Known {
  /** The revision that the server holds. */
  revision?: number | undefined
  /** The id that the server gave the thing. */
  canonicalId?: string | undefined
  /** Whether the thing is on the server. `false` forgets canonical id and tag. */
  exists?: boolean | undefined
  /** The strong `ETag` of what the server holds, quotes included, such as `"\"33a64df5\""`. */
  etag?: string | undefined
}

/** Selects entries by their properties; several properties narrow it down. */
export interface Filter {
  /** One state or several. */
  state?: State | State[] | undefined
  /** The endpoint's name. */
  kind?: string | undefined
  /** The thing that they are about. */
  key?: string | undefined
  /** These ids, as far as they meet the rest: at most 1000, and an empty list selects none. */
  ids?: string[] | undefined
}

/** What `list` and `syncEntries` ask for. */
export interface Query {
  /** One state or several. Default: every state. */
  state?: State | State[] | undefined
  /** The endpoint's name. Default: every kind. */
  kind?: string | undefined
  /** The thing that they are about. Default: every key. */
  key?: string | undefined
  /** Only entries that come after this id in the answer, i.e. older ones: the last id of the previous page. */
  after?: string | undefined
  /** At most this many. Default 100, at most 1000. */
  limit?: number | undefined
}

/** What `discard` answers. */
export interface Discarded {
  /** What was removed. */
  ids: string[]
  /** Those of them that the server may have applied. */
  possiblyApplied: string[]
  /** What was not removed because an attempt is under way: discard it again afterwards. Uploads of files are stopped instead. */
  inflight: string[]
  /** What depended on one of these and therefore failed (`parent-gone`); empty with `cascade`. */
  orphaned: string[]
}

/** What `flush` answers: how the entries fared meanwhile. */
export interface Flushed {
  /** Delivered. */
  acked: number
  /** Definitively not delivered: they wait for a decision. */
  failed: number
  /** Still waiting. */
  waiting: number
}

/** What `setCredentials` takes. */
export interface Credentials {
  /**
   * Scheme, host and port of a configured endpoint. May be left out where all endpoints share one. Or those of one that was configured
   * before, while entries wait there for credentials.
   */
  origin?: string | undefined
  /** Header names and values, such as `{ Authorization: 'Bearer …' }`. They replace the ones given before; `{}` clears them. */
  headers: Record<string, string>
  /** Whose they are. Default: the current account. */
  account?: string | undefined
}

/**
 * A value that changes, read synchronously.
 *
 * Fits React (`useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot)`) and is a Svelte store (`$store`).
 * Both functions work without `this`.
 */
export interface Readable<T> {
  /**
   * Calls `run` at once with the value, and again whenever it changes.
   *
   * @returns A function that ends it. It may be called more than once.
   */
  readonly subscribe: (run: (value: T) => void) => () => void
  /** The value: the same frozen object until it changes. */
  readonly getSnapshot: () => T
}

/** Options of the functions that listen. */
export interface ListenOptions {
  /** Aborting ends the listening, also while it is still being set up. */
  signal?: AbortSignal | undefined
}

/** A server wants other credentials, as `onAuthRequired` hears it. */
export interface AuthRequired {
  /** Scheme, host and port. */
  origin: string
}

/**
 * What becomes of the entries of an account that is signed out.
 *
 * - `keep`: they wait, encrypted, until the same account is back.
 * - `flush`: they are delivered first, and tried again, as far as that is possible in the time; what is left is kept.
 * - `discard`: they are destroyed, and the account's key with them.
 */
export const LEFTOVERS = ['keep', 'flush', 'discard'] as const

/** What becomes of them: one of {@link LEFTOVERS}. */
export type Leftover = (typeof LEFTOVERS)[number]

/** Options of `signOut`. */
export interface SignOutOptions {
  /** What becomes of its entries. Default: `keep`. */
  pending?: Leftover | undefined
  /** How long `flush` may take, in milliseconds. Default: 10 000. */
  timeout?: number | undefined
}

/** What `signOut` did. */
export interface SignedOut {
  /** The account that was signed out. */
  account: string
  /** So many of its entries were delivered meanwhile. */
  delivered: number
  /** So many are kept: pending or failed. */
  kept: number
  /** So many were destroyed before they were delivered. */
  discarded: number
  /** Of these, the ones that the server may have applied; of more than 1000, the oldest. */
  possiblyApplied: string[]
  /**
   * Nothing is left to do. Otherwise, after `discard`, the keychain could not be asked to delete the account's key: that is made up for as
   * soon as it can be, and nothing of the account can be read meanwhile.
   */
  finished: boolean
}

/** What `resetEncryptedData` did. */
export interface Reset {
  /** A copy of the queue as it was, encrypted as it was. Files are in a folder beside it, of the same name with `.spool` behind. */
  file: string
  /** So many entries were pending or failed, and are in that file only. */
  givenUp: number
}

/** What `rotateKey` did. */
export interface Rotated {
  /** So many entries were wrapped under the new key by this call. */
  rewrapped: number
  /** So many could not be, because their records do not open: they keep the old key. */
  unreadable: number
  /**
   * The old key is gone. Otherwise it is kept beside the new one until nothing needs it: another process of the app has it, or a record is
   * unreadable. The next start, or another call, tries again.
   */
  finished: boolean
}
