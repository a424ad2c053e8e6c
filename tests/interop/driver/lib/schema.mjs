// Builds the client's DbSchema at run time from a plain JSON description – no Prisma, no code generation.
//
// {
//   "tables": {
//     "users": {"columns": {"id": "UUID", "name": "TEXT"}, "pk": ["id"]},
//     "items": {"columns": {"id": {"type": "uuid"}, "author_id": "UUID"}, "pk": ["id"],
//               "fks": [{"columns": ["author_id"], "table": "users", "refColumns": ["id"]}]}
//   },
//   "relations": [ {"table","field","from","to","related","name","arity"} ... ]   // optional, replaces derivation from fks
//   "migrations":   [ ... ],   // SQLite; see loadMigrations
//   "pgMigrations": [ ... ]
// }
//
// or {"module": "/path/to/generated/index.ts"} – a generated client module exporting `schema`; TypeScript is
// bundled on the fly (electric-sql and zod stay external, so the module shares this process' instances).
//
// When "tables" is missing it is derived from the SatOpMigrate metadata of the migrations.
import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, rmdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import * as z from 'zod'
import { model, migrations as mig } from './electric.mjs'

const require = createRequire(import.meta.url)
const { DbSchema, Relation } = model

// The types the DAL converts; everything else (enums included) travels as text.
const PG_TYPES = new Set([
  'BOOL', 'INT', 'INT2', 'INT4', 'INT8', 'INTEGER', 'REAL', 'FLOAT4', 'FLOAT8', 'TEXT', 'VARCHAR',
  'CHAR', 'UUID', 'JSON', 'JSONB', 'BYTEA', 'TIMESTAMP', 'TIMESTAMPTZ', 'DATE', 'TIME', 'TIMETZ',
])

const ALIASES = {
  BOOLEAN: 'BOOL', SMALLINT: 'INT2', BIGINT: 'INT8', 'DOUBLE PRECISION': 'FLOAT8',
  'CHARACTER VARYING': 'VARCHAR', BPCHAR: 'CHAR',
  'TIMESTAMP WITH TIME ZONE': 'TIMESTAMPTZ', 'TIMESTAMP WITHOUT TIME ZONE': 'TIMESTAMP',
  'TIME WITH TIME ZONE': 'TIMETZ', 'TIME WITHOUT TIME ZONE': 'TIME',
}

export function pgType(name) {
  const upper = String(name).replace(/\(.*\)$/, '').trim().toUpperCase()
  const t = ALIASES[upper] ?? upper
  return PG_TYPES.has(t) ? t : 'TEXT'
}

// ---- migrations -------------------------------------------------------------------------------

/**
 * Accepts, mixed in one array or alone:
 *   {statements: [...], version}                    ready-made (what a generated migrations.ts holds)
 *   {format:'SatOpMigrate', ops:[base64...], protocol_version, version}   a server metadata.json
 *   {zipPath} | {zipBase64}                         the zip served by /api/migrations
 *   {endpoint: 'http://host:port'}                  fetched like the CLI does it
 */
export async function loadMigrations(spec, dialect = 'sqlite') {
  const builder = dialect === 'sqlite' ? mig.sqliteBuilder : mig.pgBuilder
  const out = { migrations: [], metadata: [] }
  const addMetadata = (json) => {
    const meta = mig.parseMetadata(json)
    out.metadata.push(meta)
    out.migrations.push(mig.makeMigration(meta, builder))
  }
  for (const m of Array.isArray(spec) ? spec : spec ? [spec] : []) {
    if (m.statements) out.migrations.push({ statements: m.statements, version: m.version })
    else if (m.format) addMetadata(m)
    else if (m.zipPath) (await unzip(await readFile(m.zipPath))).forEach(addMetadata)
    else if (m.zipBase64) (await unzip(Buffer.from(m.zipBase64, 'base64'))).forEach(addMetadata)
    else if (m.endpoint) {
      const d = dialect === 'sqlite' ? 'sqlite' : 'postgresql'
      const url = `${m.endpoint}/api/migrations?dialect=${d}` + (m.version ? `&version=${m.version}` : '')
      const res = await fetch(url)
      if (res.status === 204) continue
      if (res.status !== 200) throw new Error(`migrations endpoint answered ${res.status}`)
      ;(await unzip(Buffer.from(await res.arrayBuffer()))).forEach(addMetadata)
    } else throw new Error(`unknown migration entry: ${Object.keys(m)}`)
  }
  return out
}

/** Same unpacker as the CLI; one directory per migration, ordered by name, each with metadata.json. */
async function unzip(buffer) {
  const decompress = require('decompress')
  const files = await decompress(buffer)
  return files
    .filter((f) => /(^|\/)metadata\.json$/.test(f.path))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
    .map((f) => JSON.parse(f.data.toString('utf8')))
}

/** Latest definition of every table mentioned in the migrations' SatOpMigrate ops. */
export function tablesFromMetadata(metadata) {
  const tables = {}
  for (const { ops } of metadata)
    for (const { table } of ops) {
      if (!table) continue
      tables[table.name] = {
        columns: Object.fromEntries(table.columns.map((c) => [c.name, c.pgType?.name ?? 'text'])),
        pk: table.pks,
        fks: table.fks.map((fk) => ({ columns: fk.fkCols, table: fk.pkTable, refColumns: fk.pkCols })),
      }
    }
  return tables
}

// ---- relations --------------------------------------------------------------------------------

/**
 * One outgoing Relation on the referencing table and one incoming on the referenced table, sharing a
 * relation name. Field names follow what `prisma db pull` produces, so `include` keys look familiar:
 *   unique pair        items.users / users.items                      name "ItemsToUsers"
 *   several FKs        items.users_items_author_idTousers / users.items_items_author_idTousers
 *   self reference     t.t / t.other_t
 * Composite foreign keys are left out: the client does not support them.
 */
export function relationsFromFks(tables) {
  const all = []
  for (const [table, def] of Object.entries(tables))
    for (const fk of def.fks ?? [])
      if (fk.columns.length === 1) all.push({ table, from: fk.columns[0], related: fk.table, to: fk.refColumns[0], one: fk.unique === true })
  const cap = (s) => s.charAt(0).toUpperCase() + s.slice(1)
  const out = Object.fromEntries(Object.keys(tables).map((t) => [t, []]))
  for (const r of all) {
    if (!tables[r.related]) continue
    const rivals = all.filter((x) => [x.table, x.related].sort().join() === [r.table, r.related].sort().join())
    let name, outField, inField
    if (rivals.length > 1) {
      name = `${r.table}_${r.from}To${r.related}`
      outField = `${r.related}_${name}`
      inField = `${r.table === r.related ? 'other_' : ''}${r.table}_${name}`
    } else {
      name = [cap(r.table), cap(r.related)].sort().join('To')
      outField = r.related
      inField = r.table === r.related ? `other_${r.table}` : r.table
    }
    out[r.table].push(new Relation(outField, r.from, r.to, r.related, name, 'one'))
    out[r.related].push(new Relation(inField, '', '', r.table, name, r.one ? 'one' : 'many'))
  }
  return out
}

// ---- zod ---------------------------------------------------------------------------------------

/**
 * The DAL needs ten zod schemas per table. What the constructor of 0.12.1's Table really touches:
 *   createSchema/updateSchema  must be ZodObjects; shape.select (and shape.include when present) must be
 *                              an optional ZodObject (`.unwrap().omit({_count: true})` is called on it)
 *   findSchema                 must be a ZodObject with shape.where; its `include` key is picked for sync()
 * The rest only need `.parse()`. These are permissive on purpose: tests want the database and the server
 * to judge the data, not the client's validator.
 */
export function permissiveSchemas(columns) {
  const anyObject = () => z.object({}).passthrough()
  const select = anyObject().optional()
  const include = anyObject().optional()
  const where = anyObject()
  const many = {
    select, include,
    where: where.optional(),
    orderBy: z.any().optional(),
    cursor: z.any().optional(),
    take: z.number().optional(),
    skip: z.number().optional(),
    distinct: z.string().array().optional(),
  }
  return {
    modelSchema: z.object(Object.fromEntries(Object.keys(columns).map((c) => [c, z.any()]))).partial().passthrough(),
    createSchema: z.object({ select, include, data: anyObject() }).strict(),
    createManySchema: z.object({ data: anyObject().array(), skipDuplicates: z.boolean().optional() }).strict(),
    findUniqueSchema: z.object({ select, include, where }).strict(),
    findSchema: z.object(many).strict(),
    updateSchema: z.object({ select, include, data: anyObject(), where }).strict(),
    updateManySchema: z.object({ data: anyObject(), where: where.optional() }).strict(),
    upsertSchema: z.object({ select, include, where, create: anyObject(), update: anyObject() }).strict(),
    deleteSchema: z.object({ select, include, where }).strict(),
    deleteManySchema: z.object({ where: where.optional() }).strict(),
  }
}

// ---- generated modules -------------------------------------------------------------------------

async function importGenerated(path) {
  const { build } = await import('esbuild')
  // below this package, so that bare imports resolve to the pinned versions
  const cache = fileURLToPath(new URL('../.cache/', import.meta.url))
  await mkdir(cache, { recursive: true })
  const out = `${cache}${createHash('sha256').update(`${path} ${Date.now()} ${process.pid}`).digest('hex').slice(0, 16)}.mjs`
  await build({
    entryPoints: [path],
    outfile: out,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['electric-sql', 'electric-sql/*', 'zod'],
    logLevel: 'silent',
  })
  try {
    return await import(pathToFileURL(out).href)
  } finally {
    await rm(out, { force: true })
    await rmdir(cache).catch(() => {}) // another client may be loading its own
  }
}

// ---- all together ------------------------------------------------------------------------------

export async function buildDbSchema(spec = {}) {
  if (spec.module) {
    const { schema } = await importGenerated(spec.module)
    if (!(schema instanceof DbSchema)) throw new Error(`${spec.module} does not export a DbSchema named "schema"`)
    return { schema, tables: schema.tables, versions: schema.migrations.map((m) => m.version) }
  }
  const sqlite = await loadMigrations(spec.migrations, 'sqlite')
  const postgres = await loadMigrations(spec.pgMigrations, 'postgresql')
  const tables = spec.tables ?? tablesFromMetadata(sqlite.metadata.length ? sqlite.metadata : postgres.metadata)

  let relations
  if (spec.relations) {
    relations = Object.fromEntries(Object.keys(tables).map((t) => [t, []]))
    for (const r of spec.relations)
      relations[r.table].push(new Relation(r.field, r.from ?? '', r.to ?? '', r.related, r.name, r.arity ?? 'one'))
  } else relations = relationsFromFks(tables)

  const tableSchemas = {}
  for (const [name, def] of Object.entries(tables)) {
    const columns = Array.isArray(def.columns)
      ? Object.fromEntries(def.columns.map((c) => [c.name, c.type]))
      : Object.fromEntries(Object.entries(def.columns).map(([c, t]) => [c, typeof t === 'string' ? t : t.type]))
    tableSchemas[name] = {
      // 0.12.1 wants a Map here; a plain object (the newer, unreleased format) makes electrify() throw "getFields(...).keys is not a function"
      fields: new Map(Object.entries(columns).map(([c, t]) => [c, pgType(t)])),
      relations: relations[name] ?? [],
      ...permissiveSchemas(columns),
    }
  }
  return {
    schema: new DbSchema(tableSchemas, sqlite.migrations, postgres.migrations),
    tables,
    versions: sqlite.migrations.map((m) => m.version),
  }
}
