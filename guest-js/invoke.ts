import { invoke, type InvokeArgs, type InvokeOptions } from '@tauri-apps/api/core'

import { refused, toError } from './errors.js'

/** Calls a command of the plugin; whatever goes wrong becomes a `StorageSyncError`. */
export async function call<T>(command: string, args?: InvokeArgs, options?: InvokeOptions): Promise<T> {
  try {
    return await invoke<T>(`plugin:storage-sync|${command}`, args, options)
  } catch (thrown) {
    throw toError(thrown)
  }
}

/** A timeout for IPC: whole milliseconds, or nothing where none was given. */
export function milliseconds(timeout: number | undefined): number | undefined {
  if (timeout === undefined) return undefined
  if (typeof timeout !== 'number' || !(timeout >= 0) || timeout > Number.MAX_SAFE_INTEGER) {
    throw refused('timeout is a number of milliseconds, zero or more; leave it out to wait without limit')
  }
  return Math.ceil(timeout)
}
