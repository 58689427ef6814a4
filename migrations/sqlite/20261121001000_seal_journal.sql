-- Bodies of events are sealed. A session's key lies wrapped in its row: without it the content is gone, and the chain still verifies.

ALTER TABLE sessions ADD COLUMN sealed_key BLOB;
ALTER TABLE sessions ADD COLUMN erased_ms INTEGER;

-- What one person said is erased together.
CREATE INDEX sessions_by_principal ON sessions (tenant, principal, session);

CREATE TABLE tenant_keys (
    tenant TEXT NOT NULL PRIMARY KEY,
    wrapped BLOB NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
