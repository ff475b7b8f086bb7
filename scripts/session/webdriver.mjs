// As much of WebDriver as a scripted session takes.

import { setTimeout as pause } from 'node:timers/promises'

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'

/** Looks until `probe` answers something truthy, and fails with `what` and the last answer when it never does. */
export async function until(what, probe, patienceMs = 60_000) {
  const deadline = Date.now() + patienceMs
  for (;;) {
    let last
    try {
      last = await probe()
      if (last) return last
    } catch (error) {
      last = error
    }
    if (Date.now() > deadline) throw new Error(`Waited ${patienceMs / 1000} s for ${what}; the last answer was ${last}`)
    await pause(100)
  }
}

/** A session with an app as its browser. */
export class Page {
  #url

  /** Opens the app at `path` through the driver at `driver`. */
  static async open(driver, path) {
    const capabilities = { alwaysMatch: { 'tauri:options': { application: path } } }
    const page = new Page()
    const { sessionId } = await until('a WebDriver session', () => send('POST', `${driver}/session`, { capabilities }))
    page.#url = `${driver}/session/${sessionId}`
    return page
  }

  /** What the first element of that data-testid shows. */
  async text(id) {
    return send('GET', `${await this.#find(id)}/text`)
  }

  async type(id, text) {
    await send('POST', `${await this.#find(id)}/value`, { text })
  }

  async click(id) {
    await send('POST', `${await this.#find(id)}/click`, {})
  }

  /** Runs a script in the page. */
  async run(script) {
    await send('POST', `${this.#url}/execute/sync`, { script, args: [] })
  }

  /** Brings the element into view. */
  async scrollTo(id) {
    await this.run(`document.querySelector('[data-testid="${id}"]').scrollIntoView({ block: 'center' })`)
  }

  /** Waits until the element shows a text that passes `is`, and answers it. */
  async shows(id, is) {
    return until(`${id} to change`, async () => {
      const text = await this.text(id)
      return is(text) && text
    })
  }

  async #find(id) {
    const found = await send('POST', `${this.#url}/element`, { using: 'css selector', value: `[data-testid="${id}"]` })
    return `${this.#url}/element/${found[ELEMENT]}`
  }
}

async function send(method, url, body) {
  const answer = await fetch(url, { method, body: body && JSON.stringify(body) })
  const { value } = await answer.json()
  if (!answer.ok) throw new Error(`${value.error}: ${value.message}`)
  return value
}
