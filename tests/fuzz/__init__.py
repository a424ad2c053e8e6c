"""Hostile tokens and keys without end, against `leyden.auth`: run `make fuzz`.

Each case is made from a seed by changing something that is valid, so that it gets past the first check, and each is a
function of that seed alone: a finding names it, and can be had again from that name. What must never happen is in
`tokens`, `pems` and `jwks`; what other libraries say of what we accept, in `elsewhere`.
"""

from . import jwks, pems, tokens

TARGETS = (*tokens.TARGETS, *pems.TARGETS, *jwks.TARGETS)
