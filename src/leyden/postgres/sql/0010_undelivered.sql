-- Number of the client's call that asked for a subscription, until it is certain that all of its initial data came. A client
-- whose calls have gone on counting from there may still be waiting for the rest of it.
ALTER TABLE leyden.client_subscriptions ADD COLUMN asked_by bigint;

-- Whether that data is too much for one write, so that the client may well have got a part of it and not the rest.
ALTER TABLE leyden.client_subscriptions ADD COLUMN in_parts boolean NOT NULL DEFAULT false;
