-- Documents and their passages. Search indexes are built from these and can be built again.

CREATE TABLE collections (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    retrieval BLOB,
    revision INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;

CREATE TABLE documents (
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    document TEXT NOT NULL,
    title TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (tenant, collection, document),
    FOREIGN KEY (tenant, collection) REFERENCES collections (tenant, name) ON DELETE CASCADE
) STRICT;

CREATE TABLE chunks (
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    document TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    anchor TEXT NOT NULL,
    headings TEXT NOT NULL,
    passage TEXT NOT NULL,
    PRIMARY KEY (tenant, collection, document, ordinal),
    FOREIGN KEY (tenant, collection, document) REFERENCES documents (tenant, collection, document) ON DELETE CASCADE
) STRICT;
