/** A listing that was changed on two devices: both versions side by side, and somebody decides. */
import { get, onConflict, payload, resolve, type Entry } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, copyOf, part, toast, write } from './dom'
import { fromServer, takeOver, type Draft } from './listing'
import { clock } from './words'

/** The fields of a listing, as a reader would name them. */
const FIELDS: readonly [keyof Draft, string][] = [
  ['title', 'Title'],
  ['price', 'Price'],
  ['description', 'Description'],
]

let url = ''
/** One question at a time. */
let asking: Promise<void> = Promise.resolve()

export async function showConflicts(backend: string): Promise<void> {
  url = backend
  // Also those that were met while no window was open.
  await onConflict(entry => decide(entry.id))
}

/** Whether somebody has to decide before it is sent or given up. */
export function isContested(entry: Entry): boolean {
  return entry.kind === 'form' && entry.state === 'failed' && entry.reason === 'conflict'
}

/** Shows both versions and does what is chosen. "Later" leaves it in the queue, where it can be decided at any time. */
export function decide(id: string): Promise<void> {
  asking = asking.then(() => attempt(() => ask(id)))
  return asking
}

async function ask(id: string): Promise<void> {
  const entry = await get(id)
  if (!entry.key || !isContested(entry)) return
  const mine = await payload<Draft>(id)
  const theirs = await fromServer(url, entry.key)
  if (!mine || mine instanceof Uint8Array) return
  show(entry, mine, theirs)
  const choice = await chosen()
  if (choice === 'mine') {
    await resolve(id, 'mine')
    toast('Your version is on its way')
  } else if (choice === 'theirs') {
    await resolve(id, 'theirs')
    if (theirs) takeOver(entry.key, theirs)
    toast('The version on the server stands')
  }
}

function show(entry: Entry, mine: Draft, theirs: Draft | undefined): void {
  write(byId('conflict-key'), entry.key ?? '')
  write(byId('conflict-mine-when'), `typed here, ${clock(entry.createdAt)}`)
  const differs = (field: keyof Draft): boolean => words(mine, field) !== words(theirs, field)
  fill('conflict-mine', mine, differs)
  fill('conflict-theirs', theirs, differs)
}

function fill(side: string, draft: Draft | undefined, differs: (field: keyof Draft) => boolean): void {
  const rows = FIELDS.map(([field, name]) => {
    const row = copyOf<HTMLDivElement>('conflict-field')
    row.toggleAttribute('data-differs', differs(field))
    write(row.querySelector('dt')!, name)
    const value = part(row, 'conflict-value')
    value.dataset['testid'] = `${side}-${field}`
    write(value, words(draft, field))
    return row
  })
  byId(side).replaceChildren(...rows)
}

function words(draft: Draft | undefined, field: keyof Draft): string {
  const value = draft?.[field]
  if (value === undefined || value === null || value === '') return '–'
  return typeof value === 'number' ? value.toFixed(2) : value
}

function chosen(): Promise<string> {
  const dialog = byId<HTMLDialogElement>('conflict')
  // What Escape leaves.
  dialog.returnValue = 'later'
  dialog.showModal()
  return new Promise(done => {
    dialog.addEventListener('close', () => done(dialog.returnValue), { once: true })
  })
}
