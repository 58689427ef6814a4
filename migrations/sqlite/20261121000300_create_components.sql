-- Installed components, what they may do, and which one fills a slot.

CREATE TABLE components (
    digest BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    manifest TEXT NOT NULL,
    installed_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX components_by_name ON components (name, installed_ms);

CREATE TABLE operator_grants (
    component TEXT NOT NULL PRIMARY KEY,
    permissions TEXT NOT NULL,
    limits TEXT NOT NULL
) STRICT;

CREATE TABLE default_slots (
    slot TEXT NOT NULL PRIMARY KEY,
    component BLOB NOT NULL REFERENCES components (digest)
) STRICT;

CREATE TABLE tenant_grants (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    component TEXT NOT NULL,
    permissions TEXT NOT NULL,
    limits TEXT NOT NULL,
    PRIMARY KEY (tenant, component)
) STRICT;

CREATE TABLE tenant_slots (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    slot TEXT NOT NULL,
    component BLOB NOT NULL REFERENCES components (digest),
    PRIMARY KEY (tenant, slot)
) STRICT;
