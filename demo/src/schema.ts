// What the client knows about table `todos`, in the form `leyden generate` writes it.
// The Postgres side is src/leyden/demo/schema.sql.
//
// Both migration lists are empty on purpose: the table's definition then arrives over the wire with the first
// connection, so the page needs no rebuild when the server's schema moves on.
import { z } from 'zod'
import { DbSchema, type ElectricClient, type HKT, type TableSchema } from 'electric-sql/client/model'

export type Todo = {
  id: string
  title: string
  done: boolean
  author: string
  created_at: Date
}

type Comparison<V> = V | { equals?: V; not?: V; in?: V[]; notIn?: V[]; lt?: V; lte?: V; gt?: V; gte?: V }
type Where = { [Column in keyof Todo]?: Comparison<Todo[Column]> } & { AND?: Where[]; OR?: Where[]; NOT?: Where[] }
type Unique = { id: string }
type Select = { [Column in keyof Todo]?: boolean }
type OrderBy = { [Column in keyof Todo]?: 'asc' | 'desc' }
// `{}` would accept anything; a table without relations takes no key at all.
type Include = Record<never, never>

interface Payload extends HKT {
  readonly type: Todo
}

// electric-sql 0.12.1 takes these schemas apart when it starts: create, update and find must be ZodObjects whose
// `select` is an optional ZodObject. They let every value through; Postgres judges the data.
const anything = () => z.object({}).passthrough()
const select = anything().optional()

export const tableSchemas = {
  todos: {
    // A Map: 0.12.1 calls .get() and .keys() on it.
    fields: new Map([
      ['id', 'UUID'],
      ['title', 'TEXT'],
      ['done', 'BOOL'],
      ['author', 'TEXT'],
      ['created_at', 'TIMESTAMPTZ'],
    ]),
    relations: [],
    modelSchema: z
      .object({ id: z.string(), title: z.string(), done: z.boolean(), author: z.string(), created_at: z.coerce.date() })
      .partial(),
    createSchema: z.object({ select, data: anything() }),
    createManySchema: z.object({ data: anything().array(), skipDuplicates: z.boolean().optional() }),
    findUniqueSchema: z.object({ select, where: anything() }),
    findSchema: z.object({
      select,
      where: anything().optional(),
      orderBy: z.union([anything(), anything().array()]).optional(),
      take: z.number().optional(),
      skip: z.number().optional(),
      distinct: z.string().array().optional(),
    }),
    updateSchema: z.object({ select, data: anything(), where: anything() }),
    updateManySchema: z.object({ data: anything(), where: anything().optional() }),
    upsertSchema: z.object({ select, where: anything(), create: anything(), update: anything() }),
    deleteSchema: z.object({ select, where: anything() }),
    deleteManySchema: z.object({ where: anything().optional() }),
  } as unknown as TableSchema<
    Todo, Todo, Partial<Todo>, Select, Where, Unique, Include, OrderBy, keyof Todo, Payload
  >,
}

export const schema = new DbSchema(tableSchemas, [], [])
export type Electric = ElectricClient<typeof schema>
