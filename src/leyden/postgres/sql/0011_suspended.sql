-- Why a table is suspended, as {reason, remedy}: it is not what clients were told, by DDL that no event trigger saw. Nothing
-- of it is delivered or written until it is again.
ALTER TABLE leyden.tables ADD COLUMN suspended jsonb;
