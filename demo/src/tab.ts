// Who this tab is. Every tab is a user and a device of its own, and stays so over a reload: its name and the name of
// its local database are kept in sessionStorage, which browsers keep for each tab separately.

const ID = 'leyden-demo.tab'
const USER = 'leyden-demo.user'
const OFFLINE = 'leyden-demo.offline'

export interface Tab {
  /** names the local database */
  readonly id: string
  /** the user this tab was last time, if any */
  readonly user: string | null
}

/**
 * The tab's identity, a new one where there is none.
 *
 * "Duplicate tab" copies sessionStorage, and two tabs must not share one database. So each tab holds a lock under
 * its id for as long as it lives; a copy finds the lock taken and becomes somebody else. The wait is for a reload,
 * where the old page may let go a moment after the new one asks.
 */
export async function openTab(): Promise<Tab> {
  const id = sessionStorage.getItem(ID)
  if (id !== null && (await claim(id))) return { id, user: sessionStorage.getItem(USER) }
  return newTab()
}

/** Forgets who this tab was. */
export async function newTab(): Promise<Tab> {
  const id = crypto.randomUUID().slice(0, 8)
  sessionStorage.setItem(ID, id)
  sessionStorage.removeItem(USER)
  await claim(id)
  return { id, user: null }
}

export function rememberUser(user: string): void {
  sessionStorage.setItem(USER, user)
}

/** Whether the tab's user had switched it off: a reload must not put it online behind their back. */
export function wasOffline(): boolean {
  return sessionStorage.getItem(OFFLINE) !== null
}

export function rememberOffline(offline: boolean): void {
  if (offline) sessionStorage.setItem(OFFLINE, 'yes')
  else sessionStorage.removeItem(OFFLINE)
}

function claim(id: string): Promise<boolean> {
  return new Promise((resolve) => {
    navigator.locks
      .request(`${ID}.${id}`, { signal: AbortSignal.timeout(1000) }, () => {
        resolve(true)
        return new Promise(() => {}) // held until the tab is gone
      })
      .catch(() => resolve(false))
  })
}
