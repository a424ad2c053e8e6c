// Everything around the list: state of the connection, who is there, the token, transactions, texts to copy.
import { bound, clock, duration, element, part } from './dom'
import { claimsOf, type Person, type Session } from './server'
import type { State } from './connection'

const STATE_TEXT: Record<State, string> = {
  starting: 'Starting',
  connecting: 'Connecting',
  connected: 'In step',
  reconnecting: 'Reconnecting',
  offline: 'Offline',
  failed: 'Not working',
}

export function showState(state: State): void {
  part('state').dataset.state = state
  bound('state').textContent = STATE_TEXT[state]
  if (state === 'connected') return
  part('people').replaceChildren()
  const note = bound('people-note')
  note.hidden = false
  note.textContent = state === 'offline' ? 'This tab is offline.' : 'Known once this tab is online.'
}

export function showPeople(people: readonly Person[], ownClientId: string | null): void {
  part('people').replaceChildren(
    ...people.map(({ user, client_id, connected_seconds }) => {
      const row = element(
        'li',
        '',
        element('span', 'avatar', user.slice(0, 2)),
        element('span', 'name', user),
        ...(client_id === ownClientId ? [element('span', 'tag', 'this tab')] : []),
        element('span', 'since', duration(connected_seconds))
      )
      row.dataset.clientId = client_id
      row.firstElementChild?.setAttribute('aria-hidden', 'true')
      return row
    })
  )
  bound('people-note').hidden = people.length > 0
}

// ---- token ---------------------------------------------------------------------------------------

export function showSession(session: Session): void {
  bound('user').textContent = session.user
  bound('psql').textContent = session.psql
  const claims = Object.entries(claimsOf(session.token)).flatMap(([name, value]) => [
    element('dt', '', name),
    element('dd', '', claimText(name, value)),
  ])
  part('claims').replaceChildren(...claims)
}

function claimText(name: string, value: unknown): string {
  // RFC 7519 §2: NumericDate, seconds since the epoch
  if (['exp', 'iat', 'nbf'].includes(name) && typeof value === 'number')
    return new Date(value * 1000).toLocaleTimeString([], { hour12: false })
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** `issuedAt`, `now`: unix seconds. */
export function showTokenLeft(session: Session, issuedAt: number, now: number): void {
  const left = session.expires_at - now
  bound('token-left').textContent = left > 0 ? `valid for ${duration(left)}` : 'expired'
  const life = Math.max(1, session.expires_at - issuedAt)
  part<HTMLProgressElement>('token-progress').value = Math.min(1, Math.max(0, left / life))
}

// ---- transactions --------------------------------------------------------------------------------

export interface SeenTransaction {
  origin: 'local' | 'remote' | 'initial'
  table: string
  rows: number
  /** what happened to the rows, e.g. ['UPDATE'] */
  kinds: string[]
  /** unix milliseconds */
  at: number
}

const ORIGIN_TEXT = { local: 'this tab', remote: 'from server', initial: 'first copy' } as const
const VERBS: Record<string, string> = {
  INSERT: 'added', UPDATE: 'changed', DELETE: 'removed', INITIAL: 'received', GONE: 'left',
}

export function showTransactions(transactions: readonly SeenTransaction[]): void {
  bound('transactions-note').hidden = transactions.length > 0
  part('transactions').replaceChildren(
    ...transactions.map(({ origin, table, rows, kinds, at }) => {
      const verb = kinds.length === 1 ? (VERBS[kinds[0] ?? ''] ?? 'changed') : 'changed'
      const tag = element('span', 'tag', ORIGIN_TEXT[origin])
      tag.dataset.origin = origin
      const what = `${table}: ${rows} ${verb}`
      return element('li', '', tag, element('span', 'what', what), clock(new Date(at)))
    })
  )
}

// ---- copy buttons, trouble -----------------------------------------------------------------------

export function wireCopyButtons(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>('button[data-copy]'))
    button.addEventListener('click', async () => {
      const source = bound(button.dataset.copy ?? '')
      try {
        await navigator.clipboard.writeText(source.textContent ?? '')
        button.textContent = 'Copied'
      } catch {
        getSelection()?.selectAllChildren(source)
        button.textContent = 'Selected'
      }
      setTimeout(() => (button.textContent = 'Copy'), 1500)
    })
}

/** Says what is wrong, or with null that nothing is any more. */
export function showTrouble(text: string | null): void {
  const box = part('trouble')
  box.hidden = text === null
  box.textContent = text
}
