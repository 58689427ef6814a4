-- Tenants and the whole host names they own.

CREATE TABLE tenants (
    tenant TEXT NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE host_names (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    host_name TEXT NOT NULL UNIQUE,
    PRIMARY KEY (tenant, host_name)
) STRICT;
