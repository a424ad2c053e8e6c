"""The one way in which fetching keys fails.

Owns the exception. Its text is for logs: it says what went wrong and quotes nothing that came over the network.
"""

from __future__ import annotations


class FetchFailed(Exception):
    """Keys could not be fetched. `reason` is a sentence without a final stop; `status` is set when it is the HTTP
    status of the answer that was not accepted."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status

    @property
    def gone(self) -> bool:
        """Whether the server says that there is nothing at this URL."""
        return self.status in (404, 410)
