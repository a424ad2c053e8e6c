"""What one client has subscribed to: which calls it may make, and what it sees with the claims that it holds now.

Part of the session, and as pure: what the world looks like is asked of it at every step, nothing is remembered of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping

from leyden.model import SubscriptionRecord
from leyden.satellite import satellite_pb2 as pb
from leyden.satellite.actions import World
from leyden.shapes.request import (
    Include,
    Select,
    Shape,
    ShapeError,
    ShapeErrorCode,
    ShapeRequest,
    filters_of,
    plan,
    resumed,
    tables_of,
)
from leyden.shapes.view import Part
from leyden.shapes.where import Claims

MAX_SUBSCRIPTION_ID_BYTES = 128
MAX_SUBSCRIPTIONS = 1_000
MAX_SHAPES_PER_SUBSCRIPTION = 100

#: Bytes of all filters of one client. They are understood anew when it comes back, and nobody else is served meanwhile.
MAX_FILTER_BYTES = 65_536

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: The error of an answer to ``subscribe``.
Error = pb.SatSubsResp.SatSubsError


class UnknownSubscriptionError(Exception):
    """The client lists a subscription that it does not have here, or that stands for other rows by now."""


class ShapesRefusedError(Exception):
    """``error`` says of each shape why it cannot be served."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error
        not_found = Error.ShapeReqError.TABLE_NOT_FOUND
        #: Whether it is for a table that may have come since, or be served again.
        self.misses_table = any(one.code == not_found for one in error.shape_request_error)


class Subscriptions:
    """Those of one connection. Who reads, :attr:`claims` and :attr:`role`, may change while it lives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.claims = Claims(None, {})
        #: The database role that the client reads as, if roles are taken.
        self.role: str | None = None
        self._records: dict[str, SubscriptionRecord] = {}
        #: What the client sees for each of them, with the claims that it holds now.
        self._parts: dict[str, frozenset[Part]] = {}

    @property
    def tables(self) -> frozenset[str]:
        """Names of the tables that they concern."""
        return frozenset(
            name for record in self._records.values() for shape in record.shapes for name in tables_of(shape)
        )

    @property
    def parts(self) -> frozenset[Part]:
        """All that the client sees."""
        return frozenset[Part]().union(*self._parts.values())

    def clear(self) -> None:
        self._records.clear()
        self._parts.clear()

    def resume(
        self, ids: Iterable[str], stored: Mapping[str, SubscriptionRecord], reopened: Collection[str], position: int
    ) -> None:
        """The client goes on from ``position`` with the subscriptions ``ids``, as they are ``stored``. Of the tables
        ``reopened`` (by name) something is missing.

        Raises :class:`UnknownSubscriptionError`.
        """
        missing = frozenset(reopened)
        parts_of: dict[str, frozenset[Part]] = {}
        for subscription_id in ids:
            record = stored.get(subscription_id)
            if record is not None and not all(missing.isdisjoint(tables_of(shape)) for shape in record.shapes):
                record = None  # it lacks what happened while a table was suspended
            parts = None if record is None else self._parts_of(record)
            consulted = {table.name for part in parts or () for table in part.consulted.values()}
            if not missing.isdisjoint(consulted):
                parts = None  # nor is it known what was decided about its rows meanwhile
            if not all(self._world.are_answered_since(part.questions, position) for part in parts or ()):
                parts = None  # nor what Postgres would have said about them
            if record is None or parts is None:
                shown = subscription_id if len(subscription_id) <= 128 else subscription_id[:126] + "..."
                raise UnknownSubscriptionError(shown)
            parts_of[record.id] = parts
        self._parts = parts_of
        self._records = {record.id: record for record in stored.values() if record.id in parts_of}

    def are_unchanged(self, *, same_rights: bool) -> bool:
        """Whether they stand for the same rows with the claims and the rights of now."""
        return all(self._is_unchanged(record, same_rights) for record in self._records.values())

    def _is_unchanged(self, record: SubscriptionRecord, same_rights: bool) -> bool:
        before = self._parts[record.id]
        if same_rights and not self._depends_on_claims(record, before):
            return True  # and need not be understood anew
        now = self._parts_of(record)
        return now is not None and now <= before

    def _depends_on_claims(self, record: SubscriptionRecord, parts: Iterable[Part]) -> bool:
        """Whether ``parts``, which are seen for it, may be others with other claims. The record says nothing of
        policies that let all rows through for the claims of now."""
        if any(shape.uses_claims for shape in record.shapes):
            return True
        rules = self._world.rules(self.role)
        return any(rules.are_policed(part.tables.values()) for part in parts)

    def _parts_of(self, record: SubscriptionRecord) -> frozenset[Part] | None:
        """What is seen for a stored subscription; ``None`` if one of its shapes stands for other rows now."""
        tables = self._world.tables
        suspended = self._world.suspended.keys()
        # a table given up since holds nothing; of one that is suspended the client keeps what it has
        shapes = [shape for shape in record.shapes if shape.table in tables and suspended.isdisjoint(tables_of(shape))]
        rules = self._world.rules(self.role)
        parts = [resumed(shape, tables, self.claims, self._world.locale, rules) for shape in shapes]
        known = [part for part in parts if part is not None]
        return frozenset(known) if len(known) == len(parts) else None

    # ---- subscribing ---------------------------------------------------------------------------------------------

    def why_not(self, call: pb.SatSubsReq) -> Error | None:
        """Why ``call`` is refused whatever its shapes are, if it is."""
        subscription_id = call.subscription_id
        request_ids = [shape.request_id for shape in call.shape_requests]
        code = Error.SHAPE_REQUEST_ERROR
        if len(subscription_id.encode("utf-8")) > MAX_SUBSCRIPTION_ID_BYTES:
            message = "ID too long"
        elif subscription_id in self._records:
            code = Error.SUBSCRIPTION_ID_ALREADY_EXISTS
            message = (
                "Cannot establish multiple subscriptions with the same ID. "
                "If you want to change the subscription, you need to unsubscribe first."
            )
        elif not request_ids:
            message = "Subscription must include at least one shape request"
        elif not _UUID.fullmatch(subscription_id):
            message = "Subscription ID should be a valid UUID"
        elif len(set(request_ids)) != len(request_ids):
            message = "Duplicated request ids are not allowed"
        elif len(request_ids) > MAX_SHAPES_PER_SUBSCRIPTION:
            message = f"A subscription has at most {MAX_SHAPES_PER_SUBSCRIPTION} shape requests"
        elif len(self._records) >= MAX_SUBSCRIPTIONS:
            message = f"A client has at most {MAX_SUBSCRIPTIONS} subscriptions"
        elif self._filter_bytes(call) > MAX_FILTER_BYTES:
            message = f"The filters of a client have at most {MAX_FILTER_BYTES} bytes in all"
        else:
            return None
        return Error(code=code, message=message)

    def _filter_bytes(self, call: pb.SatSubsReq) -> int:
        """Of the filters asked for, and of those that the client has."""
        asked = [select for shape in call.shape_requests for select in _shape_request(shape).selects]
        held = [shape for record in self._records.values() for shape in record.shapes]
        texts = itertools.chain(*map(filters_of, asked), *map(filters_of, held))
        return sum(len(where.encode("utf-8")) for where in texts)

    def plan(self, call: pb.SatSubsReq) -> tuple[Shape, ...]:
        """The shapes that ``call`` asks for.

        Raises :class:`ShapesRefusedError`.
        """
        shapes, errors = [], []
        rules = self._world.rules(self.role)
        for shape in call.shape_requests:
            try:
                request = _shape_request(shape)
                self._require_served(request)
                shapes.append(plan(request, self._world.tables, self.claims, self._world.locale, rules))
            except ShapeError as error:
                code = Error.ShapeReqError.Code.Value(error.code.name)
                errors.append(Error.ShapeReqError(code=code, message=error.message, request_id=shape.request_id))
        if errors:
            message = "Could not establish a subscription due to errors on requests"
            raise ShapesRefusedError(Error(code=Error.SHAPE_REQUEST_ERROR, message=message, shape_request_error=errors))
        return tuple(shapes)

    def _require_served(self, request: ShapeRequest) -> None:
        """Raises :class:`ShapeError` when it concerns a table that is suspended."""
        suspended = self._world.suspended
        for name in (one for select in request.selects for one in tables_of(select)):
            if name in suspended:
                reason = f"Table {name} is suspended: {suspended[name].reason}"
                raise ShapeError(ShapeErrorCode.TABLE_NOT_FOUND, reason)

    def add(self, record: SubscriptionRecord, shapes: Iterable[Shape]) -> None:
        self._records[record.id] = record
        self._parts[record.id] = frozenset(shape.part for shape in shapes)

    def remove(self, ids: Iterable[str]) -> frozenset[Part]:
        """Returns what the client does not see any more."""
        before = self.parts
        for subscription_id in ids:
            self._records.pop(subscription_id, None)
            self._parts.pop(subscription_id, None)
        return before - self.parts


def _shape_request(request: pb.SatShapeReq) -> ShapeRequest:
    return ShapeRequest(request.request_id, tuple(map(_select, request.shape_definition.selects)))


def _select(select: pb.SatShapeDef.Select) -> Select:
    return Select(select.tablename, select.where, tuple(map(_include, select.include)))


def _include(relation: pb.SatShapeDef.Relation) -> Include:
    # as deep as the protobuf runtime lets messages be nested
    return Include(tuple(relation.foreign_key), _select(relation.select) if relation.HasField("select") else None)
