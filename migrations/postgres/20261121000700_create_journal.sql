-- Sessions and their hash-chained events. No foreign keys: an append is the hottest write of the installation, and a session is only ever
-- removed whole. A session's head is written when its state changes; while it is open, its last event is its head.

CREATE TABLE sessions (
    tenant TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    principal TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    head_seq BIGINT NOT NULL,
    head_hash BYTEA NOT NULL,
    PRIMARY KEY (tenant, session)
);

CREATE INDEX sessions_by_state ON sessions (state, updated_ms);

CREATE TABLE events (
    tenant TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    schema_version BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    time_ms BIGINT NOT NULL,
    header TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    content_hash BYTEA NOT NULL,
    previous_hash BYTEA NOT NULL,
    PRIMARY KEY (tenant, session, seq)
);

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON sessions TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE ON sessions TO ambit_app;
CREATE POLICY all_rows ON sessions TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON sessions TO ambit_operator;

ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON events TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT ON events TO ambit_app;
CREATE POLICY all_rows ON events TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON events TO ambit_operator;
