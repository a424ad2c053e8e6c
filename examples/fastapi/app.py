"""A back end that logs users in and hands them tokens for Leyden, which runs beside it.

    POST /login       user and password for a session cookie
    POST /api/token   a token for whoever the cookie belongs to; renewing one is asking for the next
    POST /logout      ends the user's sessions, and with them every connection to Leyden

Leyden is given the public key, and this program alone holds the private one. See README.md for how to run both.
"""

import hashlib
import hmac
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from leyden.auth import ALGORITHMS, load_private_key, mint_token

#: Seconds. A token that leaks is good for no longer than this.
TOKEN_LIFETIME = 5 * 60
SESSION_LIFETIME = 12 * 3600

COOKIE = "session"
ES256 = ALGORITHMS["ES256"]


@dataclass(frozen=True, slots=True)
class Settings:
    private_key: bytes = field(repr=False)
    """PEM. Leyden has its public half as AUTH_JWT_KEY."""
    audience: str
    """What Leyden has as AUTH_JWT_AUD: our tokens for others are no good there, and the other way round."""
    admin_url: str
    admin_secret: str = field(repr=False)
    """Of a credential with the scope `revoke`, and no more."""
    secure_cookie: bool = True
    """Whether browsers send the cookie over HTTPS alone. Only plain HTTP on localhost is a reason to give that up."""

    @classmethod
    def from_environment(cls) -> Self:
        return cls(
            private_key=Path(os.environ["PRIVATE_KEY_FILE"]).read_bytes(),
            audience=os.environ["AUDIENCE"],
            admin_url=os.environ.get("LEYDEN_ADMIN_URL", "http://127.0.0.1:5134"),
            admin_secret=Path(os.environ["LEYDEN_ADMIN_TOKEN_FILE"]).read_text().strip(),
            secure_cookie=os.environ.get("SECURE_COOKIE") != "no",
        )


# ---- users: in a real app a table -----------------------------------------------------------------------------------


def password_hash(password: str, salt: bytes) -> bytes:
    """Takes 16 MB and some hundredths of a second, for us and for whoever tries passwords."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


class Users:
    """Who may log in. Knows salted hashes alone."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._known: dict[str, tuple[bytes, bytes]] = {}
        for user, password in passwords.items():
            salt = secrets.token_bytes(16)
            self._known[user] = salt, password_hash(password, salt)
        self._nobody = secrets.token_bytes(16), secrets.token_bytes(64)

    def check(self, user: str, password: str) -> bool:
        # an unknown user takes as long as a wrong password: how long it took tells nobody who has an account
        salt, expected = self._known.get(user, self._nobody)
        return hmac.compare_digest(password_hash(password, salt), expected)


class Sessions:
    """Who is logged in, by the cookie's value: random, so nobody can make one up."""

    def __init__(self) -> None:
        self._live: dict[str, tuple[str, float]] = {}
        self._logged_out_at: dict[str, int] = {}

    def begin(self, user: str) -> str:
        cookie = secrets.token_urlsafe(32)
        self._live[cookie] = user, time.time() + SESSION_LIFETIME
        return cookie

    def user_of(self, cookie: str) -> str | None:
        user, ends_at = self._live.get(cookie, (None, 0.0))
        return user if time.time() < ends_at else None

    def end_all(self, user: str) -> int:
        """Ends the user's sessions, on every device; returns the second up to which his tokens are to be refused."""
        self._live = {cookie: session for cookie, session in self._live.items() if session[0] != user}
        self._logged_out_at[user] = now = int(time.time())
        return now

    def next_token_at(self, user: str) -> int:
        """The moment of issue for his next token. A revocation takes in the whole second in which it was made; whoever
        logs in again within that second gets a token of the next one, which Leyden's leeway lets in."""
        return max(int(time.time()), self._logged_out_at.get(user, 0) + 1)


# ---- the app --------------------------------------------------------------------------------------------------------


class Login(BaseModel):
    user: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=256)]


class Token(BaseModel):
    token: str
    expires_in: int
    """Its lifetime in seconds; the page renews it after 80 % of that (docs/renewing-tokens.md)."""


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings.from_environment()
    signing_key = load_private_key(settings.private_key, ES256)
    users = Users({"alice": "wonderland", "bob": "can we fix it"})
    sessions = Sessions()
    leyden = httpx.AsyncClient(
        base_url=settings.admin_url,
        headers={"authorization": f"Bearer {settings.admin_secret}"},
        trust_env=False,  # the secret is for Leyden, not for a proxy that the environment happens to name
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with leyden:
            yield

    app = FastAPI(lifespan=lifespan)

    async def current_user(request: Request) -> str:
        user = sessions.user_of(request.cookies.get(COOKIE, ""))
        if user is None:
            raise HTTPException(401, "not logged in")
        return user

    CurrentUser = Annotated[str, Depends(current_user)]

    @app.post("/login", status_code=204)
    async def login(given: Login, response: Response) -> None:
        # in a thread: it is meant to take its time. A real app also limits attempts.
        if not await run_in_threadpool(users.check, given.user, given.password):
            raise HTTPException(401, "wrong user or password")
        response.set_cookie(
            COOKIE,
            sessions.begin(given.user),
            max_age=SESSION_LIFETIME,
            httponly=True,  # no script can read it
            samesite="strict",  # no other site can use it
            secure=settings.secure_cookie,
        )

    # POST, so that no link and no image on another page asks for one
    @app.post("/api/token")
    async def token(user: CurrentUser, response: Response) -> Token:
        issued_at = sessions.next_token_at(user)
        claims = {
            "sub": user,
            "aud": settings.audience,
            "iat": issued_at,
            "exp": issued_at + TOKEN_LIFETIME,
            "jti": str(uuid.uuid4()),  # names this one token: in Leyden's audit trail, and to revoke it alone
        }
        response.headers["cache-control"] = "no-store"
        return Token(token=mint_token(claims, algorithm=ES256, key=signing_key), expires_in=TOKEN_LIFETIME)

    @app.post("/logout", status_code=204)
    async def logout(user: CurrentUser, response: Response) -> None:
        # first, and whatever happens next: from now on there are no new tokens
        until = sessions.end_all(user)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=settings.secure_cookie)
        try:
            # then the tokens that are out: Leyden refuses them, and ends their connections within a second
            revocation = {"kind": "user", "value": user, "issued_before": until}
            (await leyden.post("/api/admin/revocations", json=revocation)).raise_for_status()
        except httpx.HTTPError:
            minutes = TOKEN_LIFETIME // 60
            raise HTTPException(503, f"logged out here; open connections end within {minutes} minutes") from None

    return app
