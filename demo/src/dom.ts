// The page's elements, by the names index.html gives them.

/** The element that shows the value called `name` (attribute data-bind). */
export function bound(name: string): HTMLElement {
  return required(`[data-bind="${name}"]`)
}

/** The element tests and this program know by `id` (attribute data-testid). */
export function part<E extends HTMLElement = HTMLElement>(id: string): E {
  return required<E>(`[data-testid="${id}"]`)
}

function required<E extends HTMLElement>(selector: string): E {
  const found = document.querySelector<E>(selector)
  if (found === null) throw new Error(`index.html has no ${selector}`)
  return found
}

/** `<tag class="...">text or children</tag>` */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  ...children: (string | Node)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag)
  if (className !== '') made.className = className
  made.append(...children)
  return made
}

export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  if (h > 0) return `${h} h ${m} min`
  return m > 0 ? `${m} min ${s} s` : `${s} s`
}

export function clock(date: Date): HTMLTimeElement {
  const time = element('time', '', date.toLocaleTimeString([], { hour12: false }))
  time.dateTime = date.toISOString()
  return time
}
