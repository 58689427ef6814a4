-- Documents and their passages. Search indexes are built from these and can be built again.

CREATE TABLE collections (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    retrieval BYTEA,
    revision BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE documents (
    tenant TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    title TEXT COLLATE "C" NOT NULL,
    content_hash BYTEA NOT NULL,
    attributes TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, collection, document),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
);

CREATE TABLE chunks (
    tenant TEXT COLLATE "C" NOT NULL,
    collection TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    ordinal BIGINT NOT NULL,
    anchor TEXT COLLATE "C" NOT NULL,
    headings TEXT COLLATE "C" NOT NULL,
    passage TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, collection, document, ordinal),
    FOREIGN KEY (tenant, collection, document) REFERENCES documents (tenant, collection, document) ON DELETE CASCADE
);

ALTER TABLE collections ENABLE ROW LEVEL SECURITY;
ALTER TABLE collections FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON collections TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON collections TO ambit_app;

ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON documents TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON documents TO ambit_app;

ALTER TABLE chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON chunks TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON chunks TO ambit_app;
