import { Channel } from '@tauri-apps/api/core'

import { idOf } from './ids.js'
import { call } from './invoke.js'
import { controllerOf, tell } from './listening.js'
import type { ListenOptions, Named, UploadProgress } from './types.js'

/**
 * Tells how far uploads are: those that are under way at once, and each that gets ahead, at most four times a second. What becomes of an
 * upload in the end is told by `onEntry` and `delivered`.
 *
 * A page that is loaded anew subscribes anew, and is told where everything stands.
 *
 * @param run - Called with the newest of one upload.
 * @param options - `id`: of that entry only, a receipt or its id. `signal`: ends it, as the function that is returned does.
 * @returns What ends it.
 * @throws {@link StorageSyncError} `ipc`, `invalid_argument`, `closed`.
 *
 * @example
 * ```ts
 * const receipt = await enqueueFile('photo', file)
 * const stop = await onProgress(({ sent, total }) => (bar.value = sent / total), { id: receipt })
 * await delivered(receipt)
 * stop()
 * ```
 */
export async function onProgress(
  run: (progress: UploadProgress) => void,
  options: ListenOptions & { id?: Named } = {},
): Promise<() => void> {
  const id = options.id === undefined ? undefined : idOf(options.id, 'options.id')
  const own = controllerOf(options)
  if (own.signal.aborted) return () => {}
  const channel = new Channel<UploadProgress[]>(news => {
    for (const progress of news) {
      if (!own.signal.aborted) tell(run, progress)
    }
  })
  const number = await call<number>('progress', { channel, ...(id !== undefined && { id }) })
  // A page on its way out may reject it.
  const end = () => void call('progress', { stop: number }).catch(() => {})
  if (own.signal.aborted) end()
  else own.signal.addEventListener('abort', end, { once: true })
  return () => own.abort()
}
