-- Whether the author of uploads may have missed the echoes of some: it began afresh, or came back from before what the log
-- holds. Until it has sent its last upload again, or a later one, it is asked for all that it waits for.
ALTER TABLE leyden.client_uploads ADD COLUMN echo_missed boolean NOT NULL DEFAULT false;
