/** Badges, what holds delivery up, and the buttons that steer it. */
import { CONFIRM_RESET, flush, pause, resetEncryptedData, resume, syncStatus, type Hold, type Status } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, confirmed, part, toast, write } from './dom'
import { KEY_WORDS, keyNotice, waitingWords } from './words'

export function showDelivery(): void {
  syncStatus.subscribe(show)
  byId('pause').addEventListener('click', () => void attempt(pause))
  byId('resume').addEventListener('click', () => void attempt(resume))
  part(byId('key-notice'), 'key-give-up').addEventListener('click', () => void attempt(giveUp))
  byId('flush').addEventListener('click', event => void attempt(() => sendNow(event.currentTarget as HTMLButtonElement)))
}

function show(status: Status): void {
  if (!status.ready) return
  for (const state of ['pending', 'inflight', 'acked', 'failed'] as const) {
    const badge = part(byId('badges'), `badge-${state}`)
    write(badge, String(status[state]))
    badge.parentElement?.toggleAttribute('data-some', status[state] > 0)
  }
  fact('delivery', deliveryWords(status), status.paused ? 'warn' : 'good')
  const key = status.key.state
  fact('key', KEY_WORDS[key], key === 'ready' ? 'good' : key === 'unused' ? 'plain' : 'bad')
  byId('pause').hidden = status.paused
  byId('resume').hidden = !status.paused
  showHolds(status.holds)
  const notice = keyNotice(status)
  byId('key-notice').hidden = notice === ''
  write(part(byId('key-notice'), 'key-notice-text'), notice)
  part(byId('key-notice'), 'key-give-up').hidden = key !== 'missing' && key !== 'mismatch'
}

async function giveUp(): Promise<void> {
  const sure = await confirmed(
    'Begin with an empty queue?',
    'What was saved and not sent yet cannot be read without the key. A copy of it is kept, encrypted, should the key turn up again.',
    'Begin anew',
  )
  if (!sure) return
  const { file, givenUp } = await resetEncryptedData({ confirm: CONFIRM_RESET })
  toast(`${givenUp} changes were given up. The copy is ${file}`)
}

function deliveryWords({ paused, owner }: Status): string {
  if (paused) return 'Paused: saving goes on, sending does not'
  return owner ? 'This app delivers' : 'Another window of the app delivers'
}

function fact(id: string, text: string, tone: 'good' | 'warn' | 'bad' | 'plain'): void {
  const element = byId(id)
  element.dataset['tone'] = tone
  write(element, text)
}

function showHolds(holds: readonly Hold[]): void {
  const list = byId('holds')
  const words = holds.map(({ kind, waitingFor }) => (kind ? `${waitingWords(waitingFor)} (${kind})` : waitingWords(waitingFor)))
  if ([...list.children].map(item => item.textContent).join('\n') === words.join('\n')) return
  list.replaceChildren(
    ...words.map(text => {
      const item = document.createElement('li')
      item.textContent = text
      return item
    }),
  )
}

async function sendNow(button: HTMLButtonElement): Promise<void> {
  button.disabled = true
  try {
    const { acked, failed, waiting } = await flush({ timeout: 15_000 })
    toast(`${acked} delivered, ${failed} failed, ${waiting} still waiting`)
  } finally {
    button.disabled = false
  }
}
