/** Photos and files: dropped or chosen, copied at once, uploaded when it can be, with a bar for each. */
import {
  discard,
  enqueueFile,
  file as fileOf,
  newId,
  onProgress,
  pause,
  resume,
  retry,
  StorageSyncError,
  syncEntries,
  syncStatus,
  type Entry,
  type UploadProgress,
} from 'tauri-plugin-storage-sync-api'
import { convertFileSrc } from '@tauri-apps/api/core'
import { getCurrentWebview } from '@tauri-apps/api/webview'

import { attempt, byId, confirmed, copyOf, part, toast, write } from './dom'
import { listingKey } from './listing'
import { counts, sizeOf, timeOf, whyOf } from './words'

const uploads = syncEntries({ kind: 'file', state: ['pending', 'inflight', 'failed', 'acked'], limit: 30 })

/** A file on this page: from the moment it is given, so before there is an entry. */
interface Row {
  readonly id: string
  readonly element: HTMLLIElement
  name: string
  bytes: number
  /** As long as it is copied. */
  copying: { bytes: number; stop: AbortController } | undefined
  entry: Entry | undefined
  progress: UploadProgress | undefined
}

/** How the name of a picture ends: of what is dropped there is only the path. */
const PICTURES = new Set(['AVIF', 'BMP', 'GIF', 'JPEG', 'JPG', 'PNG', 'SVG', 'WEBP'])

/** By the id of the entry, newest first. */
const rows = new Map<string, Row>()
let countdown: ReturnType<typeof setInterval> | undefined

export function showFiles(): void {
  const picker = byId<HTMLInputElement>('file-picker')
  picker.addEventListener('change', () => {
    addAll([...(picker.files ?? [])])
    picker.value = ''
  })
  listenForDrops()
  byId('files-pause').addEventListener('click', () => void attempt(() => (syncStatus.getSnapshot().paused ? resume() : pause())))
  syncStatus.subscribe(({ paused }) => {
    write(byId('files-pause'), paused ? 'Resume uploads' : 'Pause uploads')
    byId('files-pause').classList.toggle('primary', paused)
  })
  uploads.subscribe(follow)
  void attempt(() =>
    onProgress(progress => {
      const row = rows.get(progress.id)
      if (!row) return
      row.progress = progress
      fill(row)
    }),
  )
}

/** What is dropped comes as paths, which the plugin may open because it saw the drop. */
function listenForDrops(): void {
  const zone = byId('drop-zone')
  void attempt(() =>
    getCurrentWebview().onDragDropEvent(({ payload }) => {
      zone.toggleAttribute('data-over', payload.type === 'enter' || payload.type === 'over')
      if (payload.type === 'drop') addAll(payload.paths)
    }),
  )
}

function addAll(files: (File | string)[]): void {
  for (const file of files) void add(file)
}

async function add(file: File | string): Promise<void> {
  const name = typeof file === 'string' ? (file.split(/[\\/]/).pop() ?? file) : file.name
  const row = shown(newId(), name, typeof file === 'string' ? 0 : file.size)
  const stop = new AbortController()
  row.copying = { bytes: 0, stop }
  const image = pictureOf(file, name)
  if (image !== undefined) picture(row, image)
  fill(row)
  try {
    await enqueueFile('file', file, {
      id: row.id,
      params: { listing: listingKey() },
      metadata: { listing: listingKey() },
      signal: stop.signal,
      onProgress: ({ bytes }) => {
        if (row.copying) row.copying.bytes = bytes
        fill(row)
      },
    })
    row.copying = undefined
    // It was saved before it could be given up.
    if (stop.signal.aborted) await discard(row.id)
    follow(uploads.getSnapshot())
  } catch (error) {
    remove(row)
    if (!(error instanceof StorageSyncError) || error.code !== 'aborted') {
      toast(`${name} was not saved: ${error instanceof Error ? error.message : String(error)}`, 'bad')
    }
  }
}

/** Where the page may see it, if it is a picture. What was dropped, and nothing else, the app may show through the asset protocol. */
function pictureOf(file: File | string, name: string): string | undefined {
  if (typeof file === 'string') return PICTURES.has(extension(name).toUpperCase()) ? convertFileSrc(file) : undefined
  return file.type.startsWith('image/') ? URL.createObjectURL(file) : undefined
}

/** The thumbnail lives in this page only: the plugin keeps nothing of a file but its encrypted copy. */
function picture(row: Row, source: string): void {
  const image = document.createElement('img')
  image.alt = ''
  image.src = source
  image.addEventListener('load', () => URL.revokeObjectURL(image.src), { once: true })
  image.addEventListener('error', () => image.remove(), { once: true })
  part(row.element, 'file-thumb').append(image)
}

/** The row of that entry, which is made if it is not there. */
function shown(id: string, name: string, bytes: number): Row {
  const known = rows.get(id)
  if (known) return known
  const row: Row = { id, element: copyOf<HTMLLIElement>('file-row'), name, bytes, copying: undefined, entry: undefined, progress: undefined }
  row.element.dataset['id'] = id
  rows.set(id, row)
  part(row.element, 'file-cancel').addEventListener('click', () => void attempt(() => cancel(row)))
  part(row.element, 'file-pause').addEventListener('click', () => void attempt(() => (row.entry?.paused ? resume(id) : pause(id))))
  part(row.element, 'file-retry').addEventListener('click', () => void attempt(() => retry(id)))
  // Ids are by time, so the newest is the greatest.
  const after = [...rows.values()].filter(other => other.id < id).sort((a, b) => (a.id < b.id ? 1 : -1))[0]
  byId('file-list').insertBefore(row.element, after?.element ?? null)
  byId('file-list').hidden = false
  return row
}

function remove(row: Row): void {
  rows.delete(row.id)
  row.element.remove()
  byId('file-list').hidden = rows.size === 0
}

/** What the queue says. */
function follow(entries: readonly Entry[]): void {
  const listed = new Map(entries.map(entry => [entry.id, entry]))
  for (const entry of entries) {
    const row = rows.get(entry.id) ?? fromBefore(entry)
    row.entry = entry
    row.bytes = entry.bytes
    if (entry.state !== 'inflight') row.progress = undefined
  }
  for (const row of [...rows.values()]) {
    if (row.entry && !row.copying && !listed.has(row.id)) remove(row)
    else fill(row)
  }
  tick(entries)
}

/** A file of an earlier run. What it is called is kept encrypted, as long as the file is. */
function fromBefore(entry: Entry): Row {
  const row = shown(entry.id, 'A file from before', entry.bytes)
  fileOf(entry).then(
    ({ name }) => {
      row.name = name ?? row.name
      fill(row)
    },
    () => {},
  )
  return row
}

function fill(row: Row): void {
  const { element, entry } = row
  const state = row.copying ? 'copying' : (entry?.state ?? 'copying')
  element.dataset['state'] = state
  write(part(element, 'file-name'), row.name)
  write(part(element, 'file-type'), extension(row.name))
  const bar = part(element, 'file-bar')
  const done = share(row)
  bar.style.setProperty('--done', `${(done * 100).toFixed(1)}%`)
  bar.setAttribute('aria-valuenow', String(Math.round(done * 100)))
  bar.setAttribute('aria-label', `Upload of ${row.name}`)
  write(part(element, 'file-size'), row.bytes > 0 ? sizeOf(row.bytes) : '')
  write(part(element, 'file-state'), words(row))
  part(element, 'file-retry').hidden = state !== 'failed'
  const hold = part(element, 'file-pause')
  hold.hidden = state !== 'pending' && state !== 'inflight'
  write(hold, entry?.paused ? 'Resume' : 'Pause')
  hold.setAttribute('aria-label', `${hold.textContent} ${row.name}`)
  const cancel = part(element, 'file-cancel')
  write(cancel, state === 'acked' ? 'Clear' : 'Cancel')
  cancel.setAttribute('aria-label', `${cancel.textContent} ${row.name}`)
}

/** How much of it is where it is to be, from 0 to 1. */
function share({ copying, entry, progress, bytes }: Row): number {
  if (copying) return bytes > 0 ? copying.bytes / bytes : 0
  if (entry?.state === 'acked') return 1
  const sent = progress?.sent ?? entry?.uploaded ?? 0
  return bytes > 0 ? Math.min(1, sent / bytes) : 0
}

function words({ copying, entry, progress, bytes }: Row): string {
  if (copying || !entry) return copying && bytes > 0 ? `Saving on this device… ${sizeOf(copying.bytes)}` : 'Saving on this device…'
  if (entry.state === 'inflight' && progress) {
    const rate = progress.rate > 0 ? ` · ${sizeOf(progress.rate)}/s` : ''
    const left = progress.left === null ? '' : ` · ${timeOf(progress.left)} left`
    return `${sizeOf(progress.sent)} sent${rate}${left}`
  }
  if (entry.state === 'acked') return 'Delivered'
  if (entry.state === 'pending') {
    const begun = entry.uploaded > 0 ? `${sizeOf(entry.uploaded)} sent` : 'Saved on this device'
    return `${begun} · ${whyOf(entry)}`
  }
  return whyOf(entry)
}

function extension(name: string): string {
  const at = name.lastIndexOf('.')
  return at > 0 && name.length - at <= 6 ? name.slice(at + 1) : 'file'
}

async function cancel(row: Row): Promise<void> {
  if (row.copying) {
    row.copying.stop.abort()
    return
  }
  const arrived = row.entry?.state === 'acked'
  const sure = arrived || (await confirmed(`Cancel the upload of ${row.name}?`, 'The copy on this device goes, and what was sent so far is given up.', 'Cancel upload'))
  if (sure) await discard(row.id)
}

/** Waiting times count down; when nothing counts, nothing runs. */
function tick(entries: readonly Entry[]): void {
  const counting = entries.some(entry => counts(entry.waitingFor))
  if (counting && countdown === undefined) countdown = setInterval(() => rows.forEach(fill), 1000)
  if (!counting) {
    clearInterval(countdown)
    countdown = undefined
  }
}
