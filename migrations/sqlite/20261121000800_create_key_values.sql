-- What tools keep for a tenant from call to call, and how much of it there is.

CREATE TABLE key_values (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    entry TEXT NOT NULL,
    content BLOB NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (tenant, entry)
) STRICT;

CREATE TABLE key_value_usage (
    tenant TEXT NOT NULL PRIMARY KEY REFERENCES tenants (tenant) ON DELETE CASCADE,
    size INTEGER NOT NULL
) STRICT;
