-- Anchors of the journal: signed roots, and the trees they are the roots of. A tenant's sessions that began on one day are a partition; its leaves
-- lie in rows of many, in the order in which they were added.

CREATE TABLE partitions (
    tenant TEXT NOT NULL,
    day TEXT NOT NULL,
    leaves INTEGER NOT NULL,
    root BLOB NOT NULL,
    frontier BLOB NOT NULL,
    removed_ms INTEGER,
    emptied_ms INTEGER,
    PRIMARY KEY (tenant, day)
) STRICT;

CREATE INDEX partitions_kept ON partitions (day, tenant) WHERE emptied_ms IS NULL;

CREATE TABLE leaves (
    tenant TEXT NOT NULL,
    day TEXT NOT NULL,
    first INTEGER NOT NULL,
    entries BLOB NOT NULL,
    PRIMARY KEY (tenant, day, first)
) STRICT;

CREATE TABLE anchors (
    number INTEGER NOT NULL PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    note TEXT NOT NULL,
    published_ms INTEGER
) STRICT;

CREATE INDEX anchors_unpublished ON anchors (number) WHERE published_ms IS NULL;
