// Programs that a scripted session starts, and free ports for them.

import { spawn } from 'node:child_process'
import { createServer } from 'node:net'

const started = new Set()

/** Starts a program that ends with this one. */
export function start(path, args, env = {}) {
  const child = spawn(path, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit'] })
  child.on('error', (error) => {
    console.error(`${path}: ${error.message}`)
    process.exit(1)
  })
  started.add(child)
  child.on('exit', () => started.delete(child))
  return child
}

process.on('exit', () => {
  for (const child of started) child.kill('SIGKILL')
})

/** A port of the loopback interface that nobody listened on a moment ago. */
export async function freePort() {
  const server = createServer()
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}
