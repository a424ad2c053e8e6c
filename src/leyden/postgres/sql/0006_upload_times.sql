-- The latest time, by the client's clock, of the uploads applied. One that comes later is new whatever its LSN: a client
-- whose own database is new, and whose id is not, counts from the beginning again.
ALTER TABLE leyden.client_uploads ADD COLUMN ms bigint NOT NULL DEFAULT 0;

-- Of those applied before, the time is not known.
UPDATE leyden.client_uploads SET ms = 9223372036854775807 WHERE lsn <> '';
