-- Bodies of events are sealed. A session's key lies wrapped in its row: without it the content is gone, and the chain still verifies.

ALTER TABLE sessions ADD COLUMN sealed_key BYTEA;
ALTER TABLE sessions ADD COLUMN erased_ms BIGINT;

-- What one person said is erased together.
CREATE INDEX sessions_by_principal ON sessions (tenant, principal, session);

CREATE TABLE tenant_keys (
    tenant TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    wrapped BYTEA NOT NULL,
    created_ms BIGINT NOT NULL
);

ALTER TABLE tenant_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant_keys TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT ON tenant_keys TO ambit_app;
CREATE POLICY all_rows ON tenant_keys TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON tenant_keys TO ambit_operator;
