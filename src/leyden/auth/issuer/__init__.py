"""Keys that an issuer publishes: how they are fetched.

From the network inwards: `location`, `resolution`, `addresses` and `fetching` get one document safely.
"""

from .failure import FetchFailed
from .fetching import Fetcher

__all__ = ["FetchFailed", "Fetcher"]
