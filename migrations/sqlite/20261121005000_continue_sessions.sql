-- Sessions that outlive the process that works on them: which process that is, and which sessions another one goes on with when it dies.
-- A node that shares its database with others says that it lives by counting up its beat.

ALTER TABLE sessions ADD COLUMN node TEXT;
ALTER TABLE sessions ADD COLUMN durable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN reason TEXT;
ALTER TABLE sessions ADD COLUMN cancel_ms INTEGER;

CREATE INDEX sessions_durable ON sessions (tenant, principal, session) WHERE durable = 1;

CREATE TABLE nodes (
    node TEXT NOT NULL PRIMARY KEY,
    beat INTEGER NOT NULL
) STRICT;

-- Which session a request with an idempotency key opened, and the digest of that request.
CREATE TABLE session_requests (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    principal TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    session TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, idempotency_key)
) STRICT;

CREATE INDEX session_requests_by_age ON session_requests (created_ms);
