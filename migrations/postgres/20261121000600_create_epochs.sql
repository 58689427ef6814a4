-- Counters that tell other processes that something changed.

CREATE TABLE tenant_epochs (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    kind TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind)
);

CREATE TABLE installation_epochs (
    kind TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL
);

ALTER TABLE tenant_epochs ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_epochs FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant_epochs TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_epochs TO ambit_app;
CREATE POLICY all_rows ON tenant_epochs TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT ON tenant_epochs TO ambit_operator;

GRANT SELECT ON installation_epochs TO ambit_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON installation_epochs TO ambit_operator;
