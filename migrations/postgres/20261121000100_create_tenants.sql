-- Tenants and the whole host names they own.

-- Two roles without login and without ownership; logins are their members. A process serves tenants as ambit_app, which sees the rows of
-- current_setting('ambit.tenant') only, and does the operator's work as ambit_operator.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ambit_app') THEN
        CREATE ROLE ambit_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ambit_operator') THEN
        CREATE ROLE ambit_operator NOLOGIN NOSUPERUSER NOBYPASSRLS;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another installation on this server was faster
END
$$;

GRANT SELECT ON _sqlx_migrations TO ambit_app, ambit_operator;

CREATE TABLE tenants (
    tenant TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    slug TEXT COLLATE "C" NOT NULL UNIQUE,
    display_name TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE host_names (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    host_name TEXT COLLATE "C" NOT NULL UNIQUE,
    PRIMARY KEY (tenant, host_name)
);

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenants TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT ON tenants TO ambit_app;
CREATE POLICY all_rows ON tenants TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON tenants TO ambit_operator;

ALTER TABLE host_names ENABLE ROW LEVEL SECURITY;
ALTER TABLE host_names FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON host_names TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT ON host_names TO ambit_app;
CREATE POLICY all_rows ON host_names TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON host_names TO ambit_operator;
