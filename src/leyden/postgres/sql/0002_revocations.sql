-- Tokens refused before their time. Written by `leyden revoke` and the admin interface, or by hand, in force within a
-- second: INSERT INTO leyden.revocations (kind, value) VALUES ('user', 'alice').
CREATE TABLE leyden.revocations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL,
    value         text COLLATE "C",       -- user id, jti or RFC 7638 thumbprint; null = everybody's
    issued_before timestamptz,            -- only tokens up to this second; null = all
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL DEFAULT clock_timestamp() + interval '25 hours',
    CONSTRAINT known_kind CHECK (kind IN ('user', 'jti', 'key', 'all')),
    CONSTRAINT value_fits_kind CHECK ((kind = 'all') = (value IS NULL)),
    CONSTRAINT value_has_fair_length CHECK (octet_length(value) BETWEEN 1 AND 16384),
    CONSTRAINT value_is_thumbprint CHECK (kind <> 'key' OR value ~ '^[A-Za-z0-9_-]{43}$'),
    -- Revoking everybody for good would lock out whoever comes with a new token as well.
    CONSTRAINT issued_before_fits_kind CHECK (CASE kind WHEN 'all' THEN issued_before IS NOT NULL
                                                        WHEN 'user' THEN true
                                                        ELSE issued_before IS NULL END)
);
-- Finds what a new entry adds to. A hash, as values may be longer than a B-tree takes.
CREATE INDEX revocations_value ON leyden.revocations USING hash (value);
-- Finds what can be cleared away.
CREATE INDEX revocations_expires_at ON leyden.revocations (expires_at);
