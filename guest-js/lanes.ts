/** The last call of each lane that is still under way. */
const lanes = new Map<string, Promise<unknown>>()

/** What names a lane here; none for an entry without a key, which is a lane of its own. */
export function laneOf(kind: string, key: string | undefined): string | undefined {
  return key === undefined ? undefined : JSON.stringify([kind, key])
}

/** Commands run side by side in the backend, so a call may overtake another: within a lane the next one waits. */
export function inLanes<T>(names: (string | undefined)[], send: () => Promise<T>): Promise<T> {
  const own = new Set(names.filter(name => name !== undefined))
  const before = [...own].flatMap(name => lanes.get(name) ?? [])
  const sent = before.length > 0 ? Promise.allSettled(before).then(send) : send()
  for (const name of own) lanes.set(name, sent)
  const forget = () => {
    for (const name of own) if (lanes.get(name) === sent) lanes.delete(name)
  }
  sent.then(forget, forget)
  return sent
}
