// Where the client keeps its data: node:sqlite, behind the interface of better-sqlite3 that the stock Node driver
// asks for. So the client's own adapter and electrify() are used, and nothing has to be compiled.
import { DatabaseSync } from 'node:sqlite'
import { electrify } from 'electric-sql/node'

export const engines = ['node:sqlite']

/** -> {db, electrify, close}; `dbPath` may be ':memory:'. */
export async function openEngine(kind, dbPath) {
  if (!engines.includes(kind)) throw new Error(`unknown engine ${kind}; there is ${engines.join(', ')}`)
  const inner = new DatabaseSync(dbPath)
  const db = {
    name: dbPath,
    get inTransaction() {
      return inner.isTransaction
    },
    exec(sql) {
      inner.exec(sql)
      return this
    },
    prepare(sql) {
      const statement = inner.prepare(sql)
      return {
        run: (...args) => statement.run(...args),
        get: (...args) => statement.get(...args),
        // node:sqlite's rows have no prototype; the client calls hasOwnProperty on them
        all: (...args) => statement.all(...args).map((row) => ({ ...row })),
      }
    },
    transaction(work) {
      return (...args) => {
        inner.exec('BEGIN')
        try {
          const result = work(...args)
          inner.exec('COMMIT')
          return result
        } catch (error) {
          inner.exec('ROLLBACK')
          throw error
        }
      }
    },
  }
  return { db, electrify, close: () => inner.close() }
}
