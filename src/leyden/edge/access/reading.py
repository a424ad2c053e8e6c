"""What clients may read, kept in force while the service runs.

Owns the wiring between the rights of database roles, which change, and the connections that they concern. While it is
not certain what the rights are, nobody is sent anything; whoever may see other rows now comes back for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from leyden.edge.core import Core, OpenConnection
from leyden.edge.endings import ending_of
from leyden.model import Locale, RightsByRole, Table
from leyden.shapes.rights import Memo, Rules, rules_for

#: Connections looked at between two chances for others to have their turn.
SLICE = 50


class Reading:
    """The rights in force. ``core`` gives the parts that connections share at present, if there are any."""

    def __init__(
        self, namespace: str | None, core: Callable[[], Core | None], *, require_policies: bool = False
    ) -> None:
        self._require_policies = require_policies
        self._namespace = namespace
        self._core = core
        self._rights: RightsByRole = {}
        self._memo: Memo = {}
        self._is_certain = True

    def rules(self, role: str | None, locale: Locale, tables: Mapping[str, Table]) -> Rules:
        return rules_for(
            self._rights,
            role,
            self._namespace,
            locale,
            tables,
            self._memo,
            require_policies=self._require_policies,
        )

    def begin(self, core: Core) -> None:
        """``core`` is new: it sends nothing either while the rights are not certain."""
        if not self._is_certain:
            core.fanout.pause()

    async def change(self, rights: RightsByRole) -> None:
        """From now on these are the rights."""
        self._rights = rights
        self._memo = {}
        core = self._core()
        if core is None:
            return
        core.fanout.pause()
        for number, connection in enumerate(tuple(core.open), 1):
            self._judge(connection, core)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        if self._is_certain:
            core.fanout.resume()

    @staticmethod
    def _judge(connection: OpenConnection, core: Core) -> None:
        """One of which it cannot be told what it may see now is ended, and keeps nobody else waiting."""
        try:
            connection.rights_changed()
        except Exception as error:
            ended = ending_of(error, "Internal server error while sending data", core.emit)
            connection.cut_off(ended.code, ended.reason, ended.detail)

    def doubt(self) -> None:
        """It is not certain that the rights are what they were."""
        self._is_certain = False
        core = self._core()
        if core is not None:
            core.fanout.pause()

    def certainty(self) -> None:
        self._is_certain = True
        core = self._core()
        if core is not None:
            core.fanout.resume()
