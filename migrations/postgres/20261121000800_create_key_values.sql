-- What tools keep for a tenant from call to call, and how much of it there is.

CREATE TABLE key_values (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    entry TEXT COLLATE "C" NOT NULL,
    content BYTEA NOT NULL,
    size BIGINT NOT NULL,
    PRIMARY KEY (tenant, entry)
);

CREATE TABLE key_value_usage (
    tenant TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES tenants (tenant) ON DELETE CASCADE,
    size BIGINT NOT NULL
);

ALTER TABLE key_values ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_values FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON key_values TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON key_values TO ambit_app;

ALTER TABLE key_value_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_value_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON key_value_usage TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON key_value_usage TO ambit_app;
