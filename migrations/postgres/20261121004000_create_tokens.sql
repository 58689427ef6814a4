-- Capability tokens that were issued: who has what, until when, and what was revoked. The token itself is nowhere.

CREATE TABLE tokens (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    token TEXT COLLATE "C" NOT NULL,
    parent TEXT COLLATE "C",
    principal TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C",
    agent TEXT COLLATE "C",
    session TEXT COLLATE "C",
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    PRIMARY KEY (tenant, token)
);

CREATE INDEX tokens_revoked ON tokens (tenant, expires_ms) WHERE revoked_ms IS NOT NULL;
CREATE INDEX tokens_expiring ON tokens (expires_ms);

ALTER TABLE tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tokens TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE ON tokens TO ambit_app;
CREATE POLICY all_rows ON tokens TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON tokens TO ambit_operator;
CREATE POLICY all_rows ON budgets TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON budgets TO ambit_operator;
