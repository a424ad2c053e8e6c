// The demo's own two HTTP endpoints. Everything else goes through the sync client.

export interface Session {
  token: string
  user: string
  /** a command line that opens the Postgres behind the demo */
  psql: string
  /** unix seconds */
  expires_at: number
}

export interface Person {
  user: string
  client_id: string
  connected_seconds: number
}

/** A token for `name`, or for a name the server makes up. */
export async function requestSession(name: string | null): Promise<Session> {
  return json(
    await fetch('/demo/session', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name }),
      signal: AbortSignal.timeout(5000),
    })
  )
}

export async function connectedPeople(): Promise<Person[]> {
  const { people } = await json<{ people: Person[] }>(
    await fetch('/demo/people', { signal: AbortSignal.timeout(5000) })
  )
  return people
}

async function json<T>(response: Response): Promise<T> {
  if (!response.ok) throw new Error(`${new URL(response.url).pathname} answered ${response.status}`)
  return (await response.json()) as T
}

export type Claims = Record<string, unknown>

/** The claims as the token states them. Only the server can check the signature; this is for showing. */
export function claimsOf(token: string): Claims {
  const payload = token.split('.')[1] ?? ''
  const bytes = Uint8Array.from(atob(payload.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))
  return JSON.parse(new TextDecoder().decode(bytes)) as Claims
}
