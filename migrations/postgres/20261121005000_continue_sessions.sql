-- Sessions that outlive the process that works on them: which process that is, and which sessions another one goes on with when it dies.
-- A node that shares its database with others says that it lives by counting up its beat.

ALTER TABLE sessions ADD COLUMN node TEXT COLLATE "C";
ALTER TABLE sessions ADD COLUMN durable BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN reason TEXT COLLATE "C";
ALTER TABLE sessions ADD COLUMN cancel_ms BIGINT;

CREATE INDEX sessions_durable ON sessions (tenant, principal, session) WHERE durable = 1;

CREATE TABLE nodes (
    node TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    beat BIGINT NOT NULL
);

-- Which session a request with an idempotency key opened, and the digest of that request.
CREATE TABLE session_requests (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    principal TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, principal, idempotency_key)
);

CREATE INDEX session_requests_by_age ON session_requests (created_ms);

GRANT SELECT, INSERT, UPDATE, DELETE ON nodes TO ambit_operator;

ALTER TABLE session_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE session_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON session_requests TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT ON session_requests TO ambit_app;
CREATE POLICY all_rows ON session_requests TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON session_requests TO ambit_operator;
