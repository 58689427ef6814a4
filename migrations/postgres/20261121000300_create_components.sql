-- Installed components, what they may do, and which one fills a slot.

CREATE TABLE components (
    digest BYTEA NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    installed_ms BIGINT NOT NULL
);

CREATE INDEX components_by_name ON components (name, installed_ms);

CREATE TABLE operator_grants (
    component TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    permissions TEXT COLLATE "C" NOT NULL,
    limits TEXT COLLATE "C" NOT NULL
);

CREATE TABLE default_slots (
    slot TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    component BYTEA NOT NULL REFERENCES components (digest)
);

CREATE TABLE tenant_grants (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    component TEXT COLLATE "C" NOT NULL,
    permissions TEXT COLLATE "C" NOT NULL,
    limits TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, component)
);

CREATE TABLE tenant_slots (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    slot TEXT COLLATE "C" NOT NULL,
    component BYTEA NOT NULL REFERENCES components (digest),
    PRIMARY KEY (tenant, slot)
);

GRANT SELECT ON components TO ambit_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON components TO ambit_operator;

GRANT SELECT ON operator_grants TO ambit_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON operator_grants TO ambit_operator;

GRANT SELECT ON default_slots TO ambit_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON default_slots TO ambit_operator;

ALTER TABLE tenant_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_grants FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant_grants TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_grants TO ambit_app;

ALTER TABLE tenant_slots ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_slots FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant_slots TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_slots TO ambit_app;
