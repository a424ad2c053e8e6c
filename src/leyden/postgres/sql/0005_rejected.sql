-- What it takes to apply a refused upload again as its author: when it was written by the client's clock (ms), and in
-- whose name. Claims are texts, because jsonb cannot hold all that JSON can.
ALTER TABLE leyden.rejected
    ADD COLUMN ms bigint,
    ADD COLUMN claims text,
    ADD COLUMN scoped_claims text,   -- null: the claims about the user have no object of their own
    ADD COLUMN role text;            -- null: the service's own

UPDATE leyden.rejected
   SET ms = floor(extract(epoch FROM at) * 1000), claims = json_build_object('sub', user_id)::text;

ALTER TABLE leyden.rejected ALTER COLUMN ms SET NOT NULL, ALTER COLUMN claims SET NOT NULL;
