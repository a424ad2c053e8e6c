-- Position at which the client is told to drop the rows of a subscription that it gave up; null while it has not. It has
-- dropped them once it comes back from further on. In place of emptying `shapes`.
ALTER TABLE leyden.client_subscriptions ADD COLUMN cancelled_at bigint;
