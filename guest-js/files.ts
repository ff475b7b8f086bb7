import { mediaType } from './bytes.js'
import { given } from './enqueue.js'
import { refused, StorageSyncError } from './errors.js'
import { idOf, newId } from './ids.js'
import { call } from './invoke.js'
import { tag, toJson } from './json.js'
import { inLanes, laneOf } from './lanes.js'
import { tell } from './listening.js'
import type { FileInfo, FileOptions, JsonValue, Named, Receipt } from './types.js'

/** So many files are handed over at the same time; others wait for one of them. */
const AT_ONCE = 4

/** So often in a row a piece is tried that does not get through. */
const TRIES = 3

let running = 0
const waiting: (() => void)[] = []

/** What the backend says of a file that is handed over. */
interface Begun {
  transfer: string
  piece: number
}

/**
 * Saves a copy of a file for delivery and resolves once it is on disk, encrypted. From then on the file may change or vanish, and the
 * upload goes on over crashes and restarts. Of any size: it is never held in memory as a whole, here or there.
 *
 * A `File` or `Blob` (from an `<input type="file">`, a drop or a canvas) is handed over in pieces. A path is opened by the backend: it must be
 * allowed by `roots` of the configuration or by Rust, or have been dropped on a window; links are not followed.
 *
 * Needs the permission `storage-sync:allow-enqueue-file`. Its endpoint says in which form it travels: `"raw"`, `"multipart"` or `"tus"`.
 *
 * @param kind - Names an endpoint of the app's configuration.
 * @param source - A `File` or `Blob`, or an absolute path.
 * @param options - Key, URL parameters, what it is called, media type, queue, what comes before, id; `signal` to give it up before it is saved,
 * `onProgress` to see how much of a `File` is.
 * @returns The receipt: it names the entry for ever. `discard` cancels the upload, `onProgress` tells how far it is.
 * @throws {@link StorageSyncError} `aborted` by the signal; `path_not_allowed`; `source_changed` when somebody keeps writing to the file; as
 * `enqueue`. Nothing was written then.
 *
 * @example
 * ```ts
 * for (const file of input.files) await enqueueFile('photo', file, { params: { listing: '42' } })
 * await getCurrentWebview().onDragDropEvent(({ payload }) => {
 *   if (payload.type === 'drop') payload.paths.forEach(path => enqueueFile('photo', path, { params: { listing: '42' } }))
 * })
 * ```
 */
export async function enqueueFile(kind: string, source: string | Blob, options: FileOptions = {}): Promise<Receipt> {
  if (typeof toJson(kind, 'kind') !== 'string') throw refused("kind is the name of an endpoint, such as 'photo'")
  const { signal, onProgress, contentType, name, ...rest } = options
  const said = { ...rest, ...(contentType !== undefined && { contentType: mediaType(contentType, '') }) }
  const lane = laneOf(kind, options.key)
  if (typeof source === 'string') {
    const args = { kind, path: source, options: given({ ...said, name }, 'options') }
    return inLanes([lane], () => copied(args, signal))
  }
  const blob = blobOf(source)
  const about = {
    ...said,
    contentType: mediaType(contentType, blob.type),
    name: name ?? (tag(blob) === 'File' ? (blob as File).name : undefined),
  }
  const begin = { kind, bytes: blob.size, options: given(about, 'options') }
  return inLanes([lane], () => inTurn(() => handOver(blob, begin, signal, onProgress)))
}

/**
 * What a file is called, how large it is, and its digest, as long as it is kept: until it is delivered or replaced. Needs the permission
 * `storage-sync:allow-file`.
 *
 * @param entry - The receipt of a file, or its id.
 * @throws {@link StorageSyncError} `not_found`; `wrong_state` for what is no file, or is no longer kept; `undecryptable`, `keychain_*`, `key_*`.
 */
export async function file(entry: Named): Promise<FileInfo> {
  return call<FileInfo>('file', { id: idOf(entry, 'file') })
}

function blobOf(source: unknown): Blob {
  const is = typeof source === 'object' && source !== null ? tag(source) : ''
  if (is !== 'Blob' && is !== 'File') throw refused('source is a File, a Blob or an absolute path; other bytes become new Blob([bytes])')
  return source as Blob
}

/** Not all at once: each holds a piece in memory. */
async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  // Whoever ends hands its place over, so that nobody who comes now takes it.
  if (running < AT_ONCE) running++
  else await new Promise<void>(resolve => waiting.push(resolve))
  try {
    return await work()
  } finally {
    const next = waiting.shift()
    if (next) next()
    else running--
  }
}

/** The backend copies it; by the name of its transfer it can be told to stop. */
async function copied(args: { kind: string; path: string; options: Record<string, JsonValue> }, signal: AbortSignal | undefined): Promise<Receipt> {
  stopped(signal)
  if (!signal) return call<Receipt>('enqueue_file', args)
  const transfer = newId()
  const giveUp = (): void => void call('enqueue_file', { transfer, abort: true }).catch(() => {})
  signal.addEventListener('abort', giveUp, { once: true })
  try {
    return await call<Receipt>('enqueue_file', { ...args, transfer })
  } catch (thrown) {
    if (thrown instanceof StorageSyncError && thrown.code === 'aborted') stopped(signal)
    throw thrown
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}

async function handOver(
  blob: Blob,
  begin: { kind: string; bytes: number; options: Record<string, JsonValue> },
  signal: AbortSignal | undefined,
  onProgress: FileOptions['onProgress'],
): Promise<Receipt> {
  stopped(signal)
  const { transfer, piece } = await call<Begun>('enqueue_file', begin)
  try {
    for (let offset = 0; offset < blob.size; ) {
      stopped(signal)
      offset = await pieceAt(transfer, offset, await bytesOf(blob.slice(offset, offset + piece)))
      if (onProgress) tell(onProgress, { bytes: offset, total: blob.size })
    }
    stopped(signal)
    return await call<Receipt>('enqueue_file', { transfer, finish: true })
  } catch (thrown) {
    // What went wrong is known already; a transfer that the backend has ended itself is no news.
    await call('enqueue_file', { transfer, abort: true }).catch(() => {})
    throw thrown
  }
}

/** Hands over one piece, and answers how far the backend is. Where a call did not get through it is asked, and goes on from there. */
async function pieceAt(transfer: string, offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<number> {
  const headers = { 'x-transfer': transfer, 'x-offset': String(offset) }
  for (let tries = 1; ; tries++) {
    try {
      return (await call<{ offset: number }>('enqueue_file', bytes, { headers })).offset
    } catch (thrown) {
      if (tries >= TRIES || !(thrown instanceof StorageSyncError) || thrown.code !== 'ipc') throw thrown
      const stands = await call<{ offset: number }>('enqueue_file', { transfer }).catch(() => undefined)
      if (stands && stands.offset > offset) return stands.offset
    }
  }
}

async function bytesOf(piece: Blob): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await piece.arrayBuffer())
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw refused(`the file cannot be read any more: ${why}`)
  }
}

function stopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new StorageSyncError('aborted', 'it was given up by its signal; nothing was saved', { cause: signal.reason })
  }
}
