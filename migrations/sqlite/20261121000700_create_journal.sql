-- Sessions and their hash-chained events. No foreign keys: an append is the hottest write of the installation, and a session is only ever
-- removed whole. A session's head is written when its state changes; while it is open, its last event is its head.

CREATE TABLE sessions (
    tenant TEXT NOT NULL,
    session TEXT NOT NULL,
    agent TEXT NOT NULL,
    principal TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    head_seq INTEGER NOT NULL,
    head_hash BLOB NOT NULL,
    PRIMARY KEY (tenant, session)
) STRICT;

CREATE INDEX sessions_by_state ON sessions (state, updated_ms);

CREATE TABLE events (
    tenant TEXT NOT NULL,
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    header TEXT NOT NULL,
    body BLOB NOT NULL,
    content_hash BLOB NOT NULL,
    previous_hash BLOB NOT NULL,
    PRIMARY KEY (tenant, session, seq)
) STRICT;
