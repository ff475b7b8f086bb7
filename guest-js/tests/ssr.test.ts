// @vitest-environment node
import { expect, test } from 'vitest'

test('importing touches no window, and what needs one says so only when it is called', async () => {
  expect(typeof window).toBe('undefined')
  const api = await import('../index.js')
  expect(api.syncStatus.getSnapshot()).toMatchObject({ ready: false, pending: 0, inflight: 0, acked: 0, failed: 0 })
  expect(api.syncEntries().getSnapshot()).toEqual([])
  await expect(api.enqueue('form', 1)).rejects.toMatchObject({ name: 'StorageSyncError', code: 'ipc' })
  await expect(api.subscribe(() => {})).rejects.toMatchObject({ name: 'StorageSyncError', code: 'ipc' })
})
