-- Who may call: API keys (hash only) and trusted token issuers.

CREATE TABLE api_keys (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    key_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    principal TEXT COLLATE "C" NOT NULL,
    secret_hash BYTEA NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    last_four TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT,
    PRIMARY KEY (tenant, key_id)
);

CREATE TABLE issuers (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    issuer TEXT COLLATE "C" NOT NULL,
    audiences TEXT COLLATE "C" NOT NULL,
    algorithms TEXT COLLATE "C" NOT NULL,
    types TEXT COLLATE "C" NOT NULL,
    leeway_s BIGINT NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    jwks_uri TEXT COLLATE "C",
    jwks TEXT COLLATE "C",
    PRIMARY KEY (tenant, issuer)
);

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON api_keys TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO ambit_app;

ALTER TABLE issuers ENABLE ROW LEVEL SECURITY;
ALTER TABLE issuers FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON issuers TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON issuers TO ambit_app;
