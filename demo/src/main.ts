// The demo page: a to-do list on the stock client, used as any app would use it.
import { ElectricDatabase, electrify } from 'electric-sql/wa-sqlite'
import { Connection, type State } from './connection'
import { part } from './dom'
import * as panels from './panels'
import { schema, type Electric, type Todo } from './schema'
import { claimsOf, connectedPeople, requestSession, type Person, type Session } from './server'
import { newTab, openTab, rememberOffline, rememberUser, wasOffline, type Tab } from './tab'
import { TodoList } from './todo-list'

const PEOPLE_EVERY_MS = 2000
const TRANSACTIONS_SHOWN = 12
/** the port the client connects to when nobody tells it otherwise */
const CLIENT_DEFAULT_PORT = '5133'

// What tests and curious people look at in the console.
const probe = {
  state: 'starting' as State,
  synced: false,
  todos: [] as Todo[],
  people: [] as Person[],
  transactions: [] as panels.SeenTransaction[],
  errors: [] as string[],
  electric: null as Electric | null,
}
declare global {
  interface Window {
    probe: typeof probe
  }
}
window.probe = probe

function messageOf(error: unknown): string {
  // The client rejects with bare protobuf messages as well as with Errors.
  const message = (error as { message?: unknown } | null)?.message
  return typeof message === 'string' && message !== '' ? message : String(error)
}

function note(where: string, error: unknown): string {
  const text = `${where}: ${messageOf(error)}`
  probe.errors.push(text)
  return text
}

addEventListener('error', (event) => note('error', event.error ?? event.message))
// The client throws some connection errors out of its event handlers; Connection has already acted on them.
addEventListener('unhandledrejection', (event) => note('rejection', event.reason))

function setState(state: State): void {
  probe.state = state
  panels.showState(state)
  if (state === 'connected') panels.showTrouble(null)
}

// ---- the list ------------------------------------------------------------------------------------

/** Only there once the server's first migration has been applied. */
async function tableExists(electric: Electric): Promise<boolean> {
  const sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'todos'"
  return (await electric.db.rawQuery({ sql })).length > 0
}

function openList(electric: Electric, user: () => string | null): () => Promise<void> {
  const { todos } = electric.db
  const wish = (what: string, promise: Promise<unknown>) =>
    promise.catch((error: unknown) => panels.showTrouble(note(what, error)))

  const list = new TodoList({
    add: (title) =>
      void wish(
        'add',
        todos.create({
          data: { id: crypto.randomUUID(), title, done: false, author: user() ?? 'somebody', created_at: new Date() },
        })
      ),
    toggle: ({ id, done }) => void wish('change', todos.update({ data: { done: !done }, where: { id } })),
    rename: ({ id }, title) => void wish('rename', todos.update({ data: { title }, where: { id } })),
    remove: ({ id }) => void wish('remove', todos.delete({ where: { id } })),
    clearDone: () => void wish('clear', todos.deleteMany({ where: { done: true } })),
  })

  const live = todos.liveMany({ orderBy: { created_at: 'desc' } })
  let ready = false
  let draws = Promise.resolve()
  const draw = async () => {
    ready ||= await tableExists(electric)
    if (!ready) return list.show([], 'Waiting for the first connection…')
    list.enable()
    probe.todos = (await live()).result
    list.show(probe.todos, probe.synced || probe.state === 'offline' ? 'Nothing to do.' : 'Fetching the list…')
  }
  // One after the other: an older answer must never overwrite a newer one.
  return () => (draws = draws.then(draw).catch((error: unknown) => void note('draw', error)))
}

function watchTransactions(electric: Electric): void {
  electric.notifier.subscribeToDataChanges(({ changes, origin }) => {
    const at = Date.now()
    for (const { qualifiedTablename, recordChanges, rowids } of changes)
      probe.transactions.unshift({
        origin,
        table: qualifiedTablename.tablename,
        rows: recordChanges?.length ?? rowids?.length ?? 0,
        kinds: [...new Set(recordChanges?.map((change) => change.type))],
        at,
      })
    probe.transactions.splice(TRANSACTIONS_SHOWN)
    panels.showTransactions(probe.transactions)
  })
}

// ---- people --------------------------------------------------------------------------------------

async function ownClientId(electric: Electric): Promise<string | null> {
  const [row] = await electric.db.rawQuery({ sql: "SELECT value FROM _electric_meta WHERE key = 'clientId'" })
  return typeof row?.value === 'string' ? row.value : null
}

function pollPeople(electric: Electric): void {
  const look = async () => {
    if (probe.state !== 'connected') {
      probe.people = []
      return
    }
    try {
      const people = await connectedPeople()
      const me = await ownClientId(electric)
      // the connection may have ended while the answer was on its way
      if ((probe.state as State) !== 'connected') return
      probe.people = people
      panels.showPeople(people, me)
    } catch (error) {
      note('people', error)
    }
  }
  setInterval(look, PEOPLE_EVERY_MS)
  electric.notifier.subscribeToConnectivityStateChanges(({ connectivityState }) => {
    if (connectivityState.status === 'connected') void look()
  })
}

// ---- start ---------------------------------------------------------------------------------------

/** Who this tab is, with a session unless the server is out of reach: the list works without it. */
async function identify(): Promise<{ tab: Tab; session: Session | null }> {
  const tab = await openTab()
  const session = await requestSession(tab.user).catch((error: unknown) => {
    note('session', error)
    return null
  })
  // A local database belongs to the user who filled it.
  if (session !== null && tab.user !== null && session.user !== tab.user) return { tab: await newTab(), session }
  return { tab, session }
}

async function start(): Promise<void> {
  panels.wireCopyButtons()
  const { tab, session: first } = await identify()
  let user = tab.user
  let session: Session | null = null
  const takeSession = (next: Session) => {
    if (user !== null && next.user !== user) {
      // Only a server that has forgotten everything gives out another name; begin again with it.
      void newTab().then(() => location.reload())
      return
    }
    session = next
    user = next.user
    rememberUser(user)
    panels.showSession(next)
  }
  if (user !== null) part('user').textContent = user
  if (first !== null) {
    user = first.user
    takeSession(first)
  }

  const conn = await ElectricDatabase.init(`leyden-demo-${tab.id}.db`, new URL('./', import.meta.url).href)
  const electric =
    location.port === CLIENT_DEFAULT_PORT
      ? await electrify(conn, schema)
      : await electrify(conn, schema, { url: location.origin })
  probe.electric = electric

  watchTransactions(electric)
  const draw = openList(electric, () => user)
  electric.notifier.subscribeToDataChanges(() => void draw())
  await draw()
  pollPeople(electric)

  const connection = new Connection(electric, () => user, first, {
    state: setState,
    session: takeSession,
    synced: () => {
      probe.synced = true
      void draw()
    },
    trouble: (where, error) => panels.showTrouble(`${note(where, error)}. Trying again.`),
  })
  const online = part<HTMLInputElement>('online-switch')
  const obey = () => {
    rememberOffline(!online.checked)
    if (online.checked) connection.goOnline()
    else connection.goOffline()
  }
  online.addEventListener('change', obey)
  online.disabled = false
  online.checked = !wasOffline()
  obey()

  const tick = () => {
    if (session === null) return
    const { iat } = claimsOf(session.token)
    panels.showTokenLeft(session, typeof iat === 'number' ? iat : session.expires_at - 3600, Date.now() / 1000)
  }
  setInterval(tick, 1000)
  tick()
}

start().catch((error: unknown) => {
  setState('failed')
  panels.showTrouble(note('start', error))
})
