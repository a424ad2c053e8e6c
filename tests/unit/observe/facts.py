"""One example of each fact, its texts marked so that a test sees where they end up."""

from __future__ import annotations

from leyden import auth, events
from leyden.events import Event

PEER = events.Peer("203.0.113.7", "https://app.example", "browser/1")
WHO = events.Credentials("alice", "https://issuer.example", "ES256", "k1", "thumb", "t-1", 1_760_000_600)

EXAMPLES: tuple[Event, ...] = (
    events.ServiceReady("http://localhost:5133"),
    events.InsecureModeActive(),
    events.AuthenticationConfigured("secure", ("ES256",), ("thumb",), None, None, None, None),
    events.AuthenticationWarning("weak"),
    events.DatabaseUnavailable("gone", 1.0),
    events.ReplicationStarted("slot", 1),
    events.ReplicationCaughtUp(2, 1),
    events.ReplicationInterrupted("gone", 1.0),
    events.DdlUnguarded("create the event triggers"),
    events.TableSuspended("items", "a column is gone", "undo that"),
    events.TableTakenUp("items"),
    events.MigrationSeen("1"),
    events.TombstonesForgotten(12),
    auth.KeyAdded("AUTH_JWT_JWKS_FILE", "ES256", "k1", "thumb"),
    auth.KeyWithdrawn("AUTH_JWT_JWKS_FILE", "ES256", "k1", "thumb"),
    auth.KeySkipped("AUTH_JWT_JWKS_FILE", "k2", "is too short", leaked=False),
    auth.KeySetRefreshed("https://issuer.example/keys", 2, changed=True, fresh_for=600.0),
    auth.KeySetFailed("https://issuer.example/keys", "status 503", 2.0),
    auth.KeySetStale("https://issuer.example/keys", 86_401.0),
    events.HandshakeDenied(PEER, 403, "Origin"),
    events.RateLimited("203.0.113.7", "failures"),
    events.ProxyNotTrusted("127.0.0.1"),
    events.ClientConnected(7, PEER, "electric.0.12"),
    events.ClientAuthenticated(7, "device-a", PEER, WHO, 0.0002),
    events.TokenRenewed(7, "device-a", PEER, WHO),
    events.ClientRefused(7, "expired", "device-a", PEER, kid="k9"),
    events.SessionEnded(7, "device-a", PEER, WHO, "expired"),
    events.RevocationAdded(3, "user", "alice", 1_760_000_000, 1_760_090_000),
    events.RevocationRemoved(3, "user", "alice"),
    events.RevocationsRead(4, 0.25),
    events.RevocationsUnavailable("gone", 30.0),
    events.ReadingRightsRead(2),
    events.ReadingRightsUnavailable("gone"),
    events.AdminListening("http://127.0.0.1:5134"),
    events.AdminDenied("203.0.113.7", "scope", "ops"),
    events.AdminActed("ops", "127.0.0.1", "sessions.disconnect", "alice"),
    events.ClientDisconnected(7, 1000, ""),
    events.ProtocolViolated(7, "odd"),
    events.ReplicationResumed(7, 1, 1),
    events.ClientRepaired(7, 90, 10, 2, 0.02),
    events.ClientHeld(7, ("s",)),
    events.SubscriptionDelivered(7, "s", 10, 0.02),
    events.SubscriptionProgress(7, "s", 5),
    events.TablesLoaded(("items",), 1_000, 0.5),
    events.QuestionAnswered("items", "rows", 0.01),
    events.QuestionFailed("items", "app_user", "P0001"),
    events.UploadApplied("device-a", 3),
    events.UploadRefused("device-a", "23505"),
    events.UnexpectedError("connection", "trace"),
)
