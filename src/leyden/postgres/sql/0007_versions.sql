-- Transaction ids begin anew in a cluster that a dump is restored into; versions keep those of their time.
ALTER TABLE leyden.versions DROP CONSTRAINT versions_xid_key;
