/** Who is signed in. Credentials are held in memory by the Rust side, never by this page. */
import { onAuthRequired, setAccount, setCredentials, signOut, syncStatus, type Leftover, type SignedOut, type Status } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, part, toast, write } from './dom'

/** Whether somebody has signed in since the app started. */
let inThisSession = false

export function showAccount(): void {
  const form = byId<HTMLFormElement>('account')
  form.addEventListener('submit', event => {
    event.preventDefault()
    void attempt(() => signIn(form))
  })
  byId('sign-out').addEventListener('click', () => void attempt(leave))
  part(byId('sign-in-prompt'), 'sign-in-show').addEventListener('click', toTheForm)
  syncStatus.subscribe(show)
  // Once for each set of credentials that the server refuses; the notice stays for as long as it does.
  void attempt(() => onAuthRequired(toTheForm))
}

function show(status: Status): void {
  if (!status.ready) return
  byId('sign-in-prompt').hidden = !status.holds.some(hold => hold.waitingFor.reason === 'auth')
  byId('sign-out').hidden = !inThisSession && status.account === ''
  const who = status.account === '' ? 'this session' : status.account
  const known = inThisSession ? `Signed in as ${who}` : `${status.account}: sign in again, the token was not kept`
  write(byId('account-state'), inThisSession || status.account !== '' ? known : 'Not signed in in this session')
}

function toTheForm(): void {
  const field = part<HTMLInputElement>(byId('account'), 'sign-in-token')
  field.scrollIntoView({ block: 'center' })
  field.focus()
}

async function signIn(form: HTMLFormElement): Promise<void> {
  const [name, token] = ['name', 'token'].map(field => form.elements.namedItem(field) as HTMLInputElement) as [
    HTMLInputElement,
    HTMLInputElement,
  ]
  const account = name.value.trim()
  // The credentials first, so that nothing is tried without them.
  await setCredentials({ account, headers: { Authorization: `Bearer ${token.value.trim()}` } })
  await setAccount(account)
  inThisSession = true
  token.value = ''
  show(syncStatus.getSnapshot())
}

async function leave(): Promise<void> {
  const { pending, inflight, failed } = syncStatus.getSnapshot()
  const waiting = pending + inflight + failed
  const choice = waiting > 0 ? await asked(waiting) : 'keep'
  if (choice === 'cancel') return
  const done = await signOut({ pending: choice, timeout: 10_000 })
  inThisSession = false
  byId<HTMLFormElement>('account').reset()
  show(syncStatus.getSnapshot())
  toast(wordsFor(done))
}

/** What is to become of what the server does not have yet. */
function asked(waiting: number): Promise<Leftover | 'cancel'> {
  const dialog = byId<HTMLDialogElement>('leave')
  const what = waiting === 1 ? 'One change was' : `${waiting} changes were`
  write(
    byId('leave-text'),
    `${what} not sent yet. They can be sent now, wait on this device until you sign in again, or be deleted for good.`,
  )
  dialog.returnValue = 'cancel'
  dialog.showModal()
  return new Promise(resolve => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue as Leftover | 'cancel'), { once: true })
  })
}

function wordsFor({ account, delivered, kept, discarded, possiblyApplied }: SignedOut): string {
  const parts = [account === '' ? 'Signed out' : `${account} is signed out`]
  if (delivered > 0) parts.push(`${delivered} sent`)
  if (kept > 0) parts.push(`${kept} kept for the next sign-in`)
  if (discarded > 0) parts.push(`${discarded} deleted`)
  if (possiblyApplied.length > 0) parts.push(`the server may have ${possiblyApplied.length} of them`)
  return parts.join(', ')
}
