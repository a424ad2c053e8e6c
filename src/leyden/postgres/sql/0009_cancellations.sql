-- Numbers the messages that tell a client which rows of the subscriptions it gave up to drop. The client returns the number
-- with its position: at one and the same WAL position it may have dropped them or not.
CREATE SEQUENCE leyden.cancellations;
ALTER TABLE leyden.client_subscriptions ADD COLUMN cancellation bigint NOT NULL DEFAULT 0;   -- 0 while there is none
UPDATE leyden.client_subscriptions SET cancellation = nextval('leyden.cancellations') WHERE cancelled_at IS NOT NULL;
