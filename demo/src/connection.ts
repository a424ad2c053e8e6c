// Keeps the tab online for as long as its user wants that: fetches tokens, connects, asks for the list, and starts
// over after whatever the client does not recover from by itself.
import { SatelliteErrorCode } from 'electric-sql/util'
import { requestSession, type Session } from './server'
import type { Electric } from './schema'

export type State = 'starting' | 'connecting' | 'connected' | 'reconnecting' | 'offline' | 'failed'

const RETRY_MS = 2000
/** a token about to expire is not worth connecting with */
const SPARE_SECONDS = 2

export interface Listener {
  state(state: State): void
  session(session: Session): void
  /** the first copy of the list is complete */
  synced(): void
  trouble(where: string, error: unknown): void
}

export class Connection {
  #wanted = false
  #running = false

  constructor(
    private readonly electric: Electric,
    private readonly user: () => string | null,
    private session: Session | null,
    private readonly listener: Listener
  ) {
    electric.notifier.subscribeToConnectivityStateChanges(({ connectivityState: { status, reason } }) => {
      if (status === 'connected') this.listener.state('connected')
      else if (!this.#wanted) this.listener.state('offline')
      else {
        this.listener.state('reconnecting')
        // After a broken socket the client comes back by itself, with the token it has. Everything else (an expired
        // or refused token above all) ends its attempts and is ours to repair.
        if (reason?.code !== SatelliteErrorCode.SOCKET_ERROR) {
          this.session = null
          void this.#run()
        }
      }
    })
  }

  goOnline(): void {
    this.#wanted = true
    void this.#run()
  }

  goOffline(): void {
    this.#wanted = false
    this.electric.disconnect()
    this.listener.state('offline')
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    let state: State = 'connecting'
    while (this.#wanted) {
      try {
        this.listener.state(state)
        const { token } = await this.#freshSession()
        if (!this.#wanted) break
        await this.electric.connect(token)
        const shape = await this.electric.db.todos.sync()
        // Not awaited: the promise stays open for ever when the connection breaks before the data is complete.
        void shape.synced.then(() => this.listener.synced())
        break
      } catch (error) {
        if (!this.#wanted) break
        this.listener.trouble('connect', error)
        this.session = null
        state = 'reconnecting'
        this.listener.state(state)
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
      }
    }
    this.#running = false
    if (!this.#wanted) this.listener.state('offline')
  }

  async #freshSession(): Promise<Session> {
    if (this.session === null || this.session.expires_at - Date.now() / 1000 < SPARE_SECONDS) {
      this.session = await requestSession(this.user())
      this.listener.session(this.session)
    }
    return this.session
  }
}
