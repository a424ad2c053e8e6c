#!/usr/bin/env node
// Drives the real npm client `electric-sql` from another process. See README.md for every command.
import './lib/clock.mjs'
import './lib/console.mjs'
import { EventEmitter } from 'node:events'
import { pathToFileURL } from 'node:url'
import { logLines } from './lib/console.mjs'
import { emit, serve, sleep, withTimeout } from './lib/rpcloop.mjs'
import { errorToJson, fromJson, hex, toJson } from './lib/values.mjs'
import {
  EventNotifier, GlobalRegistry, auth, encoders, packageVersion, secureAuth, sockets, types,
} from './lib/electric.mjs'
import { buildDbSchema, loadMigrations } from './lib/schema.mjs'
import { engines, openEngine } from './lib/engines.mjs'
import { makeTap } from './lib/tap.mjs'
import { encodeFrame } from './lib/proto.mjs'

const { ReplicationStatus } = types

// ---- events ------------------------------------------------------------------------------------

const events = []
const waiters = new Set()
let eventSeq = 0

function event(type, data = {}, client) {
  const e = { event: type, seq: ++eventSeq, at: Date.now(), ...(client && { client }), ...toJson(data) }
  events.push(e)
  if (events.length > 10000) events.shift()
  emit(e)
  for (const w of [...waiters]) w(e)
}

// The stock client throws fatal errors out of async handlers, i.e. as unhandled rejections which would
// end a plain Node process. They are reported instead, because tests want to see them.
process.on('unhandledRejection', (e) => event('unhandledRejection', { error: errorToJson(e) }))
process.on('uncaughtException', (e) => event('uncaughtException', { error: errorToJson(e) }))

// ---- clients -----------------------------------------------------------------------------------

const clients = new Map()

function get(name = 'default') {
  const c = clients.get(name)
  if (!c) throw new Error(`no open client "${name}"`)
  return c
}

const sat = (c) => c.electric.satellite
const notify = (c) => c.electric.potentiallyChanged()

async function all(c, sql, args = []) {
  return c.electric.adapter.query({ sql, args })
}

function connectivity(state) {
  return { status: state?.status ?? null, reason: state?.reason ? errorToJson(state.reason) : null }
}

function matches(e, pattern) {
  if (pattern === undefined || pattern === null) return true
  if (typeof pattern !== 'object') return e === pattern
  if (e === null || typeof e !== 'object') return false
  return Object.entries(pattern).every(([k, p]) => matches(e[k], p))
}

async function closeClient(name) {
  const c = get(name)
  clients.delete(name ?? 'default')
  c.unsubscribers.forEach((f) => f())
  await c.electric.close()
  await c.engine.close()
}

const commands = {
  async hello() {
    return {
      electric: packageVersion,
      subprotocol: sockets.PROTOCOL_VSN,
      node: process.version,
      pid: process.pid,
      engines,
      commands: Object.keys(commands),
    }
  },

  /**
   * Opens (or re-opens) a local database and electrifies it; does not connect.
   * {client?, dbPath, url, debug?, engine?, schema, config?: {timeout, connectionBackOffOptions, auth, foreignKeyChecksDownstream}}
   */
  async open({ client = 'default', dbPath = ':memory:', url, debug = false, engine = 'node:sqlite', schema, config = {} }) {
    if (clients.has(client)) throw new Error(`client "${client}" is already open`)
    const built = await buildDbSchema(schema)
    const eng = await openEngine(engine, dbPath)
    const tap = makeTap({ onEvent: (t, d) => event(t, d, client) })
    const notifier = new EventNotifier(eng.db.name, new EventEmitter().setMaxListeners(Infinity))
    const started = Date.now()
    let electric
    try {
      electric = await eng.electrify(
        eng.db,
        built.schema,
        { url, debug, ...config },
        // own registry and notifier: several clients (even several ':memory:' ones) can share this process
        { socketFactory: tap.Socket, registry: new GlobalRegistry(), notifier }
      )
    } catch (e) {
      await eng.close()
      throw e
    }
    const c = { name: client, electric, engine: eng, tap, built, syncs: new Map(), syncNo: 0, unsubscribers: [] }
    clients.set(client, c)

    const on = (f) => c.unsubscribers.push(f)
    on(notifier.subscribeToConnectivityStateChanges(({ connectivityState }) => event('connectivity', connectivity(connectivityState), client)))
    on(notifier.subscribeToAuthStateChanges(({ authState }) => event('authState', authState, client)))
    on(notifier.subscribeToPotentialDataChanges(() => event('potentialChange', {}, client)))
    on(notifier.subscribeToShapeSubscriptionSyncStatusChanges(({ key, status }) => event('shapeStatus', { key, status }, client)))
    on(notifier.subscribeToDataChanges(({ changes, origin }) =>
      event('dataChange', {
        origin,
        changes: changes.map((x) => ({
          table: x.qualifiedTablename.tablename,
          rowids: x.rowids,
          records: x.recordChanges,
        })),
      }, client)))
    const onError = (e) => event('clientError', { error: errorToJson(e) }, client)
    sat(c).client.subscribeToError(onError)
    on(() => sat(c).client.unsubscribeToError(onError))

    return {
      client,
      tookMs: Date.now() - started,
      clientId: sat(c)._authState?.clientId,
      tables: Object.keys(built.tables),
      bundledMigrations: built.versions,
    }
  },

  /** Resolves when authenticated, replicating and re-subscribed; rejects as the stock promise does. */
  async connect({ client, token, timeoutMs }) {
    const c = get(client)
    await withTimeout(c.electric.connect(token), timeoutMs, 'connect')
    return commands.status({ client })
  },

  async disconnect({ client }) {
    get(client).electric.disconnect()
  },

  async status({ client } = {}) {
    const c = get(client)
    const s = sat(c)
    const cl = s.client
    return {
      isConnected: c.electric.isConnected,
      connectivity: connectivity(s.connectivityState),
      socketOpen: cl.isConnected(),
      inbound: ReplicationStatus[cl.inbound.isReplicating],
      outbound: ReplicationStatus[cl.outbound.isReplicating],
      lsn: s._lsn ? { base64: encoders.base64.fromBytes(s._lsn), hex: hex(s._lsn) } : null,
      lastSentLsn: hex(cl.getLastSentLsn()),
      unackedTxs: cl.inbound.unackedTxs,
      maxUnackedTxs: cl.inbound.maxUnackedTxs,
      clientId: s._authState?.clientId,
      userId: s._authState?.userId ?? null,
      subscriptions: s.subscriptionManager.listAllSubscriptions(),
    }
  },

  /** {kind: 'insecure'|'hs256', claims, key?, iss?, exp?} -> {token} */
  async token({ kind = 'insecure', claims = { sub: 'test-user' }, key, iss = 'test', exp = '2h', alg = 'HS256' }) {
    if (kind === 'insecure') return { token: auth.insecureAuthToken(claims) }
    return { token: await secureAuth.secureAuthToken({ claims, iss, key, alg, exp }) }
  },

  // ---- shapes ----------------------------------------------------------------------------------

  /**
   * {table, where?, include?, key?} through the DAL, or {shapes: [...], key?} straight to the satellite process.
   * The reply comes when the server accepted the subscription; `wait: true` also waits for the data.
   */
  async sync({ client, table, where, include, key, shapes, wait = false, timeoutMs = 30000 }) {
    const c = get(client)
    let sub
    if (shapes) sub = await withTimeout(sat(c).subscribe(shapes, key), timeoutMs, 'subscribe')
    else {
      const t = c.electric.db[table]
      if (!t) throw new Error(`table ${table} is not in the client's schema`)
      const input = {}
      if (where !== undefined) input.where = fromJson(where)
      if (include !== undefined) input.include = fromJson(include)
      if (key !== undefined) input.key = key
      sub = await withTimeout(t.sync(input), timeoutMs, `sync ${table}`)
    }
    const syncId = ++c.syncNo
    const entry = { key: sub.key, state: 'pending' }
    entry.promise = sub.synced.then(
      () => {
        entry.state = 'synced'
        event('synced', { syncId, key: sub.key }, c.name)
      },
      (e) => {
        entry.state = 'failed'
        entry.error = e
        event('syncFailed', { syncId, key: sub.key, error: errorToJson(e) }, c.name)
        throw e
      }
    )
    entry.promise.catch(() => {})
    c.syncs.set(syncId, entry)
    if (wait) await withTimeout(entry.promise, timeoutMs, `synced ${sub.key}`)
    return { syncId, key: sub.key, state: entry.state, status: sat(c).syncStatus(sub.key) }
  },

  /** {syncId} or {key}: waits for the `synced` promise(s). */
  async waitSynced({ client, syncId, key, timeoutMs = 30000 }) {
    const c = get(client)
    const wanted = [...c.syncs].filter(([id, s]) => (syncId ? id === syncId : key ? s.key === key : true))
    if (wanted.length === 0) throw new Error('no such sync')
    await withTimeout(Promise.all(wanted.map(([, s]) => s.promise)), timeoutMs, 'synced')
    return wanted.map(([id, s]) => ({ syncId: id, key: s.key, state: s.state }))
  },

  async syncStatus({ client, key }) {
    return get(client).electric.sync.syncStatus(key) ?? null
  },

  /** {key} | {keys: [...]} | {shapes: [...]} */
  async unsubscribe({ client, key, keys, shapes, timeoutMs = 30000 }) {
    const c = get(client)
    const target = shapes ? { shapes, key } : keys ?? [key]
    await withTimeout(c.electric.sync.unsubscribe(target), timeoutMs, 'unsubscribe')
  },

  // ---- local data ------------------------------------------------------------------------------

  /** Read-only query (the client refuses statements that look like writes). */
  async query({ client, sql, args }) {
    return get(client).electric.db.rawQuery({ sql, args: fromJson(args ?? []) })
  },

  /** Any statement with result rows, e.g. INSERT ... RETURNING; then tells the client to look for changes. */
  async exec({ client, sql, args, changed = true }) {
    const c = get(client)
    const rows = await c.electric.db.unsafeExec({ sql, args: fromJson(args ?? []) })
    if (changed) notify(c)
    return rows
  },

  /** Raw write through the adapter. */
  async run({ client, sql, args, changed = true }) {
    const c = get(client)
    const res = await c.electric.adapter.run({ sql, args: fromJson(args ?? []) })
    if (changed) notify(c)
    return res
  },

  /** {statements: [{sql, args}]} in one local transaction. */
  async tx({ client, statements, changed = true }) {
    const c = get(client)
    const res = await c.electric.adapter.runInTransaction(
      ...statements.map((s) => ({ sql: s.sql, args: fromJson(s.args ?? []) }))
    )
    if (changed) notify(c)
    return res
  },

  /** Typed access: {table, op: create|createMany|findUnique|findFirst|findMany|update|updateMany|upsert|delete|deleteMany, args} */
  async dal({ client, table, op, args = {} }) {
    const t = get(client).electric.db[table]
    if (!t) throw new Error(`table ${table} is not in the client's schema`)
    const allowed = ['create', 'createMany', 'findUnique', 'findFirst', 'findMany', 'update', 'updateMany', 'upsert', 'delete', 'deleteMany']
    if (!allowed.includes(op)) throw new Error(`unknown DAL operation ${op}`)
    return t[op](fromJson(args))
  },

  /** Polls `sql` until it returns `count` rows (default: at least one) and, if given, `expect` matches the first. */
  async waitRow({ client, sql, args, count, expect, timeoutMs = 10000, pollMs = 25 }) {
    const c = get(client)
    const end = Date.now() + timeoutMs
    for (;;) {
      const rows = toJson(await all(c, sql, fromJson(args ?? [])))
      const enough = count === undefined ? rows.length > 0 : rows.length === count
      if (enough && (expect === undefined || matches(rows[0], expect))) return rows
      if (Date.now() > end) {
        throw Object.assign(new Error(`no matching row after ${timeoutMs} ms; last: ${JSON.stringify(rows).slice(0, 2000)}`), { name: 'DriverTimeout' })
      }
      await sleep(pollMs)
    }
  },

  /** Polls until the local oplog is empty, i.e. the server echoed every local transaction back. */
  async waitOplogEmpty({ client, timeoutMs = 10000 }) {
    return commands.waitRow({ client, sql: 'SELECT count(*) AS n FROM _electric_oplog', expect: { n: 0 }, timeoutMs })
  },

  /** Forces a snapshot of pending local changes now instead of at the next poll. */
  async snapshot({ client }) {
    return { at: await sat(get(client))._mutexSnapshot() }
  },

  // ---- inspection ------------------------------------------------------------------------------

  async meta({ client }) {
    const c = get(client)
    const rows = await all(c, 'SELECT key, value FROM _electric_meta')
    const meta = Object.fromEntries(rows.map((r) => [r.key, r.value]))
    const tables = (await all(c, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")).map((r) => r.name)
    return {
      meta,
      lsnHex: meta.lsn ? hex(encoders.base64.toBytes(meta.lsn)) : null,
      lsnText: meta.lsn ? Buffer.from(meta.lsn, 'base64').toString('utf8') : null,
      subscriptions: meta.subscriptions ? JSON.parse(meta.subscriptions) : null,
      migrations: await all(c, 'SELECT * FROM _electric_migrations ORDER BY id'),
      oplogCount: (await all(c, 'SELECT count(*) AS n FROM _electric_oplog'))[0].n,
      shadowCount: (await all(c, 'SELECT count(*) AS n FROM _electric_shadow'))[0].n,
      tables,
      relations: Object.values(sat(c).relations).filter((r) => !r.table.startsWith('_electric')),
    }
  },

  async oplog({ client }) {
    return all(get(client), 'SELECT * FROM _electric_oplog ORDER BY rowid')
  },

  async shadow({ client }) {
    return all(get(client), 'SELECT * FROM _electric_shadow ORDER BY tablename, primaryKey')
  },

  /** {since?, type?, dir?, limit?} recorded frames, decoded and as hex. */
  async wire({ client, since = 0, type, dir, limit = 1000 }) {
    const { frames } = get(client).tap
    return frames
      .filter((f) => f.n > since && (!type || f.type === type || f.inner === type) && (!dir || f.dir === dir))
      .slice(-limit)
  },

  async waitWire({ client, since = 0, dir, match, timeoutMs = 10000 }) {
    const { frames } = get(client).tap
    const end = Date.now() + timeoutMs
    for (;;) {
      const hit = frames.find((f) => f.n > since && (!dir || f.dir === dir) && matches(toJson(f), match))
      if (hit) return hit
      if (Date.now() > end) throw Object.assign(new Error(`no such frame within ${timeoutMs} ms`), { name: 'DriverTimeout' })
      await sleep(20)
    }
  },

  async events({ since = 0, types: wanted, client, limit = 1000 } = {}) {
    return events
      .filter((e) => e.seq > since && (!wanted || wanted.includes(e.event)) && (!client || e.client === client))
      .slice(-limit)
  },

  /** {match: {event: 'connectivity', status: 'disconnected'}, since?} – also looks at past events after `since`. */
  async waitEvent({ match, since = eventSeq, timeoutMs = 10000 }) {
    const past = events.find((e) => e.seq > since && matches(e, match))
    if (past) return past
    let w
    const found = new Promise((resolve) => {
      w = (e) => {
        if (e.seq > since && matches(e, match)) resolve(e)
      }
      waiters.add(w)
    })
    try {
      return await withTimeout(found, timeoutMs, `event ${JSON.stringify(match)}`)
    } finally {
      waiters.delete(w)
    }
  },

  async logs({ limit = 200, contains } = {}) {
    return logLines.filter((l) => !contains || l.text.includes(contains)).slice(-limit)
  },

  // ---- below the public API --------------------------------------------------------------------

  /** Sends any message over the client's own socket: {type, value, tag?} or {hex}. */
  async sendRaw({ client, type, value, tag, hex: raw }) {
    const c = get(client)
    const bytes = raw !== undefined ? Buffer.from(raw, 'hex') : encodeFrame(type, value, tag)
    if (!c.tap.current || c.tap.current.readyState !== 1) throw new Error('socket is not open')
    c.tap.current.send(bytes)
    return { sent: hex(bytes) }
  },

  /** Breaks the connection under the client: abrupt by default, with `code` a proper close. */
  async dropSocket({ client, code, reason }) {
    const ws = get(client).tap.current
    if (!ws) throw new Error('there is no socket')
    if (code === undefined) ws.terminate()
    else ws.close(code, reason)
  },

  /** WebSocket-level ping; resolves with the round-trip time. */
  async wsPing({ client, timeoutMs = 5000 }) {
    const ws = get(client).tap.current
    const t0 = Date.now()
    const pong = new Promise((r) => ws.once('pong', r))
    ws.ping()
    await withTimeout(pong, timeoutMs, 'pong')
    return { ms: Date.now() - t0 }
  },

  /** Calls any method by path from {electric, satellite, client, db}: {path: 'client.stopReplication', args: []}. */
  async call({ client, path, args = [], timeoutMs = 30000 }) {
    const c = get(client)
    const root = { electric: c.electric, satellite: sat(c), client: sat(c).client, adapter: c.electric.adapter, db: c.electric.db }
    const parts = path.split('.')
    let self
    let v = root
    for (const p of parts) {
      self = v
      v = v?.[p]
    }
    if (typeof v !== 'function') return v
    return withTimeout(Promise.resolve(v.apply(self, fromJson(args))), timeoutMs, path)
  },

  /** Calls an export of an ES module with the client, as an app's own code would: {module: path, name, args}. */
  async app({ client, module, name, args = [], timeoutMs = 30000 }) {
    const exported = (await import(pathToFileURL(module).href))[name]
    return withTimeout(Promise.resolve(exported(get(client).electric, ...fromJson(args))), timeoutMs, name)
  },

  /** Turns downloaded migrations into what a generated migrations module holds. */
  async makeMigrations({ from, dialect = 'sqlite' }) {
    return (await loadMigrations(from, dialect)).migrations
  },

  // ---- end -------------------------------------------------------------------------------------

  async close({ client }) {
    await closeClient(client)
  },

  async exit() {
    for (const name of [...clients.keys()]) await closeClient(name).catch(() => {})
    setTimeout(() => process.exit(0), 10)
  },
}

serve(commands, { onEnd: () => commands.exit() })
event('ready', { electric: packageVersion, node: process.version })
