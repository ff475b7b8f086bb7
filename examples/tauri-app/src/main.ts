import { invoke } from '@tauri-apps/api/core'

import { showAccount } from './account'
import { showBackend } from './backend'
import { showConflicts } from './conflict'
import { showDelivery } from './delivery'
import { attempt } from './dom'
import { showFiles } from './files'
import { showFolders } from './folders'
import { restoreListing, showListing } from './listing'
import { showQueue } from './queue'

showDelivery()
showQueue()
showAccount()
// Before anything is waited for: what somebody types, chooses or drops at once must find a listener.
showListing()
showFiles()
await attempt(async () => {
  const backend = await invoke<string>('backend')
  showBackend(backend)
  await restoreListing(backend)
  await showConflicts(backend)
  await showFolders()
})
