-- A subscription's shapes as they were asked for, in place of the names of their tables: a list of objects with the
-- members table, where (the filter's text) and claims (a digest of the values of the token's claims that it uses).
ALTER TABLE leyden.client_subscriptions ADD COLUMN shapes jsonb NOT NULL DEFAULT '[]';

UPDATE leyden.client_subscriptions
   SET shapes = (SELECT coalesce(jsonb_agg(jsonb_build_object('table', name, 'where', '', 'claims', '') ORDER BY place), '[]')
                   FROM unnest(tables) WITH ORDINALITY AS asked (name, place));

ALTER TABLE leyden.client_subscriptions DROP COLUMN tables;
