-- Counters that tell other processes that something changed.

CREATE TABLE tenant_epochs (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind)
) STRICT;

CREATE TABLE installation_epochs (
    kind TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL
) STRICT;
