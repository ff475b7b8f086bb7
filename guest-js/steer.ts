import { StorageSyncError } from './errors.js'
import { call, milliseconds } from './invoke.js'
import { toJson } from './json.js'
import type { Credentials, Discarded, Filter, Flushed, Rotated } from './types.js'

/**
 * Sends failed entries again, and pending ones now instead of after their backoff. What met a newer write on the server is sent above
 * that one; an entry that was `lost` only if it is named by its id.
 *
 * @param which - An id, or a filter. Without `state` or `ids` it selects failed entries only: `{}` means every failed entry.
 * @param options - `force`: also what ended as `outcome-unknown`, although the server may have applied it. Default `false`.
 * @returns The ids that will be sent.
 * @throws {@link StorageSyncError} for an id: `not_found`, and `wrong_state` where it cannot be retried (the message says why);
 * `invalid_argument` for `'all'` and for more than 1000 ids.
 */
export async function retry(which: string | Filter, options: { force?: boolean | undefined } = {}): Promise<string[]> {
  return call('retry', { which, force: options.force })
}

/**
 * Removes entries, delivered or not, with their payloads. This cannot be undone. Needs a permission that is not in `storage-sync:default`.
 *
 * @param which - An id, a filter with at least one property, or `'all'`.
 * @param options - `cascade`: also what depends on one of them, and what depends on that. Default `false`: such entries fail
 * (`parent-gone`) and are kept.
 * @returns What was removed, which of it the server may have applied, what could not be removed because an attempt is under way, and
 * what failed because it depended on something that was removed.
 * @throws {@link StorageSyncError} `not_found` for an id, and `invalid_argument` for a filter that says nothing (write `'all'` if that is
 * meant) and for more than 1000 ids.
 */
export async function discard(which: string | Filter | 'all', options: { cascade?: boolean | undefined } = {}): Promise<Discarded> {
  return call('discard', { which, cascade: options.cascade })
}

/**
 * Tries everything that waits, now, except where a server asked for patience, and resolves when that round is over.
 *
 * In a process that does not deliver it tells the one that does, and waits until nothing is left or the time is up.
 *
 * @param options - `timeout` in milliseconds: when it is over, the answer says how far it got, and delivery goes on. Default: until
 * the round is over (in a process that does not deliver: 30 000).
 * @returns How the entries fared meanwhile, by whatever they were sent.
 * @throws {@link StorageSyncError} `database`, `closed`.
 */
export async function flush(options: { timeout?: number | undefined } = {}): Promise<Flushed> {
  return call('flush', { timeoutMs: milliseconds(options.timeout) })
}

/**
 * Without an id: stops all delivery until `resume()`, also across restarts. What is under way gets its answer, but the uploads of files
 * stop where they are; saving goes on.
 *
 * With the id of an entry: that one waits until `resume(id)`, also across restarts, and what comes after it in its lane waits with it; all
 * else goes on. An upload stops where it is; what else is under way gets its answer. A newer entry that replaces it is not paused.
 *
 * Needs a permission that is not in `storage-sync:default`.
 *
 * @throws {@link StorageSyncError} `not_owner` without an id; with one `not_found`, and `wrong_state` where it is neither pending nor in
 * flight.
 *
 * @example
 * ```ts
 * await pause()           // everything
 * await pause(receipt.id) // this one
 * ```
 */
export async function pause(...of: [] | [id: string]): Promise<void> {
  await call('pause', one(of))
}

/**
 * Ends `pause()`, or `pause(id)` of that entry. Each ends its own: an entry that was paused stays so when delivery goes on. Needs a
 * permission that is not in `storage-sync:default`.
 *
 * @throws {@link StorageSyncError} as {@link pause}.
 */
export async function resume(...of: [] | [id: string]): Promise<void> {
  await call('resume', one(of))
}

/** An id that is not there by mistake must not mean everything. */
function one(of: [] | [id: string]): { id?: string } {
  if (of.length === 0) return {}
  const [id] = of as [unknown]
  if (typeof id !== 'string') {
    throw new StorageSyncError('invalid_argument', `an entry is named by the id of its receipt, which is a string and not ${typeof id}`)
  }
  return { id }
}

/**
 * Gives headers to send to one origin, kept in memory only; what waits for `auth` is tried at once. Needs a permission that is not in
 * `storage-sync:default`.
 *
 * Headers that change what a request means (`Host`, `Content-*`, `X-Forwarded-*`, `X-HTTP-Method-Override`, `Tus-*` and the like) are refused, and
 * one that the endpoint's configuration has as well is left out: the configuration's stands.
 *
 * @param credentials - The headers, for which origin (may be left out where all endpoints share one) and account (default: the current one).
 * @throws {@link StorageSyncError} `invalid_argument`: an origin that no endpoint uses, or a header that is refused.
 *
 * @example
 * ```ts
 * await setCredentials({ headers: { Authorization: `Bearer ${token}` } })
 * ```
 */
export async function setCredentials(credentials: Credentials): Promise<void> {
  const { origin, headers, account } = credentials
  await call('set_credentials', { origin, headers: toJson(headers, 'headers'), account })
}

/**
 * Makes a new master key for the current account and wraps everything that is queued under it, beside delivery. Nothing is unreadable at
 * any moment, also if the app is killed: the next start takes the rotation up. Needs a permission that is not in `storage-sync:default`.
 *
 * @returns What was done, and whether the old key is gone.
 * @throws {@link StorageSyncError} `keychain_locked`, `keychain_unavailable` (also when the app gives the key itself), `key_missing`,
 * `key_mismatch`, `database`.
 */
export async function rotateKey(): Promise<Rotated> {
  return call('rotate_key')
}
