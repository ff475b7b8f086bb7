import { afterEach, beforeEach, expect, test } from 'vitest'

import { unwatch, watch, watches, type Watch } from '../index.js'
import { Backend } from './backend.js'

const WATCH: Watch = {
  id: '0193f6a0-0000-7000-8000-000000000101',
  dir: '/home/ann/Scans',
  kind: 'scan',
  recursive: false,
  patterns: [],
  afterAck: 'keep',
  moveTo: null,
  state: 'waiting',
  why: null,
  files: 0,
  delivered: 0,
}

let backend: Backend

beforeEach(() => {
  backend = new Backend()
})

afterEach(() => backend.close())

test('a folder is watched as the options say, and what was left out is left out', async () => {
  const asked: unknown[] = []
  backend.on('watch', (args: unknown) => {
    asked.push(args)
    return WATCH
  })
  await expect(watch('/home/ann/Scans', { kind: 'scan', recursive: undefined, patterns: ['*.pdf'] })).resolves.toEqual(WATCH)
  expect(asked).toEqual([{ dir: '/home/ann/Scans', options: { kind: 'scan', patterns: ['*.pdf'] } }])
})

test('a watch is ended by what watch answered or by its id, and the others are listed', async () => {
  const ended: unknown[] = []
  backend.on('unwatch', (args: unknown) => {
    ended.push(args)
    return null
  })
  backend.on('watches', () => [WATCH])
  await unwatch(WATCH)
  await unwatch(WATCH.id)
  expect(ended).toEqual([{ id: WATCH.id }, { id: WATCH.id }])
  await expect(watches()).resolves.toEqual([WATCH])
})

test('what names no folder and no watch is refused before anything is asked', async () => {
  await expect(watch(5 as unknown as string, { kind: 'scan' })).rejects.toMatchObject({ code: 'invalid_argument' })
  await expect(watch('/a', 'scan' as unknown as { kind: string })).rejects.toMatchObject({ code: 'invalid_argument' })
  await expect(unwatch('not an id')).rejects.toMatchObject({ code: 'invalid_argument' })
})
