import { given } from './enqueue.js'
import { refused } from './errors.js'
import { idOf } from './ids.js'
import { call } from './invoke.js'
import { toJson } from './json.js'
import type { Named, Watch, WatchOptions } from './types.js'

/**
 * Uploads the files of a folder from now on, also after restarts, until {@link unwatch}: those that are in it, and those that come or change.
 * What changed while the app was closed is found at the next start. Needs the permission `storage-sync:allow-watch`.
 *
 * A file counts as written once it has stayed the same for a moment (`folders.quietMs` of the configuration). One that is edited again is a newer
 * revision of the same thing: its key is a keyed hash of its path, and its name travels encrypted to the queue and by the endpoint's form to the
 * server (`path` beside the file). Left out are hidden files, files that are called as programs call what they are not done with (`.part`, `.tmp`,
 * `~`, …), links, and what `roots` of the configuration does not allow.
 *
 * @param dir - The absolute path of a folder that `roots` of the configuration or `allow_path` in Rust allow. One that is watched for the same kind
 * already is watched as `options` say from now on, under its id.
 * @param options - `kind`, and which files, and what becomes of them once the server has them.
 * @returns The watch.
 * @throws {@link StorageSyncError} `unknown_kind`; `invalid_argument` for an endpoint that takes no files, and for params or patterns that are none;
 * `path_not_allowed`; `io` when the folder cannot be opened; `keychain_*`, `key_*`.
 *
 * @example
 * ```ts
 * await watch(await join(await pictureDir(), 'Scans'), { kind: 'scan', patterns: ['*.pdf'], afterAck: 'move' })
 * ```
 */
export async function watch(dir: string, options: WatchOptions): Promise<Watch> {
  if (typeof toJson(dir, 'dir') !== 'string') throw refused('dir is the absolute path of a folder')
  if (typeof options !== 'object' || options === null) throw refused("options is an object such as { kind: 'scan' }")
  return call<Watch>('watch', { dir, options: given<WatchOptions & { after?: undefined }>(options, 'options') })
}

/**
 * Uploads no more files of a folder. What is queued stays so, and nothing is deleted anywhere. Needs the permission `storage-sync:allow-unwatch`.
 *
 * @param watch - What {@link watch} answered, or its id.
 * @throws {@link StorageSyncError} `not_found`.
 */
export async function unwatch(watch: Named): Promise<void> {
  await call('unwatch', { id: idOf(watch, 'watch') })
}

/**
 * The watched folders of the current account, the oldest first, and how each is followed. `Status.watches` says when to ask again. Needs the
 * permission `storage-sync:allow-watches`.
 *
 * @throws {@link StorageSyncError} `keychain_*`, `key_*`, if there are any: which folders they are is encrypted.
 */
export async function watches(): Promise<Watch[]> {
  return call<Watch[]>('watches')
}
