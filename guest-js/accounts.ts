import { call, milliseconds } from './invoke.js'
import { AUTH_EVENT, controllerOf, listenUntil, report, tell } from './listening.js'
import { status } from './status.js'
import type { AuthRequired, ListenOptions, Reset, SignedOut, SignOutOptions } from './types.js'

/** What `resetEncryptedData` wants to be told, word for word. */
export const CONFIRM_RESET = 'give up what is queued'

/**
 * Makes an account the current one, also after a restart. Every function of this package is confined to it from then on, and only its
 * entries are delivered; those of other accounts wait until theirs is the current one again. Needs a permission that is not in
 * `storage-sync:default`.
 *
 * @param account - Any text that names the user for ever, such as an id of your own; `''` for apps without accounts. It is stored as plain
 * text: no secrets.
 * @throws {@link StorageSyncError} `invalid_argument` for more than 256 bytes or control characters.
 */
export async function setAccount(account: string): Promise<void> {
  await call('set_account', { account })
}

/**
 * Signs the current account out: its credentials and its key go from memory, nothing more of it is sent, and the current account is `''`,
 * also after a restart. What is being sent at this moment gets 3 s to be answered, and is then cut off; such an entry stays
 * `possiblySent`. Needs a permission that is not in `storage-sync:default`.
 *
 * @param options - `pending` says what becomes of its entries. `'keep'` (default): they stay on the disk, encrypted, and are delivered when
 * the same account is back. `'flush'`: as far as possible they are delivered first, for `timeout` milliseconds at most (default 10 000);
 * what is left is kept. `'discard'`: they are destroyed, and the account's key with them; that cannot be undone, and if the app ends
 * meanwhile the next start finishes it.
 * @returns What became of them.
 * @throws {@link StorageSyncError} `not_owner`; `wrong_state` when entries would stay that belong to no account: whoever signs in next would
 * send them.
 *
 * @example
 * ```ts
 * const { kept } = await signOut({ pending: 'flush', timeout: 5000 })
 * if (kept > 0) alert(`${kept} changes are sent when you sign in again`)
 * ```
 */
export async function signOut(options: SignOutOptions = {}): Promise<SignedOut> {
  return call('sign_out', { pending: options.pending, timeoutMs: milliseconds(options.timeout) })
}

/**
 * Gives up what the current account has queued under a key that is lost (`status().key.state` is `missing` or `mismatch`), and begins an
 * empty queue with a new key. A copy of the queue is kept in the app's data folder, encrypted as it was. Needs a permission that is not in
 * `storage-sync:default`.
 *
 * @param options - `confirm` is {@link CONFIRM_RESET}, so that nobody calls this by accident.
 * @returns Where the copy is, and how much is in it that was not delivered.
 * @throws {@link StorageSyncError} `invalid_argument` without the confirmation; `not_owner`; `wrong_state` when the key is there;
 * `keychain_locked` and `keychain_unavailable` when it may be there; `disk_full`. Nothing was given up then.
 */
export async function resetEncryptedData(options: { confirm: string }): Promise<Reset> {
  return call('reset_encrypted_data', { confirm: options?.confirm })
}

/**
 * Calls `run` when a server wants the user to sign in: at once if one does now, and from then on once for each set of credentials that is
 * refused. Entries wait meanwhile, and go on by themselves after `setCredentials`.
 *
 * @param run - Gets the origin that asks. What it throws is reported on the console.
 * @param options - `signal`: aborting ends it, also while this function is still being awaited.
 * @returns A function that ends it. It may be called more than once.
 * @throws {@link StorageSyncError} what `status()` throws, and `ipc` where the window may not listen to events (`core:event:default`).
 *
 * @example
 * ```ts
 * await onAuthRequired(async () => {
 *   const token = await showSignIn()
 *   await setCredentials({ headers: { Authorization: `Bearer ${token}` } })
 * })
 * ```
 */
export async function onAuthRequired(run: (required: AuthRequired) => void, options: ListenOptions = {}): Promise<() => void> {
  const own = controllerOf(options)
  const told = new Set<number>()
  const look = async () => {
    const { holds } = await status()
    for (const { waitingFor, asked } of holds) {
      if (waitingFor.reason !== 'auth' || asked === undefined || told.has(asked) || own.signal.aborted) continue
      told.add(asked)
      tell(run, Object.freeze({ origin: waitingFor.origin }))
    }
  }
  // An event says that a server asks, and only the status says which one: any window may hear events.
  const hear = () => {
    look().catch(thrown => {
      if (!own.signal.aborted) report('it is not known which server asks for credentials', thrown)
    })
  }
  try {
    // Listened to first, so that nothing falls between.
    await listenUntil(AUTH_EVENT, hear, own.signal)
    if (!own.signal.aborted) await look()
  } catch (thrown) {
    if (!own.signal.aborted) {
      own.abort()
      throw thrown
    }
  }
  return () => own.abort()
}
