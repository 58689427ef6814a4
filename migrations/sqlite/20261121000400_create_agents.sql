-- What a tenant's agents are and what its guardrail does about a finding.

CREATE TABLE guardrail_rules (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    stage TEXT NOT NULL,
    category TEXT NOT NULL,
    action TEXT NOT NULL,
    PRIMARY KEY (tenant, stage, category)
) STRICT;

CREATE TABLE agents (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;
