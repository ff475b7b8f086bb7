// A tus server (@tus/server) for the tests, behind a door that can be told to misbehave as the things in front of real servers do.
//
//   node server.mjs FOLDER PORT    says `listening PORT`, then one line for each request; ends with its standard input.
//
// FOLDER/control.json is read anew for each request:
//   maxBody        bodies above so many bytes are refused with 413 before they are read, and the connection is closed
//   authorization  what `Authorization` has to be; anything else is refused with 401
//   finish         what the server does when an upload is complete: { status_code, body, headers }, or { fail: status }

import { readFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const [folder, port] = process.argv.slice(2)
const HOUR = 60 * 60 * 1000

function control() {
  try {
    return JSON.parse(readFileSync(join(folder, 'control.json'), 'utf8'))
  } catch (error) {
    if (error.code === 'ENOENT') return {}
    throw error
  }
}

const tus = new Server({
  path: '/files',
  datastore: new FileStore({ directory: join(folder, 'files'), expirationPeriodInMilliseconds: HOUR }),
  maxSize: 64 * 1024 * 1024,
  async onUploadFinish() {
    const { finish } = control()
    if (finish?.fail) throw { status_code: finish.fail, body: 'refused at the end' }
    return finish ?? {}
  },
})

const door = http.createServer((request, response) => {
  const { maxBody, authorization } = control()
  const said = { method: request.method, path: request.url, headers: request.headers }
  response.on('close', () => console.log(JSON.stringify({ ...said, status: response.headersSent ? response.statusCode : 0 })))
  if (Number(request.headers['content-length'] ?? 0) > (maxBody ?? Infinity)) {
    response.writeHead(413, { Connection: 'close' }).end()
    return
  }
  if (authorization && request.headers.authorization !== authorization) {
    response.writeHead(401).end()
    return
  }
  tus.handle(request, response)
})

process.stdin.resume().on('end', () => process.exit())
door.listen(Number(port), '127.0.0.1', () => console.log(`listening ${door.address().port}`))
