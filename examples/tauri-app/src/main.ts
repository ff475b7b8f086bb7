import { invoke } from '@tauri-apps/api/core'

import { showAccount } from './account'
import { showBackend } from './backend'
import { showConflicts } from './conflict'
import { showDelivery } from './delivery'
import { attempt } from './dom'
import { showFiles } from './files'
import { showFolders } from './folders'
import { showListing } from './listing'
import { showQueue } from './queue'

showDelivery()
showQueue()
showAccount()
await attempt(async () => {
  const backend = await invoke<string>('backend')
  showBackend(backend)
  await showListing(backend)
  await showConflicts(backend)
  showFiles()
  await showFolders()
})
