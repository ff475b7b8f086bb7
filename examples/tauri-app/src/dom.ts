/** The element of that id, which `index.html` has. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id)
  if (!element) throw new Error(`index.html has no #${id}`)
  return element as T
}

/** What a WebDriver test finds by the same name. */
export function part<T extends HTMLElement = HTMLElement>(within: ParentNode, testid: string): T {
  const element = within.querySelector<T>(`[data-testid="${testid}"]`)
  if (!element) throw new Error(`index.html has no ${testid}`)
  return element
}

/** A fresh copy of the only element in a template. */
export function copyOf<T extends HTMLElement>(template: string): T {
  const copy = byId<HTMLTemplateElement>(template).content.cloneNode(true) as DocumentFragment
  return copy.firstElementChild as T
}

/** Writes a text only where it differs, so that a screen reader is not told the same again. */
export function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

/** Says something in passing. */
export function toast(text: string, tone: 'plain' | 'bad' = 'plain'): void {
  const note = document.createElement('p')
  note.className = 'toast'
  note.dataset['tone'] = tone
  note.textContent = text
  byId('toasts').append(note)
  setTimeout(() => note.remove(), tone === 'bad' ? 9000 : 5000)
}

/** Runs what a click asked for; a failure is shown in the words of the error. */
export async function attempt(work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (error) {
    toast(error instanceof Error ? error.message : String(error), 'bad')
  }
}

/** Asks before something that cannot be undone. */
export function confirmed(title: string, text: string, yes: string): Promise<boolean> {
  const dialog = byId<HTMLDialogElement>('confirm')
  write(byId('confirm-title'), title)
  write(byId('confirm-text'), text)
  write(byId('confirm-yes'), yes)
  dialog.returnValue = 'no'
  dialog.showModal()
  return new Promise(resolve => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true })
  })
}
