/** Folders whose files upload themselves: which ones, how they are followed, and how far they are. */
import { invoke } from '@tauri-apps/api/core'
import { syncStatus, unwatch, watch, watches, type AfterAck, type Watch } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, copyOf, part, toast, write } from './dom'
import { WATCH_WORDS } from './words'

/** By the id of the watch. */
const rows = new Map<string, HTMLLIElement>()
let reading = false
let again = false

export async function showFolders(): Promise<void> {
  const form = byId<HTMLFormElement>('folder')
  const dir = part<HTMLInputElement>(form, 'folder-dir')
  dir.value = await invoke<string>('inbox')
  form.addEventListener('submit', event => {
    event.preventDefault()
    const afterAck = part<HTMLSelectElement>(form, 'folder-after').value as AfterAck
    void attempt(async () => {
      await watch(dir.value, { kind: 'scan', recursive: true, afterAck })
      toast('Watched from now on, also after a restart')
      await refresh()
    })
  })
  // Every change of a state or of a count is one of the status.
  syncStatus.subscribe(() => void attempt(refresh))
}

/** One question at a time; what changed meanwhile is asked for once more. */
async function refresh(): Promise<void> {
  again = true
  if (reading) return
  reading = true
  try {
    while (again) {
      again = false
      fill(await watches())
    }
  } finally {
    reading = false
  }
}

function fill(all: Watch[]): void {
  const list = byId('folder-list')
  for (const [id, row] of rows) {
    if (all.some(one => one.id === id)) continue
    row.remove()
    rows.delete(id)
  }
  for (const one of all) {
    const row = rows.get(one.id) ?? added(list, one)
    const words = WATCH_WORDS[one.state]
    row.dataset['state'] = one.state
    write(part(row, 'folder-name'), one.dir)
    write(part(row, 'folder-state'), words)
    write(part(row, 'folder-counts'), `${one.delivered} of ${one.files} files are on the server`)
    write(part(row, 'folder-why'), one.why ?? '')
  }
  list.hidden = all.length === 0
}

function added(list: HTMLElement, one: Watch): HTMLLIElement {
  const row = copyOf<HTMLLIElement>('folder-row')
  part(row, 'folder-stop').addEventListener('click', () =>
    void attempt(async () => {
      await unwatch(one)
      await refresh()
    }),
  )
  rows.set(one.id, row)
  list.append(row)
  return row
}
