-- Who may call: API keys (hash only) and trusted token issuers.

CREATE TABLE api_keys (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    principal TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    scopes TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER,
    PRIMARY KEY (tenant, key_id)
) STRICT;

CREATE TABLE issuers (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    audiences TEXT NOT NULL,
    algorithms TEXT NOT NULL,
    types TEXT NOT NULL,
    leeway_s INTEGER NOT NULL,
    scopes TEXT NOT NULL,
    jwks_uri TEXT,
    jwks TEXT,
    PRIMARY KEY (tenant, issuer)
) STRICT;
