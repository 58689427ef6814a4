-- Capability tokens that were issued: who has what, until when, and what was revoked. The token itself is nowhere.

CREATE TABLE tokens (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    token TEXT NOT NULL,
    parent TEXT,
    principal TEXT NOT NULL,
    key_id TEXT,
    agent TEXT,
    session TEXT,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    PRIMARY KEY (tenant, token)
) STRICT;

CREATE INDEX tokens_revoked ON tokens (tenant, expires_ms) WHERE revoked_ms IS NOT NULL;
CREATE INDEX tokens_expiring ON tokens (expires_ms);
