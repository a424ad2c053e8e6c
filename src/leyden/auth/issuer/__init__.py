"""Keys that an issuer publishes: where it does so, how they are fetched, and when again.

`source` puts the room together. From the network inwards: `location`, `resolution`, `addresses` and `fetching` get
one document safely; `discovery` finds the key set; `schedule` and `unknown_kids` decide, as pure arithmetic, when it
is read; `issued_keys` keeps the ring.
"""

from .failure import FetchFailed
from .fetching import Fetcher
from .issued_keys import IssuedKeys
from .source import fetch_key_set_once, issued_keys

__all__ = ["FetchFailed", "Fetcher", "IssuedKeys", "fetch_key_set_once", "issued_keys"]
