/** Credentials: held in memory by the Rust side, never by this page. */
import { setCredentials } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, write } from './dom'

export function showAccount(): void {
  const form = byId<HTMLFormElement>('account')
  form.addEventListener('submit', event => {
    event.preventDefault()
    const field = form.elements.namedItem('token') as HTMLInputElement
    void attempt(async () => {
      await setCredentials({ headers: { Authorization: `Bearer ${field.value.trim()}` } })
      field.value = ''
      write(byId('account-state'), 'Signed in for this session')
    })
  })
}
