-- Anchors of the journal: signed roots, and the trees they are the roots of. A tenant's sessions that began on one day are a partition; its leaves
-- lie in rows of many, in the order in which they were added.

CREATE TABLE partitions (
    tenant TEXT COLLATE "C" NOT NULL,
    day TEXT COLLATE "C" NOT NULL,
    leaves BIGINT NOT NULL,
    root BYTEA NOT NULL,
    frontier BYTEA NOT NULL,
    removed_ms BIGINT,
    emptied_ms BIGINT,
    PRIMARY KEY (tenant, day)
);

CREATE INDEX partitions_kept ON partitions (day, tenant) WHERE emptied_ms IS NULL;

CREATE TABLE leaves (
    tenant TEXT COLLATE "C" NOT NULL,
    day TEXT COLLATE "C" NOT NULL,
    first BIGINT NOT NULL,
    entries BYTEA NOT NULL,
    PRIMARY KEY (tenant, day, first)
);

CREATE TABLE anchors (
    number BIGINT NOT NULL PRIMARY KEY,
    time_ms BIGINT NOT NULL,
    note TEXT COLLATE "C" NOT NULL,
    published_ms BIGINT
);

CREATE INDEX anchors_unpublished ON anchors (number) WHERE published_ms IS NULL;

ALTER TABLE partitions ENABLE ROW LEVEL SECURITY;
ALTER TABLE partitions FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON partitions TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT ON partitions TO ambit_app;
CREATE POLICY all_rows ON partitions TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON partitions TO ambit_operator;

ALTER TABLE leaves ENABLE ROW LEVEL SECURITY;
ALTER TABLE leaves FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON leaves TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT ON leaves TO ambit_app;
CREATE POLICY all_rows ON leaves TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON leaves TO ambit_operator;

GRANT SELECT, INSERT, UPDATE ON anchors TO ambit_operator;
