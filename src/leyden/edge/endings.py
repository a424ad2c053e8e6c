"""How connections end: the close code and reason that the client gets, and what the log says."""

from __future__ import annotations

import traceback

import psycopg

from leyden.edge.delivery.asking import QuestionNotAnswered, TooManyQuestions
from leyden.edge.delivery.fanout import TOO_FAR_BEHIND
from leyden.edge.delivery.repairing import RepairInterruptedError
from leyden.events import Emit, UnexpectedError
from leyden.log import OutsideWindow
from leyden.postgres.replication.suspension import TableStrayed


class ConnectionEnded(Exception):
    """The connection must be closed with ``code`` and ``reason``; ``detail`` is for the log."""

    def __init__(self, code: int, reason: str = "", detail: str = "") -> None:
        super().__init__(detail or reason)
        self.code = code
        self.reason = reason
        self.detail = detail


def ending_of(error: BaseException, reason: str, emit: Emit) -> ConnectionEnded:
    """How ``error`` ends a connection. Without an error message: the client reconnects and asks again. Only what nobody
    has thought of gives ``reason``, and is told of."""
    match error:
        case ConnectionEnded():
            return error
        case OutsideWindow():
            return ConnectionEnded(1008, detail=TOO_FAR_BEHIND)
        case TooManyQuestions() | QuestionNotAnswered():
            return ConnectionEnded(1013, detail=f"Postgres is not asked about its policies: {type(error).__name__}")
        case RepairInterruptedError() | TableStrayed():
            # If a table has strayed, it comes back when the service knows as well, and is told.
            return ConnectionEnded(1012, detail=str(error))
        case psycopg.OperationalError():
            return ConnectionEnded(1013, detail=f"the database is not available: {type(error).__name__}")
    trace = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
    emit(UnexpectedError("connection", trace))
    return ConnectionEnded(1011, reason, type(error).__name__)
