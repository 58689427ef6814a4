-- What a tenant's agents are and what its guardrail does about a finding.

CREATE TABLE guardrail_rules (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    stage TEXT COLLATE "C" NOT NULL,
    category TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, stage, category)
);

CREATE TABLE agents (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    definition TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

ALTER TABLE guardrail_rules ENABLE ROW LEVEL SECURITY;
ALTER TABLE guardrail_rules FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON guardrail_rules TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON guardrail_rules TO ambit_app;

ALTER TABLE agents ENABLE ROW LEVEL SECURITY;
ALTER TABLE agents FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON agents TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON agents TO ambit_app;
