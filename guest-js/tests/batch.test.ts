import { Blob } from 'node:buffer' // jsdom's cannot be read

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { enqueue, enqueueAll, newId, ref, StorageSyncError, type NewItem } from '../index.js'
import { Backend, gate } from './backend.js'

const one = '0193f6a0-0000-7000-8000-000000000001'
const receipts = [{ id: one, kind: 'form', key: null }]
let backend: Backend

beforeEach(() => {
  backend = new Backend().on('enqueue_all', receipts).on('enqueue', receipts[0])
})
afterEach(() => backend.close())

describe('a new id', () => {
  test('is a UUID of version 7 that nothing else has', () => {
    const ids = Array.from({ length: 1000 }, newId)
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('begins with the time', () => {
    const time = Number.parseInt(newId().replaceAll('-', '').slice(0, 12), 16)
    expect(Math.abs(time - Date.now())).toBeLessThan(60_000)
  })
})

describe('a reference', () => {
  test('names an entry by its receipt, its item or its id', () => {
    const text = `{storage-sync:${one}}`
    expect([ref(one), ref({ id: one }), ref(receipts[0]!), ref(one.toUpperCase())]).toEqual([text, text, text, text])
  })

  test.each([undefined, null, 5, '', 'listing/42', `${one} `, {}, { id: 5 }])('to %j is refused', value => {
    expect(() => ref(value as string)).toThrow(StorageSyncError)
    expect(() => ref(value as string)).toThrow('ref takes a receipt')
  })
})

describe('what comes before', () => {
  test('is named by receipts or ids', async () => {
    await enqueue('form', 1, { after: [receipts[0]!, one.toUpperCase()] })
    expect(backend.last('enqueue').args).toMatchObject({ options: { after: [one, one] } })
    await enqueue('form', null, { key: 'a', action: 'delete', after: [] })
    expect(backend.last('enqueue').args).toEqual({ kind: 'form', payload: null, options: { key: 'a', action: 'delete', after: [] } })
  })

  test.each([[[5]], [['x']], ['x'], [one], [{}]])('%j is refused', async after => {
    await expect(enqueue('form', 1, { after: after as never })).rejects.toMatchObject({ code: 'invalid_argument' })
    expect(backend.calls).toEqual([])
  })
})

describe('a batch', () => {
  test('goes in one call and its receipts come back', async () => {
    const id = newId()
    const listing = { id, kind: 'listing', payload: { at: new Date(0) }, key: 'draft/7' }
    const note: NewItem = { kind: 'note', payload: { about: ref(listing) }, queue: 'every', after: [listing], key: undefined }
    await expect(enqueueAll([listing, note])).resolves.toEqual(receipts)
    expect(backend.calls).toEqual([
      {
        command: 'enqueue_all',
        args: {
          entries: [
            { kind: 'listing', payload: { at: '1970-01-01T00:00:00.000Z' }, options: { id, key: 'draft/7' } },
            { kind: 'note', payload: { about: `{storage-sync:${id}}` }, options: { queue: 'every', after: [id] } },
          ],
        },
        headers: {},
      },
    ])
  })

  test('of nothing is asked for too', async () => {
    backend.on('enqueue_all', [])
    await expect(enqueueAll([])).resolves.toEqual([])
    expect(backend.last('enqueue_all').args).toEqual({ entries: [] })
  })

  test('with bytes goes as a header and the bytes', async () => {
    const buffer = Uint8Array.of(7)
    const sent = enqueueAll([
      { kind: 'photo', payload: Uint8Array.of(0, 255), contentType: 'image/png' },
      { kind: 'form', payload: 'ü', key: 'a' },
      { kind: 'photo', payload: new Blob([], { type: 'image/webp' }) },
      { kind: 'photo', payload: buffer, params: { listing: 'a' } },
    ])
    buffer.fill(9)
    await sent
    const { args, headers } = backend.last('enqueue_all')
    const framed = args as Uint8Array
    const length = new DataView(framed.buffer, framed.byteOffset).getUint32(0)
    expect(JSON.parse(new TextDecoder().decode(framed.subarray(4, 4 + length)))).toEqual({
      entries: [
        { kind: 'photo', contentType: 'image/png', bytes: 2, options: {} },
        { kind: 'form', payload: 'ü', options: { key: 'a' } },
        { kind: 'photo', contentType: 'image/webp', bytes: 0, options: {} },
        { kind: 'photo', contentType: 'application/octet-stream', bytes: 1, options: { params: { listing: 'a' } } },
      ],
    })
    expect([...framed.subarray(4 + length)]).toEqual([0, 255, 7])
    expect(headers).toEqual({})
  })

  test.each<[string, unknown, string]>([
    ['no list', 'form', 'entries is a list'],
    ['no object', [{ kind: 'form', payload: 1 }, 5], 'entries[1] is an object'],
    ['null', [null], 'entries[0] is an object'],
    ['without a kind', [{ payload: 1 }], 'entries[0].kind'],
    ['without a payload', [{ kind: 'form' }], 'entries[0].payload is undefined'],
    ['with what JSON cannot hold', [{ kind: 'form', payload: 1 }, { kind: 'form', payload: { a: NaN } }], 'entries[1].payload.a is NaN'],
    ['with a param that JSON cannot hold', [{ kind: 'form', payload: 1, params: { n: 1n } }], 'entries[0].params.n is a BigInt'],
    ['with something that is no entry before it', [{ kind: 'form', payload: 1, after: ['x'] }], 'entries[0].after[0]'],
    ['with a media type for JSON', [{ kind: 'form', payload: 1, contentType: 'a/b' }], 'contentType'],
    ['with no media type for bytes', [{ kind: 'form', payload: new Uint8Array(1), contentType: 'png' }], 'contentType'],
  ])('%s is refused before anything is sent', async (_, items, message) => {
    const refused = await enqueueAll(items as NewItem[]).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining(message) })
    expect(backend.calls).toEqual([])
  })

  test('keeps its place in every lane that it has an entry in', async () => {
    const first = gate()
    const batch = gate()
    backend.on('enqueue', async ({ payload }: { payload: number }) => {
      if (payload === 1) await first.promise
      return receipts[0]
    })
    backend.on('enqueue_all', async () => {
      await batch.promise
      return receipts
    })
    const seen = () =>
      backend.calls.map(call => (call.command === 'enqueue_all' ? 'batch' : (call.args as { payload: number }).payload))
    const sent = [
      enqueue('form', 1, { key: 'a' }),
      enqueueAll([
        { kind: 'form', payload: 2, key: 'a' },
        { kind: 'form', payload: 3, key: 'b' },
      ]),
      enqueue('form', 4, { key: 'b' }),
      enqueue('form', 5, { key: 'c' }),
    ]
    await sent[3]
    expect(seen()).toEqual([1, 5])
    first.fail({ code: 'disk_full', message: 'full' })
    await expect(sent[0]).rejects.toMatchObject({ code: 'disk_full' })
    await expect.poll(seen).toEqual([1, 5, 'batch'])
    batch.open()
    await Promise.all(sent.slice(1))
    expect(seen()).toEqual([1, 5, 'batch', 4])
  })
})
