import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { onProgress, type UploadProgress } from '../index.js'
import { Backend, gate } from './backend.js'

const ID = '0193f6a0-0000-7000-8000-000000000001'

let backend: Backend
let tell: (news: UploadProgress[]) => void

beforeEach(() => {
  backend = new Backend()
  let number = 0
  backend.on('progress', (args: { channel?: { onmessage: typeof tell }; stop?: number }) => {
    if (args.stop !== undefined) return null
    tell = args.channel!.onmessage
    return ++number
  })
})

afterEach(() => backend.close())

const upload = (sent: number, id = ID): UploadProgress => ({ id, sent, total: 100, rate: 10, left: null })

test('news are told one by one until they are wanted no more', async () => {
  const seen: UploadProgress[] = []
  const stop = await onProgress(progress => seen.push(progress))
  tell([upload(1), upload(2, 'other')])
  tell([upload(3)])
  expect(seen.map(({ sent }) => sent)).toEqual([1, 2, 3])
  stop()
  stop()
  tell([upload(4)])
  expect(seen).toHaveLength(3)
  expect(backend.calls.map(({ args }) => (args as { stop?: number }).stop)).toEqual([undefined, 1])
})

test('of one entry only, by its receipt or its id', async () => {
  await onProgress(() => {}, { id: { id: ID.toUpperCase() } })
  expect(backend.last('progress').args).toMatchObject({ id: ID })
  await expect(onProgress(() => {}, { id: 'x' })).rejects.toMatchObject({ code: 'invalid_argument' })
})

test('what the app throws stops nothing', async () => {
  const reported = vi.spyOn(console, 'error').mockImplementation(() => {})
  const seen: number[] = []
  await onProgress(({ sent }) => {
    seen.push(sent)
    throw new Error('of the app')
  })
  tell([upload(1), upload(2)])
  expect(seen).toEqual([1, 2])
  expect(reported).toHaveBeenCalledTimes(2)
  reported.mockRestore()
})

test('a signal ends it, also before the backend has answered', async () => {
  await onProgress(() => {}, { signal: AbortSignal.abort() })
  expect(backend.calls).toEqual([])
  const answered = gate()
  backend.on('progress', async (args: { stop?: number }) => {
    if (args.stop !== undefined) return null
    await answered.promise
    return 7
  })
  const own = new AbortController()
  const subscribed = onProgress(() => {}, { signal: own.signal })
  own.abort()
  answered.open()
  await subscribed
  expect(backend.last('progress').args).toEqual({ stop: 7 })
})
